"""Where `slotfile.multiprocessing` is more than `multiprocessing`: kills, names, memory."""

from __future__ import annotations

import ctypes
import gc
import os
import pathlib
import pickle
import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import slotfile
import slotfile.multiprocessing as mp
from slotfile.multiprocessing import sharedctypes

from conftest import HANG, in_child, join, run, until

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


# Kills. The standard library's programs hang here.


def hold_for_ever(numbers: Any, ready: Any) -> None:
    with numbers.get_lock():
        with numbers.get_lock():
            numbers[0] += 1
            ready.set()
            signal.pause()


def take_and_time(numbers: Any, ready: Any, took: Any) -> None:
    ready.set()
    with numbers.get_lock():
        took.value = time.monotonic()


def test_a_child_killed_inside_the_lock_holds_up_nobody(context: Any) -> None:
    numbers = context.Array("i", 2)
    rounds = 3 if context.get_start_method() == "fork" else 1
    for _ in range(rounds):
        ready = context.Event()
        victim = context.Process(target=hold_for_ever, args=(numbers, ready), daemon=True)
        victim.start()
        assert ready.wait(HANG)
        assert not numbers.get_lock().acquire(False)
        waits, took = context.Event(), context.RawValue("d")
        other = context.Process(target=take_and_time, args=(numbers, waits, took))
        other.start()
        assert waits.wait(HANG)
        time.sleep(0.05)
        assert took.value == 0
        victim.kill()
        with numbers.get_lock():
            numbers[1] += 1
        victim.join(HANG)
        other.join(HANG)
        assert (victim.exitcode, other.exitcode) == (-signal.SIGKILL, 0)
        assert took.value > 0
    assert numbers[:] == [rounds, rounds]


def test_the_others_get_the_lock_within_50_ms() -> None:
    """From the kill on; the median, as the machine may be busy."""
    context = mp.get_context("fork")
    value, waits = context.Array("i", 2), []
    for _ in range(9):
        ready = context.Event()
        victim = context.Process(target=hold_for_ever, args=(value, ready), daemon=True)
        victim.start()
        assert ready.wait(HANG)
        killed = time.monotonic()
        victim.kill()
        assert value.get_lock().acquire(timeout=HANG)
        waits.append(time.monotonic() - killed)
        value.get_lock().release()
        victim.join(HANG)
    assert statistics.median(waits) < 0.05, waits


def test_even_without_waiting_a_dead_holders_lock_is_free(context: Any) -> None:
    numbers, ready = context.Array("i", 2), context.Event()
    victim = context.Process(target=hold_for_ever, args=(numbers, ready), daemon=True)
    victim.start()
    assert ready.wait(HANG)
    victim.kill()
    victim.join(HANG)
    assert numbers.get_lock().acquire(False)
    numbers.get_lock().release()


def test_a_thread_that_ends_lets_go() -> None:
    value = mp.Value("i")
    thread = threading.Thread(target=value.get_lock().acquire)
    thread.start()
    thread.join(HANG)
    assert value.get_lock().acquire(timeout=HANG)
    with pytest.raises(AssertionError):
        value.get_lock().release()
        value.get_lock().release()


# Names.


def test_it_lasts(path: pathlib.Path) -> None:
    program = """
import sys
from slotfile.multiprocessing import Array, Value
visits = Value("i", 10, name="visits", store=sys.argv[1])
pose = Array("d", [1, 2, 3], name="pose", store=sys.argv[1])
with visits.get_lock():
    visits.value += 1
pose[0] += 0.5
print(visits.value, pose[:])
"""
    assert run(program, path) == "11 [1.5, 2.0, 3.0]\n"
    assert run(program, path) == "12 [2.0, 2.0, 3.0]\n"
    with slotfile.open(path) as store:
        assert sorted(store) == ["pose", "visits"]
        assert store.check().ok


def test_the_environment_names_the_store(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLOTFILE_STORE", raising=False)
    with pytest.raises(ValueError, match="SLOTFILE_STORE"):
        mp.Value("i", name="x")
    with pytest.raises(TypeError, match="name="):
        mp.Value("i", store=path)
    monkeypatch.setenv("SLOTFILE_STORE", str(path))
    mp.RawValue("i", 3, name="x").value += 1
    mp.get_context("spawn").Array("i", 3, name="y")[1] = 5
    assert mp.Value("i", name="x", store=path).value == 4
    assert mp.RawArray("i", [0] * 3, name="y")[:] == [0, 5, 0]
    with slotfile.open(path) as store:
        assert mp.Value("i", name="x", store=store, lock=False).value == 4


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("n", ctypes.c_int)]


@pytest.mark.parametrize(
    "code, of",
    [("i", "i32"), ("L", "u64"), ("b", "i8"), ("f", "f32"), ("c", "u8"), ("u", "u32"),
     (ctypes.c_bool, "bool"), (ctypes.c_double * 3, "f64"), (Point, "u8"), (ctypes.c_int.__ctype_be__, "u8")],
)
def test_the_store_knows_what_it_is(code: Any, of: str, path: pathlib.Path) -> None:
    mp.Array(code, 4, name="x", store=path)
    mp.Array(code, 4, name="x", store=path)
    wrong = next(other for other in "qB" if other != code)
    with pytest.raises(slotfile.TypeMismatch, match=rf"buffer:{of}\["):
        mp.Array(wrong, 5, name="x", store=path)


