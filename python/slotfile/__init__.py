"""Shared state that lasts: named, typed slots in one memory-mapped file.

Any number of processes open the same store, and read and update the same slots at memory
speed. What they wrote survives the death of a process, a restart, and a power cut.

>>> import slotfile
>>> with slotfile.open("state.slots") as store:
...     hits = store.value("hits", "uint64")
...     hits.add(1)
...     pose = store.array("pose", float, 3)
...     with pose.update() as p:
...         p += 0.5
1
"""

import atexit as _atexit
import os as _os

from ._errors import (
    Damaged,
    Deadlock,
    Detached,
    Error,
    Evicted,
    Exists,
    FileNotFound,
    Full,
    Invalid,
    IsADirectory,
    LockTimeout,
    NotFound,
    NotPermitted,
    NotSynced,
    OutOfBounds,
    OutOfMemory,
    ReadOnly,
    Removed,
    SystemFailure,
    TypeMismatch,
)
from ._native import (
    Array,
    Buffer,
    Bytes,
    Counter,
    Lock,
    Slot,
    Store,
    Text,
    Transaction,
    Update,
    Value,
    Watch,
    after_fork_in_parent as _after_fork_in_parent,
    before_fork as _before_fork,
    leave_all as _leave_all,
    open,
    temporary,
)
from . import _syncing, _transaction, _waiting
from ._reports import AttachedProcess, Check, Info, Problem, Recovery, SlotChange, SyncPoint

__all__ = [
    "Array",
    "AttachedProcess",
    "Buffer",
    "Bytes",
    "Check",
    "Counter",
    "Damaged",
    "Deadlock",
    "Detached",
    "Error",
    "Evicted",
    "Exists",
    "FileNotFound",
    "Full",
    "Info",
    "Invalid",
    "IsADirectory",
    "Lock",
    "LockTimeout",
    "NotFound",
    "NotPermitted",
    "NotSynced",
    "OutOfBounds",
    "OutOfMemory",
    "Problem",
    "ReadOnly",
    "Recovery",
    "Removed",
    "Slot",
    "SlotChange",
    "Store",
    "SyncPoint",
    "SystemFailure",
    "Text",
    "Transaction",
    "TypeMismatch",
    "Update",
    "Value",
    "Watch",
    "open",
    "temporary",
]

for _kind in (Value, Array, Buffer, Text, Bytes):
    setattr(_kind, "wait_until", _waiting.wait_until)
    setattr(_kind, "wait_async", _waiting.wait_async)

setattr(Store, "sync_async", _syncing.sync_async)
setattr(Transaction, "update", _transaction.update)

# The interpreter may end without dropping stores that are still open.
_atexit.register(_leave_all)
_os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
