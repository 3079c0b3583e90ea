from collections.abc import Iterable
from multiprocessing import managers as _std
from multiprocessing.managers import (
    BaseManager as BaseManager,
    BaseProxy as BaseProxy,
    SyncManager as SyncManager,
    Token as Token,
)
from typing import Any, TypeVar

from .. import shared_memory as _shared_memory

__all__ = ["BaseManager", "SyncManager", "BaseProxy", "Token", "SharedMemoryManager"]

_T = TypeVar("_T", int, float, bool, str, bytes, None)

class SharedMemoryServer(_std.SharedMemoryServer): ...

class SharedMemoryManager(_std.SharedMemoryManager):
    def SharedMemory(self, size: int) -> _shared_memory.SharedMemory: ...
    def ShareableList(self, sequence: Iterable[_T] | None) -> _shared_memory.ShareableList[_T]: ...

def __getattr__(name: str) -> Any: ...
