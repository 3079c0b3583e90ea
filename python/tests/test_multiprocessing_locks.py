"""The locks of `slotfile.multiprocessing` are those of `multiprocessing`: each test runs on both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from both import context, join, mp  # noqa: F401 (fixtures)
from conftest import HANG, until


def holds(lock: Any, held: Any, go: Any) -> None:
    with lock:
        held.set()
        assert go.wait(HANG)


@pytest.fixture
def held(context: Any) -> Iterator[tuple[Any, Any]]:
    """A value whose lock another process holds, and an event that ends that."""
    value = context.Value("i", 3)
    started, go = context.Event(), context.Event()
    process = context.Process(target=holds, args=(value.get_lock(), started, go))
    process.start()
    assert started.wait(HANG)
    yield value, go
    go.set()
    join(process)


def test_a_lock_keeps_others_out(held: tuple[Any, Any]) -> None:
    value, go = held
    lock = value.get_lock()
    assert lock.acquire(False) is False
    assert lock.acquire(block=False) is False
    assert lock.acquire(True, 0) is False
    assert lock.acquire(True, -1) is False
    begun = time.monotonic()
    assert lock.acquire(timeout=0.2) is False
    assert time.monotonic() - begun >= 0.19
    with pytest.raises(AssertionError, match="not owned by thread"):
        lock.release()
    go.set()
    assert lock.acquire(timeout=HANG) is True
    lock.release()


def test_reading_waits_for_the_lock(held: tuple[Any, Any]) -> None:
    value, go = held
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(value.value))
    reader.start()
    time.sleep(0.1)
    assert seen == []
    go.set()
    reader.join(HANG)
    assert seen == [3]


def test_waiting_lets_other_threads_run_and_ends_with_ctrl_c(held: tuple[Any, Any]) -> None:
    value, _ = held
    counted = 0
    waiting = True

    def interrupt() -> None:
        nonlocal counted
        begun = time.monotonic()
        while time.monotonic() - begun < 0.3:
            counted += 1
        if waiting:
            os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        value.get_lock().acquire()
    waiting = False
    other.join(HANG)
    assert counted > 1000


def test_locks_are_recursive_and_of_their_thread(mp: Any) -> None:
    value = mp.Value("i")
    lock = value.get_lock()
    outcomes: list[object] = []

    def elsewhere() -> None:
        outcomes.append(lock.acquire(False))
        try:
            lock.release()
        except AssertionError as error:
            outcomes.append(str(error))

    with lock, lock, value.get_lock():
        value.value += 1
        assert lock.acquire(False)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(HANG)
        lock.release()
    assert outcomes == [False, "attempt to release recursive lock not owned by thread"]
    thread = threading.Thread(target=lambda: outcomes.append(lock.acquire(False)) or lock.release())
    thread.start()
    thread.join(HANG)
    assert outcomes[2:] == [True]
    with pytest.raises(AssertionError):
        lock.release()


def test_threads_lose_nothing(mp: Any) -> None:
    numbers = mp.Array("i", 2)

    def work() -> None:
        for _ in range(2000):
            with numbers.get_lock():
                numbers[0] += 1
                numbers[1] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert numbers[:] == [8000, -8000]


def test_a_forked_child_does_not_own_its_parents_lock(mp: Any) -> None:
    context = mp.get_context("fork")
    value, tried = context.Value("i"), context.Event()

    def child() -> None:
        lock = value.get_lock()
        with pytest.raises(AssertionError):
            lock.release()
        assert not lock.acquire(False)
        tried.set()
        assert lock.acquire(timeout=HANG)
        value.value += 1
        lock.release()

    process = context.Process(target=child)
    with value.get_lock():
        process.start()
        assert tried.wait(HANG)
        time.sleep(0.05)
        assert value.value == 0
    join(process)
    assert value.value == 1


def wait_for(value: Any, condition: Any, n: int) -> None:
    with condition:
        assert condition.wait_for(lambda: value.value == n, HANG)
        value.value += 1
        condition.notify_all()


def test_a_condition_can_be_made_of_it(context: Any) -> None:
    value = context.Value("i")
    condition = context.Condition(value.get_lock())
    processes = [context.Process(target=wait_for, args=(value, condition, n)) for n in (2, 1)]
    for process in processes:
        process.start()
    with condition, condition:
        value.value = 1
        condition.notify_all()
        assert condition.wait_for(lambda: value.value == 3, HANG)
    join(*processes)


class Counting:
    """A lock of the user's."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def acquire(self, *_: object) -> bool:
        self.calls.append("acquire")
        return True

    def release(self) -> None:
        self.calls.append("release")

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_a_lock_of_the_users_is_taken_for_every_access(mp: Any) -> None:
    lock = Counting()
    value, numbers = mp.Value("i", lock=lock), mp.Array("c", 3, lock=lock)
    for access in (
        lambda: value.value,
        lambda: setattr(value, "value", 5),
        lambda: numbers[0],
        lambda: numbers[:],
        lambda: numbers.__setitem__(0, b"x"),
        lambda: numbers.value,
        lambda: setattr(numbers, "raw", b"abc"),
    ):
        lock.calls.clear()
        access()
        assert lock.calls == ["acquire", "release"]
    lock.calls.clear()
    with pytest.raises(TypeError):
        value.value = "x"
    with pytest.raises(IndexError):
        numbers[3]
    assert lock.calls == ["acquire", "release"] * 2


def test_locks_outlive_their_objects(mp: Any) -> None:
    lock = mp.Value("i").get_lock()
    others = [mp.Value("i") for _ in range(10)]
    with lock:
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.extend(o.acquire(False) for o in others))
        thread.start()
        thread.join(HANG)
    assert done == [True] * 10


def test_views_outlive_their_objects(mp: Any) -> None:
    live = np.frombuffer(mp.Array("i", [1, 2, 3]).get_obj(), dtype=np.int32)
    view = memoryview(mp.Value("d", 2.5).get_obj())
    for _ in range(10):
        mp.Array("i", [7, 8, 9])
        mp.Value("d", 9.5)
    assert live.tolist() == [1, 2, 3]
    assert view.cast("B").cast("d")[0] == 2.5


def test_acquire_takes_any_integer(mp: Any) -> None:
    shared = mp.Value("i")
    for lock in (shared.get_lock(), shared):
        for block in (1, 2, -1, 0, True, False):
            assert lock.acquire(block)
            assert lock.acquire(block, 1.0)
            lock.release()
            lock.release()
        with pytest.raises(TypeError):
            lock.acquire("no", "time")


def test_garbage_may_be_collected_while_a_wrapper_is_made() -> None:
    """The collector traverses what is being made."""
    program = """
import gc
from slotfile.multiprocessing import Array, Value
gc.set_threshold(1)
made = [Value("i", 1) for _ in range(50)] + [Array("c", 5) for _ in range(50)]
made += [Array("d", 3) for _ in range(50)]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=HANG)
