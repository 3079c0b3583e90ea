"""The exceptions. Each is an `Error`, and also the closest built-in exception."""


class Error(Exception):
    """Something could not be done. The message names the file, the slot and the remedy."""


class NotFound(Error, KeyError):
    """The slot does not exist."""

    __str__ = Exception.__str__  # a KeyError would show the message as a quoted key


class FileNotFound(NotFound, FileNotFoundError):
    """The file does not exist."""

    __str__ = Exception.__str__


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


class SystemFailure(Error, OSError):
    """The operating system returned an error."""
