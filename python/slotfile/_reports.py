"""What a store reports about itself."""

from __future__ import annotations

import datetime
import typing


class Recovery(typing.NamedTuple):
    """What opening the store found and did.

    `what` is "created", "joined", "resumed", "restored", "frozen" or "emptied"; `epoch`
    is the sync to which it was restored, if it was.
    """

    what: str
    epoch: int | None = None
    newer_dropped: bool = False


class SyncPoint(typing.NamedTuple):
    """A sync, or a recovery to one: its number and its time."""

    epoch: int
    at: datetime.datetime


class AttachedProcess(typing.NamedTuple):
    """A process that has the store open.

    `state` is "running", "dying" (killed, but not yet gone), "ended" (a process that it
    started has its locks), "elsewhere" (in another PID namespace, where `pid` is its number),
    or "unknown".
    """

    pid: int
    command: str
    state: str = "unknown"


class Info(typing.NamedTuple):
    """What the store is and how full it is. Sizes are in bytes."""

    path: str
    format: tuple[int, int]
    size: int
    allocated: int
    max_size: int
    free: int
    slots: int
    definitions_left: int
    max_slots: int
    last_sync: SyncPoint | None
    last_recovery: SyncPoint | None
    unsynced: int | None
    open_by: list[AttachedProcess]
    failed_sync: str | None
    detached: str | None


class SlotChange(typing.NamedTuple):
    """A changed slot, as a watch returns it. Skipped versions show how many changes were missed.

    `removed`: the slot was removed; this is its last content.
    """

    name: str
    version: int
    content: typing.Any
    removed: bool = False


class Problem(typing.NamedTuple):
    """Something that is wrong with a store, or with one of its slots."""

    slot: str | None
    what: str


class Check(typing.NamedTuple):
    """The problems of a store, and what could not be verified."""

    problems: list[Problem]
    unverified: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def event(epoch: int, seconds: int) -> SyncPoint:
    # A damaged file may hold any number.
    last = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)
    seconds = min(seconds, int(last.timestamp()) - 1)
    return SyncPoint(epoch, datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc))
