"""Waiting for a slot's content, in a thread or in asyncio.

These are methods of `Slot`. They are written in Python, so that the caller's condition is called
like any other function.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import typing
from collections.abc import Callable

from . import _native


def wait_until(
    self: typing.Any, condition: Callable[[typing.Any], object], timeout: float | None = None
) -> typing.Any:
    """Waits until `condition` is true of the content; returns that content.

    Returns None if that takes longer than `timeout` seconds. The condition is called with the
    content at once, then after each change; of several changes only the last may be seen. Other
    threads run meanwhile; Ctrl-C ends the wait.

    >>> hits = slotfile.temporary().value("hits", int, initial=11)
    >>> hits.wait_until(lambda hits: hits > 10, timeout=1.0)
    11
    """
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        content, version = self.load_versioned()
        if condition(content):
            return content
        left = None if end is None else end - time.monotonic()
        if self.wait_for_change(version, left) is None:
            return None


async def wait_async(
    self: typing.Any, condition: Callable[[typing.Any], object], timeout: float | None = None
) -> typing.Any:
    """As `wait_until`, for asyncio: other tasks run meanwhile.

    >>> import asyncio
    >>> hits = slotfile.temporary().value("hits", int, initial=11)
    >>> asyncio.run(hits.wait_async(lambda hits: hits > 10, timeout=1.0))
    11
    """
    loop = asyncio.get_running_loop()
    if timeout is not None and math.isnan(timeout):
        raise ValueError("a time-out is a number of seconds, or None")
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            while True:
                content, version = self.load_versioned()
                if condition(content):
                    return content
                changed = loop.create_future()
                _watcher().add(changed, self, version)
                try:
                    await changed
                finally:
                    _watcher().forget(changed)
    except TimeoutError:
        if not limit.expired():
            raise  # the condition raised it
        return None


class _Watcher:
    """One thread that sleeps on all slots that this process awaits."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._awaited: dict[asyncio.Future[None], tuple[_native.Slot, int]] = {}
        self._running = False
        # The event count of the set of awaited slots: one more slot to sleep on.
        self._events = _native.temporary().value("events", "uint64")

    def add(self, changed: asyncio.Future[None], slot: _native.Slot, seen: int) -> None:
        with self._mutex:
            if not self._running:
                threading.Thread(target=self._run, name="slotfile wait", daemon=True).start()
                self._running = True  # if it cannot be started, the next call tries again
            self._awaited[changed] = (slot, seen)
        self._events.add(1)

    def forget(self, changed: asyncio.Future[None]) -> None:
        with self._mutex:
            if self._awaited.pop(changed, None) is None:
                return
        self._events.add(1)

    def _run(self) -> None:
        while True:
            seen = self._events.version
            with self._mutex:
                awaited = list(self._awaited.items())
                if not awaited:
                    self._running = False
                    return
            for at, error in _changed([(self._events, seen), *(slot for _, slot in awaited)]):
                if at > 0:
                    changed = awaited[at - 1][0]
                    with self._mutex:
                        self._awaited.pop(changed, None)
                    tell(changed, error)


def _changed(slots: list[tuple[_native.Slot, int]]) -> list[tuple[int, Exception | None]]:
    """Waits until some have changed, or can no longer be waited for."""
    try:
        return [(at, None) for at in _native.wait_any(slots)]
    except Exception:
        # One was removed, or its store was closed: which one?
        return [(at, error) for at, slot in enumerate(slots) if (error := _ended(*slot)) is not None]


def _ended(slot: _native.Slot, seen: int) -> Exception | None:
    try:
        slot.wait_for_change(seen, 0.0)
    except Exception as error:
        return error
    return None


def tell(changed: asyncio.Future[None], error: Exception | None) -> None:
    """Ends a task's wait, from another thread than its loop's."""

    def in_its_loop() -> None:
        if changed.done():
            return
        if error is None:
            changed.set_result(None)
        else:
            changed.set_exception(error)

    try:
        changed.get_loop().call_soon_threadsafe(in_its_loop)
    except RuntimeError:
        pass  # the loop was closed: nobody is left to tell


_the_watcher: _Watcher | None = None
_making_it = threading.Lock()


def _watcher() -> _Watcher:
    global _the_watcher
    with _making_it:
        if _the_watcher is None:
            _the_watcher = _Watcher()
        return _the_watcher


def _after_fork() -> None:
    global _the_watcher, _making_it
    _the_watcher = None  # its thread is the parent's
    _making_it = threading.Lock()  # one of the parent's threads may have it


os.register_at_fork(after_in_child=_after_fork)
