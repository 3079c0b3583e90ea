"""The standard library's module and ours, side by side: fixtures for tests that run on both."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest

import slotfile.multiprocessing

from conftest import HANG

MODULES = [multiprocessing, slotfile.multiprocessing]
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=MODULES, ids=["standard", "slotfile"])
def mp(request: pytest.FixtureRequest) -> Any:
    return request.param


# That the tests hold for the standard library's other methods too, the long form shows.
CONTEXTS = [("standard", method) for method in (METHODS if "SLOTFILE_LONG" in os.environ else ["fork"])]
CONTEXTS += [("slotfile", method) for method in METHODS]


@pytest.fixture(params=CONTEXTS, ids="-".join)
def context(request: pytest.FixtureRequest) -> Any:
    name, method = request.param
    return MODULES[name == "slotfile"].get_context(method)


def join(*processes: Any) -> None:
    for process in processes:
        process.join(HANG)
        assert process.exitcode == 0
