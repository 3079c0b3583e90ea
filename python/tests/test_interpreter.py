"""Row 42: what the interpreter does to handles: collection, threads, forks, its own end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import slotfile

from conftest import HANG, in_child, join, python, run, until


def test_row_42_handles_are_collected_in_any_order(path: pathlib.Path) -> None:
    for order in itertools.permutations(range(6)):
        store = slotfile.open(path)
        value, array, frame = store.value("v", int), store.array("a", int, 3), store.buffer("f", int, 3)
        lock = value.lock()
        lock.acquire()
        view = np.asarray(frame)
        things = [store, value, array, frame, lock, view]
        del store, value, array, frame, lock, view
        for at in order:
            things[at] = None  # type: ignore[call-overload]
        with slotfile.open(path) as again:
            with again["v"].lock(timeout=HANG):
                again["v"].add(1)


def test_row_42_handles_in_cycles_are_collected(path: pathlib.Path) -> None:
    class Holder:
        pass

    holder = Holder()
    holder.store = slotfile.open(path)  # type: ignore[attr-defined]
    holder.value = holder.store.value("x", int)  # type: ignore[attr-defined]
    holder.me = holder  # type: ignore[attr-defined]
    gone = weakref.ref(holder.value)  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert gone() is None


def test_row_42_many_threads_use_the_same_handles(store: slotfile.Store) -> None:
    value, array = store.value("x", "uint64"), store.array("a", "int64", 100)
    frame, text = store.buffer("f", "uint32", 8), store.text("t", 100)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(300):
                value.add(1)
                with array.update() as a:
                    a += 1
                content = array.load()
                assert (content == content[0]).all()
                frame.fetch_add(i % 8, 1)
                text.value = str(seed) * 50
                assert len(set(text.value)) == 1
                assert pickle.loads(pickle.dumps(value)).value > 0
                with value.lock():
                    value.value += 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert value.value == 4800 and array[0] == 2400 and sum(frame) == 2400


def test_row_42_closing_while_others_use_it(path: pathlib.Path) -> None:
    for _ in range(20):
        store = slotfile.open(path)
        value, array = store.value("x", int), store.array("a", int, 1000)
        ended: list[str] = []

        def work() -> None:
            try:
                while True:
                    value.add(1)
                    array.load()
            except ValueError as error:
                ended.append(str(error))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        store.close()
        for thread in threads:
            thread.join(HANG)
        assert len(ended) == 3 and all("closed" in text for text in ended)


def test_row_42_a_fork_in_a_threaded_program(path: pathlib.Path) -> None:
    store = slotfile.open(path)
    value, array = store.value("x", "uint64"), store.array("a", "int64", 10)
    stop = threading.Event()
    done = [0, 0, 0]

    def work(which: int) -> None:
        while not stop.is_set():
            value.add(1)
            with array.lock():
                array[0] += 1
            done[which] += 1

    threads = [threading.Thread(target=work, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()

    def child() -> None:
        for _ in range(20):
            value.add(1)
            with array.update() as a:
                a[0] += 1
        store.sync()
        store.close()

    children = [in_child(child) for _ in range(8)]
    codes = [join(pid) for pid in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8
    assert value.value == array[0] == sum(done) + 160
    store.close()


def test_row_11_a_lock_does_not_cross_a_fork(store: slotfile.Store) -> None:
    value, array = store.value("x", int), store.array("a", int, 3)

    def child() -> None:
        # The parent's lock is not the child's, nor is its update.
        assert value.lock().acquire(blocking=False) is False
        try:
            update.__exit__(None, None, None)
        except slotfile.Evicted:
            pass
        else:
            raise AssertionError("the child committed its parent's update")
        lock.release()
        assert value.lock().acquire(blocking=False) is False

    update = array.update()
    lock = value.lock()
    with lock:
        p = update.__enter__()
        p[:] = 7
        assert join(in_child(child)) == 0
        assert array[0] == 0
        update.__exit__(None, None, None)
        assert array[0] == 7
        value.add(1)


def test_row_42_the_sync_thread_is_not_there_during_a_fork(path: pathlib.Path) -> None:
    """CPython warns of a fork in a process with threads, from 3.12 on."""
    run(
        """
