from multiprocessing import shared_memory as _std
from typing import TypeVar

__all__ = ["SharedMemory", "ShareableList"]

_T = TypeVar("_T", int, float, bool, str, bytes, None)

class SharedMemory(_std.SharedMemory):
    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None: ...
    @property
    def buf(self) -> memoryview: ...  # None once it is closed

class ShareableList(_std.ShareableList[_T]):
    shm: SharedMemory
