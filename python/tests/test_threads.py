"""Row 42: many threads at the same objects at once, with the interpreter lock or without one."""

from __future__ import annotations

import asyncio
import functools
import pathlib
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import slotfile
import slotfile._waiting
from slotfile.multiprocessing import Array, Value

from conftest import HANG, run, until

THREADS = 8


@pytest.fixture(autouse=True)
def threads_switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], object], *others: Callable[[], object]) -> None:
    """Runs it in many threads, which begin together, and the others again and again meanwhile."""
    begin, done = threading.Barrier(THREADS + len(others)), threading.Event()
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            begin.wait(HANG)
            work()
        except BaseException as failure:
            failures.append(failure)

    def until_done(work: Callable[[], object]) -> None:
        while not done.is_set():
            work()

    def start(target: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=guarded, args=(target,))
        thread.start()
        return thread

    workers = [start(functools.partial(work, which)) for which in range(THREADS)]
    beside = [start(functools.partial(until_done, other)) for other in others]
    for thread in workers:
        thread.join(HANG)
    done.set()
    for thread in beside:
        thread.join(HANG)
    assert failures == []
    assert not any(thread.is_alive() for thread in workers + beside)


def test_row_42_the_interpreter_lock_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, importing a module that does not say it can do without turns it on."""
    monkeypatch.delenv("PYTHON_GIL", raising=False)
    out = run(
        """
import sys
import slotfile.multiprocessing, slotfile.shared_memory
print(getattr(sys, "_is_gil_enabled", lambda: True)())
"""
    )
    assert out == f"{not sysconfig.get_config_var('Py_GIL_DISABLED')}\n"


def test_row_42_threads_count_by_the_same_handles(store: slotfile.Store) -> None:
    value, array = store.value("v", "uint64"), store.array("a", "int64", (2, 3))
    frame = store.buffer("f", "int64", 4)
    view, times = np.asarray(frame), 3000
    total = THREADS * times

    # Each in a loop of its own, so that the threads meet in the very same step.
    def count(which: int) -> None:
        for _ in range(times):
            value.add(1)
        for _ in range(times):
            value.fetch_add(1)
        for _ in range(times):
            frame.add(0)
        for _ in range(times):
            frame.fetch_add(1, 1)
        for _ in range(times):
            array.add((1, 2), 1)
        for _ in range(times):
            with array.update() as a:
                a[0] += 1

    def look() -> None:
        content = array.load()
        assert (content[0] == content[0, 0]).all()
        assert 0 <= view[0] <= total
        assert repr(value) and list(frame) and store.snapshot(value, array)

    at_once(count, look)
    assert value.value == 2 * total
    assert frame[:].tolist() == [total, total, 0, 0]
    assert array.load().tolist() == [[total] * 3, [0, 0, total]]


def test_row_42_threads_share_a_lock_an_update_and_a_transaction(path: pathlib.Path) -> None:
    """Each such object is of one thread at a time; to the others it is as if it was not held."""
    with slotfile.open(path, lock_timeout=HANG) as store:
        value, array = store.value("v", int), store.array("a", int, 100)
        moved, to = store.value("m", int), store.array("t", int, 10)
        lock, update, transaction = value.lock(), array.update(), store.transaction(moved, to)
        times = 500

        def count(which: int) -> None:
            for _ in range(times):
                with lock:
                    value.value += 1
                with update as a:
                    a += 1
                with transaction as tx:
                    tx[moved] += 1
                    with tx.update(to) as t:
                        t += tx[moved] - t

        def intrude() -> None:
            for attempt in (
                lock.release,
                lambda: update.__exit__(None, None, None),
                lambda: transaction.__exit__(None, None, None),
                lambda: transaction[moved],
                lambda: transaction.__setitem__(moved, -1),
            ):
                with pytest.raises(RuntimeError, match="is not held|belongs to the thread"):
                    attempt()
            in_both: Any = store.snapshot(moved, to)
            assert (in_both[1] == in_both[0]).all()

        at_once(count, intrude)
        assert value.value == moved.value == THREADS * times
        assert (array.load() == THREADS * times).all()


def test_row_42_threads_load_into_parts_of_one_array(store: slotfile.Store) -> None:
    array, whole = store.array("a", int, 1000), np.zeros((THREADS, 1000), int)

    def load(which: int) -> None:
        for _ in range(1000):
            with array.update() as a:
                a += 1
            mine = array.load(out=whole[which])
            assert (mine == mine[0]).all()

    at_once(load)
    assert whole.max() == 1000 * THREADS


def test_row_42_threads_define_open_and_drop(path: pathlib.Path) -> None:
    handed_on: list[Any] = []

    def work(which: int) -> None:
        for i in range(30):
            store = slotfile.open(path)
            value = store.value(f"v{i}", int)
            value.add(1)
            frame = store.buffer(f"f{i}", int, 5)
            frame.fetch_add(1, 1)
            view = np.asarray(frame)
            with value.lock():
                # Dropped by whichever thread it comes to.
                handed_on.append([store, value, frame, view])
            if i % 2:
                store.close()
            if len(handed_on) > THREADS:
                handed_on.pop(0)

    at_once(work)
    handed_on.clear()
    with slotfile.open(path) as store:
        assert [store[f"v{i}"].value for i in range(30)] == [THREADS] * 30
        assert [store[f"f{i}"][1] for i in range(30)] == [THREADS] * 30


def test_row_42_threads_allocate_free_and_lock_shared_objects() -> None:
    counter, numbers = Value("i", 0), Array("q", 10)
    freed: list[Any] = []

    def work(which: int) -> None:
        for i in range(500):
            mine = [Value("i", which), Array("d", [which] * (i % 30 + 1))]
            with counter.get_lock():
                counter.value += 1
            with numbers:
                for at in range(10):
                    numbers[at] += 1
            # Memory that two have at once would show the other's number.
            assert mine[0].value == which and set(mine[1][:]) == {float(which)}
            freed.append(mine)
            if i % 3 == 0:
                freed.clear()

    def look() -> None:
        assert len(set(numbers[:])) == 1

    at_once(work, look)
    assert counter.value == THREADS * 500
    assert numbers[:] == [THREADS * 500] * 10


def test_row_42_threads_share_a_watch(store: slotfile.Store) -> None:
    """Each sees some of the changes; the last one is seen by somebody."""
    value = store.value("v", int)
    watch = store.watch("v", timeout=0.1)
    seen: list[int] = []

    def work(which: int) -> None:
        if which % 2:
            seen.extend(change.content for change in watch)
        else:
            for _ in range(200):
                value.add(1)

    at_once(work)
    seen.extend(change.content for change in watch)
    assert max(seen) == THREADS // 2 * 200
    assert len(seen) == len(set(seen))


def test_row_42_event_loops_in_many_threads(store: slotfile.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    value = store.value("v", int)

    def never(_: int) -> None:
        assert asyncio.run(value.wait_async(lambda v: v < 0, timeout=0.01)) is None

    for _ in range(20):
        monkeypatch.setattr(slotfile._waiting, "_the_watcher", None)
        at_once(never)
    until(lambda: all(thread.name != "slotfile wait" for thread in threading.enumerate()), "no thread is left")