import os, sys, time
counts = []
def count():
    # A thread that has been joined stands there a moment longer: the kernel
    # wakes who joins it before it takes it off the list.
    end = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
        pass
    counts.append(len(os.listdir("/proc/self/task")))
# Of those that run before a fork, the first one registered is the last.
os.register_at_fork(before=count)
import slotfile
store = slotfile.open(sys.argv[1], sync_every=0.01)
x = store.value("x", int)
for _ in range(20):
    x.add(1)
    assert len(os.listdir("/proc/self/task")) == 2, "there is no thread that syncs"
    pid = os.fork()
    if pid == 0:
        x.add(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert counts == [1] * 20, counts
assert x.value == 40
x.add(1)
""",
        path,
    )


def test_row_42_a_parent_that_only_forks_syncs_what_its_children_write(path: pathlib.Path) -> None:
    """Its own next write must not be needed: it may never write again."""
    run(
        """
import os, signal, sys, time
import slotfile
store = slotfile.open(sys.argv[1], sync_every=0.05)
x = store.value("x", int)
x.add(1)
pid = os.fork()
if pid == 0:
    x.add(1000)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
end = time.monotonic() + 20
while store.info().unsynced and time.monotonic() < end:
    time.sleep(0.02)
assert x.value == 1001
assert store.info().unsynced == 0, "the parent does not sync"
""",
        path,
    )


@pytest.mark.parametrize("daemon", [True, False])
@pytest.mark.parametrize(
    "wait",
    ["x.wait_for_change(timeout=T)", "x.wait_until(lambda x: x > 9, timeout=T)", "x.lock(timeout=T).acquire()", "x.add(1)"],
)
def test_row_42_the_interpreter_ends_while_a_thread_waits(path: pathlib.Path, daemon: bool, wait: str) -> None:
    with slotfile.open(path) as store:
        store.value("x", int)
    timeout = "None" if daemon else "0.5"
    child = python(
        f"""
import slotfile, sys, threading, time
store = slotfile.open(sys.argv[1], lock_timeout={timeout})
x, T = store.value("x", int), {timeout}
lock = x.lock()
lock.acquire()
def work():
    try:
        {wait}
    except slotfile.LockTimeout:
        pass
for _ in range(3):
    threading.Thread(target=work, daemon={daemon}).start()
time.sleep(0.1)
""",
        path,
    )
    out, err = child.communicate(timeout=HANG)
    assert (child.returncode, out, err) == (0, "", "")


def test_row_42_sub_interpreters_are_refused(path: pathlib.Path) -> None:
    out = run(
        """
import slotfile
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
try:
    created = interpreters.create("legacy") if hasattr(interpreters, "new_config") else interpreters.create()
    failed = interpreters.run_string(created, "import slotfile")
    print("refused: ImportError" if failed else "imported")
except Exception as error:
    print("refused:", error)
interpreters.destroy(created)
"""
    )
    assert out.startswith("refused:") and "ImportError" in out, out


def test_row_42_ctrl_c_ends_waiting_for_a_change(path: pathlib.Path) -> None:
    for wait in ("x.wait_for_change()", "x.wait_until(lambda x: x > 10)"):
        child = python(
            f"""
import slotfile, sys
x = slotfile.open(sys.argv[1]).value("x", int)
print("waits", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    print("interrupted")
""",
            path,
        )
        assert child.stdout is not None and child.stdout.readline() == "waits\n"
        time.sleep(0.2)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=HANG)
        assert (out, child.returncode) == ("interrupted\n", 0), err


def test_waiting_lets_other_threads_run_and_sees_other_processes(store: slotfile.Store) -> None:
    value = store.value("x", int)
    pid = in_child(lambda: [value.add(1) for _ in range(1000)] and None)
    assert value.wait_until(lambda x: x >= 1000, timeout=HANG) == 1000
    assert join(pid) == 0
    begun = time.monotonic()
    assert value.wait_until(lambda x: x > 1000, timeout=0.1) is None
    assert value.wait_for_change(timeout=0.1) is None
    assert time.monotonic() - begun >= 0.2
    _, seen = value.load_versioned()
    value.add(1)
    assert value.wait_for_change(seen, 0) == value.version
    threading.Timer(0.05, lambda: value.add(1)).start()
    assert value.wait_until(lambda x: x == 1002, timeout=HANG) == 1002
    with pytest.raises(ZeroDivisionError):
        value.wait_until(lambda x: 1 / 0)
    threading.Timer(0.05, lambda: store.__delitem__("x")).start()
    with pytest.raises(slotfile.Removed):
        value.wait_for_change(timeout=HANG)
    array = store.array("a", int, 3)
    threading.Timer(0.05, lambda: array.store(5)).start()
    found = array.wait_until(lambda a: a.sum() == 15, timeout=HANG)
    assert found is not None and found.tolist() == [5, 5, 5]


def test_watching(store: slotfile.Store) -> None:
    a, frame = store.value("arm/a", int, initial=5), store.buffer("arm/frame", "uint8", 2)
    store.value("leg", int)
    assert sorted(change.name for change in store.watch("arm/*", timeout=0, present=True)) == ["arm/a", "arm/frame"]
    watch = store.watch("arm/*", timeout=HANG)
    store["leg"].add(1)
    a.add(1)
    assert next(watch) == ("arm/a", 1, 6, False)
    frame[1] = 7
    frame.notify()
    change = next(watch)
    assert (change.name, change.content.tolist()) == ("arm/frame", [0, 7])
    pid = in_child(lambda: store.text("arm/new", 9, "text"))
    assert next(watch) == ("arm/new", 0, "text", False)
    assert join(pid) == 0
    assert list(store.watch(timeout=0.02)) == []
    with pytest.raises(slotfile.Invalid):
        store.watch("[")
    threading.Timer(0.05, store.close).start()
    with pytest.raises(ValueError, match="closed"):
        next(watch)


def test_row_42_a_fork_while_a_thread_watches(store: slotfile.Store) -> None:
    """What the thread had locked, nobody lets go of in the child."""
    value = store.value("x", int)
    watch = store.watch(timeout=0.3)
    thread = threading.Thread(target=lambda: [None for _ in watch])
    thread.start()
    time.sleep(0.1)

    def ends_in_time() -> None:
        assert list(watch) == []
        value.add(1)
        assert [change.name for change in store.watch(present=True, timeout=0)] == ["x"]

    assert join(in_child(ends_in_time)) == 0
    thread.join()


def test_asyncio(store: slotfile.Store) -> None:
    a, b = store.value("a", int), store.text("b", 20)

    async def main() -> None:
        waits = [asyncio.create_task(a.wait_async(lambda x: x >= n)) for n in range(1, 40)]
        texts = asyncio.create_task(b.wait_async(lambda text: text == "go", timeout=HANG))
        never = asyncio.create_task(a.wait_async(lambda x: x > 1000))
        assert await a.wait_async(lambda x: x > 1000, timeout=0.05) is None
        pid = in_child(lambda: [a.add(1) for _ in range(39)] and setattr(b, "value", "go"))
        found = await asyncio.wait_for(asyncio.gather(*waits), HANG)
        assert [x >= n for n, x in enumerate(found, 1)] == [True] * 39
        assert await texts == "go"
        assert join(pid) == 0
        assert not never.done()
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never
        removed = asyncio.create_task(a.wait_async(lambda x: x < 0))
        await asyncio.sleep(0.05)
        del store["a"]
        with pytest.raises(slotfile.Removed):
            await asyncio.wait_for(removed, HANG)
        closed = asyncio.create_task(b.wait_async(lambda text: text == "never"))
        await asyncio.sleep(0.05)
        store.close()
        with pytest.raises(ValueError, match="closed"):
            await asyncio.wait_for(closed, HANG)

    asyncio.run(main())
    until(lambda: all(thread.name != "slotfile wait" for thread in threading.enumerate()), "no thread is left")


def test_asyncio_syncs(path: pathlib.Path) -> None:
    with slotfile.open(path, sync_every=None) as store:
        x = store.value("x", int)

        def epoch() -> int:
            last = store.info().last_sync
            return last.epoch if last else 0

        async def task() -> None:
            for _ in range(2):
                x.add(1)
                await store.sync_async()

        async def main() -> None:
            await asyncio.wait_for(asyncio.gather(*(task() for _ in range(1000))), HANG)

        before = epoch()
        asyncio.run(main())
        assert epoch() - before < 500
        assert store.info().unsynced == 0

        async def cancelled() -> None:
            waiting = asyncio.create_task(store.sync_async())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            x.add(1)
            await asyncio.wait_for(store.sync_async(), HANG)

        asyncio.run(cancelled())
        assert store.info().unsynced == 0
        # A forked child has its own thread.
        pid = in_child(lambda: asyncio.run(main()))
        assert join(pid) == 0
        assert x.value == 4001
    no_threads_are_left()


def no_threads_are_left() -> None:
    until(lambda: all(thread.name != "slotfile tasks" for thread in threading.enumerate()), "no thread is left")


def test_errors_of_asyncio_syncs(path: pathlib.Path) -> None:
    async def main(store: slotfile.Store) -> list[BaseException | None]:
        return await asyncio.gather(*(store.sync_async() for _ in range(10)), return_exceptions=True)

    with slotfile.open(path) as store:
        assert asyncio.run(main(store)) == [None] * 10
    closed = asyncio.run(main(store))
    assert all(isinstance(error, ValueError) and "closed" in str(error) for error in closed)
    with slotfile.open(path, "r") as reader:
        errors = asyncio.run(main(reader))
    assert len(set(map(id, errors))) == 10
    for error in errors:
        assert isinstance(error, slotfile.ReadOnly) and str(path) in str(error)
        assert error.__dict__ == errors[0].__dict__
    no_threads_are_left()


def test_an_error_of_the_condition_is_no_end_of_the_time(store: slotfile.Store) -> None:
    x = store.value("x", int)

    def condition(_: int) -> bool:
        raise TimeoutError("its own")

    for timeout in (None, HANG):
        with pytest.raises(TimeoutError, match="its own"):
            asyncio.run(x.wait_async(condition, timeout=timeout))
        with pytest.raises(TimeoutError, match="its own"):
            x.wait_until(condition, timeout=timeout)
    for wait in (x.wait_until, lambda *args: asyncio.run(x.wait_async(*args))):
        with pytest.raises(ValueError, match="number of seconds"):
            wait(lambda _: False, float("nan"))


def test_a_wait_after_one_whose_thread_could_not_be_had(
    store: slotfile.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = store.value("x", int)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            asyncio.run(x.wait_async(lambda x: x > 0))

    async def main() -> int | None:
        waiting = asyncio.create_task(x.wait_async(lambda x: x > 0, timeout=HANG))
        await asyncio.sleep(0.05)
        x.add(1)
        return await waiting

    assert asyncio.run(main()) == 1


def test_a_handle_goes_to_a_spawned_child(path: pathlib.Path) -> None:
    with slotfile.open(path) as store:
        dumped = pickle.dumps([store.value("x", int), store.array("a", float, 3)])
        child = subprocess.run(
            [sys.executable, "-c", "import pickle, sys\nx, a = pickle.load(sys.stdin.buffer)\nx.add(5)\na[1] = 2.5"],
            input=dumped,
        )
        assert child.returncode == 0
        assert (store["x"].value, list(store["a"])) == (5, [0, 2.5, 0])


def test_the_program_works_in_another_folder(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    store = slotfile.open("here.slots")
    value = store.value("x", int)
    dumped = pickle.dumps(value)
    os.chdir("/")
    pickle.loads(dumped).add(1)
    assert value.value == 1
