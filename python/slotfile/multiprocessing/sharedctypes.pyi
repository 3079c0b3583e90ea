import ctypes
from collections.abc import Sequence
from ctypes import _CData, _SimpleCData
from multiprocessing.context import BaseContext
from typing import Any, Literal, TypeVar, overload

from .._native import (
    RLock as _RLock,
    Store,
    Synchronized as Synchronized,
    SynchronizedArray as SynchronizedArray,
    SynchronizedBase as SynchronizedBase,
    SynchronizedString as SynchronizedString,
    _Path,
)

__all__ = ["RawValue", "RawArray", "Value", "Array", "copy", "synchronized"]

_T = TypeVar("_T")
_CT = TypeVar("_CT", bound=_CData)
_Locked = Literal[True] | _RLock | Any | None
_Content = int | Sequence[Any]

typecode_to_type: dict[str, type[_CData]]

@overload
def RawValue(
    typecode_or_type: type[_CT], *args: Any, name: str | None = None, store: Store | _Path | None = None
) -> _CT: ...
@overload
def RawValue(
    typecode_or_type: str, *args: Any, name: str | None = None, store: Store | _Path | None = None
) -> Any: ...
@overload
def RawArray(
    typecode_or_type: type[_CT],
    size_or_initializer: _Content,
    *,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> ctypes.Array[_CT]: ...
@overload
def RawArray(
    typecode_or_type: str,
    size_or_initializer: _Content,
    *,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> Any: ...
@overload
def Value(
    typecode_or_type: type[_CT],
    *args: Any,
    lock: Literal[False],
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> _CT: ...
@overload
def Value(
    typecode_or_type: type[_SimpleCData[_T]],
    *args: Any,
    lock: _Locked = True,
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> Synchronized[_T]: ...
@overload
def Value(
    typecode_or_type: str | type[_CData],
    *args: Any,
    lock: _Locked = True,
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> Any: ...
@overload
def Array(
    typecode_or_type: type[_CT],
    size_or_initializer: _Content,
    *,
    lock: Literal[False],
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> ctypes.Array[_CT]: ...
@overload
def Array(
    typecode_or_type: type[ctypes.c_char],
    size_or_initializer: _Content,
    *,
    lock: _Locked = True,
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> SynchronizedString: ...
@overload
def Array(
    typecode_or_type: type[_SimpleCData[_T]],
    size_or_initializer: _Content,
    *,
    lock: _Locked = True,
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> SynchronizedArray[_T]: ...
@overload
def Array(
    typecode_or_type: str | type[_CData],
    size_or_initializer: _Content,
    *,
    lock: _Locked = True,
    ctx: BaseContext | None = None,
    name: str | None = None,
    store: Store | _Path | None = None,
) -> Any: ...
def copy(obj: _CT) -> _CT: ...
@overload
def synchronized(obj: _SimpleCData[_T], lock: Any = None, ctx: BaseContext | None = None) -> Synchronized[_T]: ...
@overload
def synchronized(
    obj: ctypes.Array[ctypes.c_char], lock: Any = None, ctx: BaseContext | None = None
) -> SynchronizedString: ...
@overload
def synchronized(
    obj: ctypes.Array[_SimpleCData[_T]], lock: Any = None, ctx: BaseContext | None = None
) -> SynchronizedArray[_T]: ...
@overload
def synchronized(obj: _CT, lock: Any = None, ctx: BaseContext | None = None) -> SynchronizedBase[_CT]: ...