def test_structures_last(path: pathlib.Path) -> None:
    point = mp.Value(Point, 1.5, 3, name="point", store=path)
    point.x += 1
    again = mp.Value(Point, name="point", store=path)
    again.n += 1
    assert (again.x, point.n) == (2.5, 4)


def test_two_objects_of_one_name_are_one(path: pathlib.Path) -> None:
    first, second = (mp.Value("i", name="x", store=path) for _ in range(2))
    with first.get_lock():
        second.value += 1
        with second:
            first.value += 1
        second.get_lock().acquire()
    thread = threading.Thread(target=lambda: outcomes.append(first.get_lock().acquire(False)))
    outcomes: list[bool] = []
    thread.start()
    thread.join(HANG)
    assert outcomes == [False], "it was acquired twice and let go of once"
    first.get_lock().release()
    assert second.value == 2


def add_one(value: Any) -> None:
    with value.get_lock():
        value.value += 1


def test_named_ones_are_pickled_as_path_and_name(path: pathlib.Path, context: Any) -> None:
    value = mp.Value("i", 5, name="x", store=path)
    numbers = mp.Array("d", [1, 2], name="y", store=path)
    for one in (pickle.loads(pickle.dumps(value)), pickle.loads(pickle.dumps(numbers))):
        assert type(one) in (sharedctypes.Synchronized, sharedctypes.SynchronizedArray)
    assert pickle.loads(pickle.dumps(numbers))[:] == [1, 2]
    lock = pickle.loads(pickle.dumps(value.get_lock()))
    with lock:
        pickle.loads(pickle.dumps(value)).value += 1
    with context.Pool(2) as pool:
        pool.map(add_one, [value] * 10)
    assert value.value == 16


def test_a_store_in_memory_has_no_name_to_be_pickled_by() -> None:
    value = mp.Value("i", name="x", store=slotfile.temporary())
    with pytest.raises(TypeError, match="temporary"):
        pickle.dumps(value)


def test_what_is_read_only_is_refused(path: pathlib.Path) -> None:
    mp.Value("i", 3, name="x", store=path)
    with slotfile.open(path, "r") as store, pytest.raises(slotfile.ReadOnly):
        mp.Value("i", name="x", store=store)


def test_it_outlives_the_store_object(path: pathlib.Path) -> None:
    with slotfile.open(path) as store:
        value = mp.Value("i", 3, name="x", store=store)
    del store
    value.value += 1
    with value.get_lock():
        assert value.value == 4
    with pytest.raises(ValueError):
        slotfile_store = slotfile.open(path)
        slotfile_store.close()
        mp.Value("i", name="x", store=slotfile_store)


def test_one_that_was_removed_can_be_read_and_not_locked(path: pathlib.Path) -> None:
    value = mp.Value("i", 3, name="x", store=path)
    with slotfile.open(path) as store:
        del store["x"]
    assert value.get_obj().value == 3
    with pytest.raises(slotfile.Removed):
        value.get_lock().acquire()
    with pytest.raises(slotfile.Removed):
        value.value
    assert mp.Value("i", 7, name="x", store=path).value == 7


def test_sizes_that_cannot_be(path: pathlib.Path) -> None:
    with pytest.raises(ValueError):
        mp.Array("i", 0, name="x", store=path)
    with slotfile.open(path) as store:
        assert list(store) == []


# Memory without names.


def memory_files() -> set[str]:
    return {
        f"{line.split()[3]} {line.split()[4]}"
        for line in pathlib.Path("/proc/self/maps").read_text().splitlines()
        if "memfd:slotfile" in line
    }


def address(value: Any) -> int:
    return ctypes.addressof(value.get_obj())


def test_freed_memory_is_used_again_and_zero() -> None:
    value = mp.Array("i", range(10))
    there = address(value)
    del value
    again = mp.Array("i", 12)
    assert address(again) == there
    assert again[:] == [0] * 12
    before = len(memory_files())
    for _ in range(3):
        many = [mp.Value("q", i) for i in range(1000)]
        assert [value.value for value in many] == list(range(1000))
        assert len({address(value) for value in many}) == 1000
    assert len(memory_files()) <= before + 1


def test_no_two_objects_share_memory() -> None:
    rng = np.random.default_rng(5)
    kept: list[tuple[Any, int]] = []
    for i in range(400):
        kept.append((mp.RawArray("B", int(rng.integers(1, 3000))), i % 256))
        ctypes.memset(kept[-1][0], i % 256, len(kept[-1][0]))
        if len(kept) > 50:
            kept.pop(int(rng.integers(len(kept))))
    for memory, byte in kept:
        assert set(memory) == {byte}


def test_what_is_large_goes_back_to_the_system() -> None:
    gc.collect()
    before = memory_files()
    large = mp.Array("B", 40 << 20)
    large[-1] = 5
    assert len(memory_files()) == len(before) + 1
    del large
    assert memory_files() == before


