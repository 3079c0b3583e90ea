"""The exceptions. Each is an `Error`, and the built-in exception that one would expect."""


class Error(Exception):
    """Something could not be done. The message names the file, the slot and the remedy."""


class NotFound(Error, KeyError):
    """There is no such slot."""

    __str__ = Exception.__str__  # a KeyError would show the message as a quoted key


class FileNotFound(NotFound, FileNotFoundError):
    """There is no such file."""

    __str__ = Exception.__str__


class Exists(Error, FileExistsError):
    """The file is there already, or the slot."""


class TypeMismatch(Error, TypeError):
    """The slot has another type or shape."""


class Invalid(Error, ValueError):
    """A name, a content or an option that is not possible."""


class OutOfBounds(Error, IndexError):
    """An index outside of the array."""


class LockTimeout(Error, TimeoutError):
    """A lock was not to be had in time. It was not taken away from its holder."""


class Deadlock(Error):
    """This thread holds the lock itself, and would wait for itself."""


class NotSynced(Error, OSError):
    """A sync in the background has failed. The call that raises this has changed nothing."""


class OutOfMemory(Error, MemoryError):
    """There is no memory for the content of a slot."""


class Detached(Error):
    """The file was deleted, moved or replaced while it was open."""


class Removed(Error):
    """The slot was removed."""


class Evicted(Error):
    """The lock was lost before the update was committed: nothing was changed."""


class ReadOnly(Error, PermissionError):
    """The store was opened to be read only."""


class NotPermitted(Error, PermissionError):
    """The file's mode or owner, or the file system, forbids it."""


class Full(Error, OSError):
    """No room: on the disk, in the store, or among the addresses of this process."""


class Damaged(Error):
    """The file is damaged, no store, or of another format."""


class SystemFailure(Error, OSError):
    """The operating system said no."""
