"""Syncing in asyncio. A method of `Store`, written in Python, as tasks are told by their own loops."""

from __future__ import annotations

import asyncio
import copy
import os
import threading

from . import _native
from ._waiting import tell


async def sync_async(self: _native.Store) -> None:
    """As `sync`, for asyncio: other tasks run meanwhile.

    All tasks that wait for a sync of this store share one thread, which syncs once for all that have
    come by then. A task that comes during a sync waits for the next one: for the lock it may wait
    twice as long as `lock_timeout`.

    >>> import asyncio
    >>> store = slotfile.open("state.slots")
    >>> asyncio.run(store.sync_async())
    """
    synced = asyncio.get_running_loop().create_future()
    syncs = _the_syncs
    syncs.add(self, synced)
    try:
        await synced
    finally:
        syncs.forget(self, synced)


class _Syncs:
    """A thread for each store, while tasks of this process wait for a sync of it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        # By the identity of the store, which the tasks keep. The threads do not: the last to drop a
        # store leaves it, and its program may have gone on by then.
        self._waiting: dict[int, list[tuple[_native.Store, asyncio.Future[None]]]] = {}

    def add(self, store: _native.Store, synced: asyncio.Future[None]) -> None:
        key = id(store)
        with self._mutex:
            if key not in self._waiting:
                threading.Thread(target=self._run, args=(key,), name="slotfile tasks", daemon=True).start()
                self._waiting[key] = []  # if it cannot be started, the next call tries again
            self._waiting[key].append((store, synced))

    def forget(self, store: _native.Store, synced: asyncio.Future[None]) -> None:
        with self._mutex:
            waiting = self._waiting.get(id(store), [])
            if (store, synced) in waiting:
                waiting.remove((store, synced))

    def _run(self, key: int) -> None:
        while True:
            with self._mutex:
                waiting = self._waiting.pop(key)
                if not waiting:
                    return
                self._waiting[key] = []
            store, tasks = waiting[0][0], [task for _, task in waiting]
            del waiting
            error: Exception | None = None
            try:
                store.sync()
            except Exception as raised:
                error = raised
            del store
            for task in tasks:
                # Each has its own, as each adds its traceback.
                tell(task, copy.copy(error))


_the_syncs = _Syncs()


def _after_fork() -> None:
    global _the_syncs
    _the_syncs = _Syncs()  # its threads are the parent's


os.register_at_fork(after_in_child=_after_fork)
