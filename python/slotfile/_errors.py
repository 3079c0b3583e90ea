"""The exceptions. Each is an `Error`, and also the closest built-in exception.

Those that are an `OSError` have a `filename`, and an `errno` if the system has given one.
"""

from __future__ import annotations

import typing


class Error(Exception):
    """Something could not be done. The message names the file, the slot and the remedy."""

    def __str__(self) -> str:
        # A KeyError would quote it, and an OSError repeat number and file.
        return str(self.args[-1]) if self.args else ""


class NotFound(Error, KeyError):
    """The slot does not exist."""


class FileNotFound(NotFound, FileNotFoundError):
    """The file does not exist, or the folder that it was to be created in."""

    __init__ = FileNotFoundError.__init__  # KeyError's would ignore the errno


class Exists(Error, FileExistsError):
    """The file or the slot already exists."""


class TypeMismatch(Error, TypeError):
    """The slot has another type or shape."""


class Invalid(Error, ValueError):
    """A name, a content or an option is not valid."""


class OutOfBounds(Error, IndexError):
    """An index is outside the array."""


class LockTimeout(Error, TimeoutError):
    """A lock could not be acquired in time. Its holder still has it."""


class Deadlock(Error):
    """This thread already holds the lock, and would wait for itself."""


class NotSynced(Error, OSError):
    """A background sync has failed. The call that raises this has changed nothing."""


class OutOfMemory(Error, MemoryError):
    """There is not enough memory for the content of a slot."""


class Detached(Error):
    """The file was deleted, moved or replaced while it was open."""


class Removed(Error):
    """The slot was removed."""


class Evicted(Error):
    """The lock was lost before the update was committed: nothing was changed."""


class ReadOnly(Error, PermissionError):
    """The store was opened read-only."""


class NotPermitted(Error, PermissionError):
    """The file's mode or owner, or the file system, forbids it."""


class Full(Error, OSError):
    """No room: on the disk, in the store, or in the address space of this process."""


class Damaged(Error):
    """The file is damaged, is not a store, or has another format."""


class IsADirectory(Damaged, IsADirectoryError):
    """The path is that of a folder."""


class SystemFailure(Error, OSError):
    """The operating system returned an error.

    As with `OSError` itself, it is also the built-in exception of its errno, if there is one, such
    as NotADirectoryError.
    """

    def __new__(cls, *args: typing.Any) -> typing.Self:
        return super().__new__(_of_errno(cls, type(OSError(*args))), *args)

    def __reduce__(self) -> tuple[typing.Any, ...]:
        return SystemFailure, *super().__reduce__()[1:]


_of_both: dict[tuple[type, type], type] = {}


def _of_errno(kind: type, builtin: type) -> typing.Any:
    """The class that is both, always the same one."""
    if issubclass(kind, builtin):
        return kind
    return _of_both.setdefault((kind, builtin), type(kind.__name__, (kind, builtin), {}))
