"""The drop-ins' examples are right, and so are their types."""

from __future__ import annotations

import doctest
import multiprocessing
import pathlib
import subprocess
import sys
from typing import Any

import pytest

import slotfile._native
import slotfile.multiprocessing
import slotfile.shared_memory

DOCUMENTED: list[Any] = [
    slotfile.multiprocessing,
    slotfile.multiprocessing.sharedctypes,
    slotfile.shared_memory,
    slotfile._native.RLock,
    slotfile._native.Synchronized,
    slotfile._native.SynchronizedArray,
    slotfile._native.SynchronizedString,
]


@pytest.mark.parametrize("what", DOCUMENTED, ids=lambda what: what.__name__)
def test_docstrings(what: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Children that are no forks could not import what an example defines.
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", fork)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(what, what.__name__):
        runner.run(test)
    assert runner.failures == 0
    assert runner.tries > 0


def test_everything_public_is_documented() -> None:
    for module in (slotfile.multiprocessing.sharedctypes, slotfile.shared_memory):
        for name in module.__all__:
            assert getattr(module, name).__doc__, name
    for what in DOCUMENTED:
        for name, member in vars(what).items():
            if isinstance(what, type) and not name.startswith("_"):
                assert member.__doc__, f"{what.__name__}.{name}"


def test_the_types(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text(
        """
import ctypes
import slotfile.multiprocessing as mp
from slotfile.multiprocessing import Array, Process, Value
from slotfile.multiprocessing.shared_memory import SharedMemory
from typing import assert_type
v = mp.Value(ctypes.c_int, 5, name="x", store="y")
assert_type(v.value, int)
with v.get_lock():
    v.value += 1
a = Array("d", 10)
a[0] = 1.5
with mp.get_context("spawn").Array(ctypes.c_double, 3, name="z") as b:
    pass
p = Process(target=print, args=(1,))
assert_type(SharedMemory(create=True, size=5).buf, memoryview)
q: "mp.sharedctypes.Synchronized[int]" = v
"""
    )
    (tmp_path / "wrong.py").write_text(
        """
import ctypes
import slotfile.multiprocessing as mp
mp.Value(ctypes.c_int, 5, name=5)
mp.Array(ctypes.c_int, 5.5)
mp.Value(ctypes.c_int, 5).value = "x"
mp.shared_memory.SharedMemory(5)
"""
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    right = subprocess.run([*command, tmp_path / "right.py"], capture_output=True, text=True)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = subprocess.run([*command, tmp_path / "wrong.py"], capture_output=True, text=True)
    assert wrong.stdout.count("error:") == 4, wrong.stdout
