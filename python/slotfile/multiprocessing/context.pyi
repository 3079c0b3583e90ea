import ctypes
from collections.abc import Sequence
from ctypes import _CData, _SimpleCData
from multiprocessing import context as _std
from typing import Any, Literal, TypeVar, overload

from .._native import Store, Synchronized, SynchronizedArray, SynchronizedString, _Path

__all__ = ()

_T = TypeVar("_T")
_CT = TypeVar("_CT", bound=_CData)
_Content = int | Sequence[Any]

class BaseContext(_std.BaseContext):
    @overload
    def RawValue(
        self, typecode_or_type: type[_CT], *args: Any, name: str | None = None, store: Store | _Path | None = None
    ) -> _CT: ...
    @overload
    def RawValue(
        self, typecode_or_type: str, *args: Any, name: str | None = None, store: Store | _Path | None = None
    ) -> Any: ...
    @overload
    def RawArray(
        self,
        typecode_or_type: type[_CT],
        size_or_initializer: _Content,
        *,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> ctypes.Array[_CT]: ...
    @overload
    def RawArray(
        self,
        typecode_or_type: str,
        size_or_initializer: _Content,
        *,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> Any: ...
    @overload  # type: ignore[override]
    def Value(
        self,
        typecode_or_type: type[_CT],
        *args: Any,
        lock: Literal[False],
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> _CT: ...
    @overload
    def Value(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        *args: Any,
        lock: Any = True,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> Synchronized[_T]: ...
    @overload
    def Value(
        self,
        typecode_or_type: str | type[_CData],
        *args: Any,
        lock: Any = True,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> Any: ...
    @overload  # type: ignore[override]
    def Array(
        self,
        typecode_or_type: type[_CT],
        size_or_initializer: _Content,
        *,
        lock: Literal[False],
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> ctypes.Array[_CT]: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: _Content,
        *,
        lock: Any = True,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        size_or_initializer: _Content,
        *,
        lock: Any = True,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str | type[_CData],
        size_or_initializer: _Content,
        *,
        lock: Any = True,
        name: str | None = None,
        store: Store | _Path | None = None,
    ) -> Any: ...
    @overload  # type: ignore[override]
    def get_context(self, method: None = None) -> BaseContext: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...

class ForkContext(BaseContext, _std.ForkContext): ...  # type: ignore[misc]
class SpawnContext(BaseContext, _std.SpawnContext): ...  # type: ignore[misc]
class ForkServerContext(BaseContext, _std.ForkServerContext): ...  # type: ignore[misc]

class DefaultContext(BaseContext, _std.DefaultContext):  # type: ignore[misc]
    def __init__(self) -> None: ...

_default_context: DefaultContext

def __getattr__(name: str) -> Any: ...
