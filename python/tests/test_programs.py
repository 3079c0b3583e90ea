"""Programs that people come from, and several languages at one store."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

import slotfile

from conftest import HANG, python

fork = multiprocessing.get_context("fork")
# Starting an interpreter takes long: there, fewer do.
METHODS = {"fork": 10, "spawn": 2, "forkserver": 2}


def processes(method: str, work: Callable[..., None], *arguments: object) -> int:
    """Runs ten processes, or as many as the method allows; returns how many."""
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=work, args=arguments) for _ in range(METHODS[method])]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG)
        assert process.exitcode == 0
    return len(processes)


def increment_value(shared_value: slotfile.Value[int]) -> None:
    for _ in range(100):
        with shared_value.lock():
            shared_value.value += 1
        time.sleep(0.0001)


def add_to_value(shared_value: slotfile.Value[int]) -> None:
    for _ in range(100):
        shared_value.add(1)


def increment_array(shared_array: slotfile.Array) -> None:
    for _ in range(100):
        with shared_array.lock():
            for i in range(len(shared_array)):
                shared_array[i] += 1
        time.sleep(0.0001)


def modify_array(array: slotfile.Array) -> None:
    with array.update() as a:
        a += 1


def modify_bytes(array: slotfile.Array) -> None:
    for i in range(len(array)):
        with array.lock():
            array[i] = (array[i] + 1) % 256


@pytest.mark.parametrize("method", METHODS)
def test_ten_processes_add_to_a_value(path: pathlib.Path, method: str) -> None:
    for times in (1, 2):  # the second run goes on from the first
        with slotfile.open(path) as store:
            shared_value = store.value("value", "i", initial=0)
            count = processes(method, increment_value, shared_value)
            count += processes("fork", add_to_value, shared_value)
            assert shared_value.value == 100 * count * times


def test_ten_processes_add_to_an_array(path: pathlib.Path) -> None:
    for times in (1, 2):
        with slotfile.open(path) as store:
            shared_array = store.array("array", "i", 10)
            processes("fork", increment_array, shared_array)
            assert list(shared_array) == [1000 * times] * 10


@pytest.mark.parametrize("method", METHODS)
def test_ten_processes_modify_a_numpy_array(path: pathlib.Path, method: str) -> None:
    for times in (1, 2):
        with slotfile.open(path) as store:
            array = store.array("array", np.int32, (10,))
            count = processes(method, modify_array, array)
            assert list(array) == [count * times] * 10


def test_ten_processes_increment_bytes(path: pathlib.Path) -> None:
    for times in (1, 2):
        with slotfile.open(path) as store:
            array = store.array("bytes", "uint8", 10)
            processes("fork", modify_bytes, array)
            assert list(array) == [10 * times] * 10


def test_children_of_a_fork_share_a_temporary_store() -> None:
    store = slotfile.temporary()
    value = store.value("x", int)
    processes = [fork.Process(target=increment_value, args=(value,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG)
    assert value.value == 300


def test_one_store_three_languages(path: pathlib.Path) -> None:
    """A Rust program, a Python program and the shell update the same slots together."""
    programs = os.environ.get("SLOTFILE_BIN")
    if programs is None:
        pytest.skip("python/tests/run says where the Rust programs are")
    store = slotfile.open(path)
    hits, each = store.value("hits", "uint64"), store.array("each", "int64", 4)
    times = 200
    rust = subprocess.Popen([f"{programs}/examples/together", path, str(100 * times)], stdout=subprocess.PIPE)
    shell = subprocess.Popen(
        [
            "sh",
            "-ec",
            'for i in $(seq "$2"); do "$0" add "$1" hits >/dev/null; '
            'for e in 0 1 2 3; do "$0" add --index $e "$1" each >/dev/null; done; done',
            f"{programs}/slotfile",
            path,
            str(times // 10),
        ]
    )
    other = python(
        """
import slotfile, sys
with slotfile.open(sys.argv[1]) as store:
    hits, each = store.value("hits", "uint64"), store.array("each", "int64", 4)
    for _ in range(int(sys.argv[2])):
        hits.add(1)
        with each.update() as e:
            e += 1
""",
        path,
        20 * times,
    )
    for _ in range(20 * times):
        hits.add(1)
        for i in range(4):
            each.add(i)
    assert other.communicate(timeout=HANG) == ("", "") and other.returncode == 0
    assert rust.communicate(timeout=HANG)[0] and rust.returncode == 0
    assert shell.wait(HANG) == 0
    total = (100 + 20 + 20) * times + times // 10
    assert hits.value == total
    assert list(each) == [total] * 4
    get = [f"{programs}/slotfile", "get", path]
    assert subprocess.check_output([*get, "hits"], text=True) == f"{total}\n"
    assert subprocess.check_output([*get, "each"], text=True).split() == [str(total)] * 4
    store.close()
