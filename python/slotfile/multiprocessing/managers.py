"""The standard library's managers, with this package's blocks of shared memory."""

import types
from multiprocessing import managers as _std
from multiprocessing.managers import *  # noqa: F403

from . import shared_memory

__all__ = list(_std.__all__)


def _with_ours(function):
    """The standard library's own code, with one global name replaced."""
    names = {**vars(_std), "shared_memory": shared_memory}
    ours = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    ours.__doc__ = function.__doc__
    return ours


class _Tracker(_std._SharedMemoryTracker):
    destroy_segment = _with_ours(_std._SharedMemoryTracker.destroy_segment)


class SharedMemoryServer(_std.SharedMemoryServer):
    """Keeps the names of a manager's blocks, and deletes them at its end."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shared_memory_context = _Tracker(self.shared_memory_context.shared_memory_context_name, [])


class SharedMemoryManager(_std.SharedMemoryManager):
    """Makes blocks of shared memory, and deletes them at its end."""

    _Server = SharedMemoryServer
    SharedMemory = _with_ours(_std.SharedMemoryManager.SharedMemory)
    ShareableList = _with_ours(_std.SharedMemoryManager.ShareableList)


def __getattr__(name):
    return getattr(_std, name)