def test_a_full_store_is_followed_by_another() -> None:
    many = [mp.Value("i", i) for i in range(40_000)]
    assert sum(value.value for value in many) == sum(range(40_000))
    assert len(memory_files()) >= 3


def test_a_childs_objects_are_its_own() -> None:
    parents = mp.Array("i", [1, 2, 3])
    freed = mp.Value("i", 5)
    there = address(freed)
    del freed

    def child() -> None:
        kept = [mp.Array("i", [7, 8, 9]) for _ in range(10)]
        assert all(numbers[:] == [7, 8, 9] for numbers in kept)
        assert parents[:] == [1, 2, 3]
        parents[0] = 4

    pid = in_child(child)
    mine = [mp.Array("i", [4, 5, 6]) for _ in range(10)]
    assert join(pid) == 0
    assert all(numbers[:] == [4, 5, 6] for numbers in mine)
    assert there in map(address, mine)
    assert parents[:] == [4, 2, 3]


def test_a_child_frees_nothing_of_its_parents() -> None:
    numbers = mp.Array("i", [1, 2, 3])

    def child() -> None:
        nonlocal numbers
        there = address(numbers)
        del numbers
        gc.collect()
        kept = [mp.Array("i", [9, 9, 9]) for _ in range(100)]
        assert there not in map(address, kept)

    assert join(in_child(child)) == 0
    assert numbers[:] == [1, 2, 3]


def test_memory_whose_lock_a_child_has_is_not_used_again() -> None:
    context = mp.get_context("fork")
    numbers, ready = context.Array("i", 2), context.Event()
    there = address(numbers)
    victim = context.Process(target=hold_for_ever, args=(numbers, ready), daemon=True)
    victim.start()
    assert ready.wait(HANG)
    del numbers
    assert there not in [address(mp.Array("i", 2)) for _ in range(3)]
    victim.kill()
    victim.join(HANG)
    assert there in map(address, [mp.Array("i", 2) for _ in range(10)])


def test_a_lock_that_is_lost_is_let_go() -> None:
    numbers = mp.Array("i", 2)
    there = address(numbers)
    numbers.get_lock().acquire()
    del numbers
    again = mp.Array("i", 2)
    assert address(again) == there
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(again.get_lock().acquire(False)))
    thread.start()
    thread.join(HANG)
    assert done == [True]


@pytest.mark.parametrize("method", METHODS)
def test_row_11_a_child_goes_on_when_its_parent_is_killed(method: str, tmp_path: pathlib.Path) -> None:
    """It has the memory still, and gets the lock that its parent had."""
    (tmp_path / "program.py").write_text(
        f"""
import os, signal, sys
import slotfile.multiprocessing as mp
def work(numbers, waits, out):
    assert not numbers.get_lock().acquire(False)
    waits.set()
    with numbers.get_lock():
        numbers[0] += 1
        with open(out, "w") as file:
            print(numbers[:], file=file)
    os._exit(0)
if __name__ == "__main__":
    context = mp.get_context("{method}")
    numbers, waits = context.Array("i", [1, 2, 3]), context.Event()
    process = context.Process(target=work, args=(numbers, waits, sys.argv[1] + ".new"))
    with numbers.get_lock():
        process.start()
        waits.wait()
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    out = tmp_path / "out"
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py", out], stderr=subprocess.DEVNULL)
    assert parent.wait(HANG) == -signal.SIGKILL
    written = tmp_path / "out.new"
    until(lambda: written.exists() and written.read_text() == "[2, 2, 3]\n", "the child has the lock")


def test_interpreters_end_while_a_thread_waits() -> None:
    program = """
import threading, time
from slotfile.multiprocessing import Value
value = Value("i")
threading.Thread(target=value.get_lock().acquire, daemon=True).start()
time.sleep(0.1)
def wait():
    with value.get_lock():
        pass
threading.Thread(target=wait, daemon=True).start()
time.sleep(0.1)
print("end")
"""
    assert run(program) == "end\n"


class Inner(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int), ("text", ctypes.c_char_p)]


class Outer(Inner):
    _fields_ = [("more", ctypes.c_int * 3)]


class Either(ctypes.Union):
    _fields_ = [("number", ctypes.c_long), ("parts", Inner * 2)]


@pytest.mark.parametrize(
    "type_",
    [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_wchar_p,
        ctypes.py_object,
        ctypes.POINTER(ctypes.c_int),
        ctypes.CFUNCTYPE(ctypes.c_int),
        Inner,
        Outer,
        Either,
        ctypes.c_char_p * 2,
    ],
)
def test_addresses_are_not_kept(path: pathlib.Path, type_: Any) -> None:
    for make in (mp.RawValue, mp.Value):
        with pytest.raises(TypeError, match="'x' cannot have a .*address"):
            make(type_, name="x", store=path)
    with pytest.raises(TypeError, match="address"):
        mp.Array(type_, 3, name="x", store=path)
    mp.RawValue(type_)  # without a name it does not last
    assert not path.exists()
