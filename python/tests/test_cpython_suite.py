"""CPython's own tests of these parts, on ours in place of the standard library's."""

from __future__ import annotations

import importlib
import multiprocessing.shared_memory
import unittest
from typing import Any

import pytest

import slotfile.multiprocessing
import slotfile.shared_memory

try:
    suite: Any = importlib.import_module("test._test_multiprocessing")
except ImportError:  # some distributions leave it out
    pytest.skip("CPython's tests are not installed", allow_module_level=True)

# What the tests look up by these names.
suite.Value = slotfile.multiprocessing.Value
suite.copy = slotfile.multiprocessing.sharedctypes.copy
suite.shared_memory = slotfile.shared_memory
for name in ("_make_filename", "_SHM_NAME_PREFIX", "_USE_POSIX"):
    setattr(slotfile.shared_memory, name, getattr(multiprocessing.shared_memory, name))

TESTED = {
    "fork": ["_TestValue", "_TestArray", "_TestSharedCTypes", "_TestSharedMemory"],
    "spawn": ["_TestValue", "_TestArray", "_TestSharedCTypes"],
    "forkserver": ["_TestValue", "_TestArray", "_TestSharedCTypes"],
}
# Not ours: the manager is the standard library's own; and nothing of ours is tracked, nor
# deleted when the process ends that created it.
OTHERS = ("SharedMemoryManager", "SharedMemoryServer", "tracking", "cleaned_after_process_termination")


def ours(base: type, method: str) -> type:
    context = slotfile.multiprocessing.get_context(method)
    names = ("Process", "Lock", "Value", "Array", "RawValue", "RawArray")
    members = {name: getattr(context, name) for name in names}
    left_out = {name: None for name in dir(base) if any(other in name for other in OTHERS)}
    return type(
        f"{base.__name__}_{method}",
        (base, unittest.TestCase),
        {"TYPE": "processes", "__module__": __name__, **members, **left_out},
    )


for method, classes in TESTED.items():
    for name in classes:
        made = ours(getattr(suite, name), method)
        globals()[made.__name__] = made
del made
