"""Locks: who waits for whom, and what ends a wait."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable

import pytest

import slotfile

from conftest import HANG, in_child, join, python, until


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_lock_makes_one_step_of_several(store: slotfile.Store) -> None:
    value = store.value("x", int)
    array = store.array("a", int, 3)

    def work() -> None:
        for _ in range(300):
            with value.lock():
                value.value += 1
            with array.lock():
                array[1] += 1

    threads = [in_thread(work) for _ in range(4)]
    children = [in_child(work) for _ in range(2)]
    for thread in threads:
        thread.join()
    assert [join(child) for child in children] == [0, 0]
    assert value.value == array[1] == 1800


def test_others_wait_and_the_interpreter_goes_on(path: pathlib.Path) -> None:
    """The waiting thread must let go of the interpreter: the holder needs it to go on."""
    store = slotfile.open(path, lock_timeout=HANG)
    value, array, text = store.value("x", int), store.array("a", int, 3), store.text("t", 9)
    done: list[str] = []
    for slot, work in [
        (value, lambda: value.add(1)),
        (value, lambda: setattr(value, "value", 5)),
        (value, lambda: value.compare_exchange(5, 6)),
        (value, lambda: value.lock().acquire()),
        (array, lambda: array.__setitem__(0, 1)),
        (array, lambda: array.update().__enter__()),
        (array, lambda: array.add(0)),
        (text, lambda: setattr(text, "value", "x")),
    ]:
        with slot.lock():
            thread = in_thread(lambda: done.append(str(work())))
            count = len(done)
            for _ in range(20):
                time.sleep(0.001)
                assert slot.version is not None
            assert len(done) == count, "it did not wait"
        thread.join(HANG)
        assert len(done) == count + 1
    store.close()


def test_a_lock_has_a_time_out(store: slotfile.Store) -> None:
    value = store.value("x", int)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with value.lock():
            held.set()
            let_go.wait(HANG)

    thread = in_thread(hold)
    held.wait(HANG)
    begun = time.monotonic()
    with pytest.raises(slotfile.LockTimeout, match=f"pid {os.getpid()} .*other thread") as caught:
        with value.lock(timeout=0.12):
            pass
    assert 0.12 <= time.monotonic() - begun < HANG
    assert isinstance(caught.value, TimeoutError)
    assert value.lock().acquire(blocking=False) is False
    assert value.lock().acquire(timeout=0.01) is False
    assert value.lock(timeout=0).acquire() is False
    let_go.set()
    thread.join()
    assert value.lock().acquire() is True


def test_a_lock_belongs_to_its_thread(store: slotfile.Store) -> None:
    value = store.value("x", int)
    lock = value.lock()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    with lock:
        with pytest.raises(slotfile.Deadlock):
            lock.acquire()
        with pytest.raises(slotfile.Deadlock):
            value.lock(timeout=None).acquire()
        refused: list[BaseException] = []

        def release() -> None:
            try:
                lock.release()
            except RuntimeError as error:
                refused.append(error)

        in_thread(release).join()
        assert "belongs to the thread" in str(refused[0])
        value.add(1)
    with lock:
        value.add(1)
    assert value.value == 2


def test_a_lock_that_is_dropped_lets_go(store: slotfile.Store) -> None:
    value = store.value("x", int)
    value.lock().acquire()
    thread = in_thread(lambda: value.add(1))
    thread.join(HANG)
    assert value.value == 1
    # Dropped by another thread than its own, it ends with its own.
    box: list[slotfile.Lock] = []
    taken, dropped = threading.Event(), threading.Event()

    def take() -> None:
        lock = value.lock()
        lock.acquire()
        box.append(lock)
        del lock
        taken.set()
        dropped.wait(HANG)

    thread = in_thread(take)
    taken.wait(HANG)
    box.clear()
    assert value.lock().acquire(blocking=False) is False
    dropped.set()
    thread.join()
    with value.lock(timeout=HANG):
        value.add(1)


@pytest.mark.parametrize("what", ["lock", "add", "open"])
def test_row_42_ctrl_c_ends_a_wait(path: pathlib.Path, what: str) -> None:
    store = slotfile.open(path)
    value = store.value("x", int)
    works = {"lock": "x.lock().acquire()", "add": "x.add(1)", "open": "store.value('y', int)"}
    if what == "open":
        pytest.skip("the directory's lock is not to be had by a program")
    child = python(
        f"""
import slotfile, sys
store = slotfile.open(sys.argv[1], lock_timeout=None)
x = store.value("x", int)
print("waits", flush=True)
try:
    {works[what]}
except KeyboardInterrupt:
    print("interrupted")
""",
        path,
    )
    assert child.stdout is not None
    with value.lock():
        assert child.stdout.readline() == "waits\n"
        time.sleep(0.2)
        assert child.poll() is None, "it did not wait"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=HANG)
        assert out == "interrupted\n" and child.returncode == 0, err


def test_row_08_a_stopped_holder_keeps_its_lock(path: pathlib.Path) -> None:
    store = slotfile.open(path, lock_timeout=0.1)
    value = store.value("x", int)
    child = python(
        """
import slotfile, sys
x = slotfile.open(sys.argv[1]).value("x", int)
with x.lock():
    print("held", flush=True)
    sys.stdin.read()
""",
        path,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.send_signal(signal.SIGSTOP)
    with pytest.raises(slotfile.LockTimeout, match=f"pid {child.pid}"):
        value.add(1)
    assert value.value == 0
    child.send_signal(signal.SIGCONT)
    child.communicate()
    until(lambda: value.lock().acquire(blocking=False), "free")


def test_acquire_takes_any_integer_as_threading_does(store: slotfile.Store) -> None:
    lock = store.value("x", int).lock()
    for blocking in (1, 0, -1, True, False):
        assert lock.acquire(blocking)  # type: ignore[arg-type]
        lock.release()
    with pytest.raises(TypeError):
        lock.acquire(None)  # type: ignore[arg-type]
