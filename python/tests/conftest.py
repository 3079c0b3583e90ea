"""What the tests share."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

# Importing numpy starts a thread for each processor, which takes long where many do it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell starts what is in its background with this signal ignored, and all that comes of it.
signal.signal(signal.SIGINT, signal.default_int_handler)

import slotfile  # noqa: E402

# Generous: what takes longer hangs.
HANG = 60.0


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "state.slots"


@pytest.fixture
def store(path: pathlib.Path) -> Iterator[slotfile.Store]:
    with slotfile.open(path) as store:
        yield store


def until(holds: Callable[[], object], what: str) -> None:
    """Waits until it holds."""
    limit = time.monotonic() + HANG
    while not holds():
        assert time.monotonic() < limit, f"still not: {what}"
        time.sleep(0.001)


def python(program: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """Starts a program of its own, with its output and errors to be read."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def run(program: str, *arguments: object) -> str:
    """What such a program prints. It must end well."""
    child = python(program, *arguments)
    out, err = child.communicate(timeout=HANG)
    assert child.returncode == 0, err
    assert err == ""
    return out


def in_child(work: Callable[[], object]) -> int:
    """Forks a child that works; returns its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def join(pid: int) -> int:
    """Waits for a child; its exit code, negative if a signal ended it."""
    limit = time.monotonic() + HANG
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        assert time.monotonic() < limit, "the child hangs"
        time.sleep(0.001)
