"""The ways to name the type of a slot's elements: numpy's dtypes, ctypes types, array codes."""

from __future__ import annotations

import typing

import numpy as np

# From numpy's names to the library's.
_NAMES = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float32": "f32",
    "float64": "f64",
}
# As `slotfile ls` shows them. "i8" and "u8" mean 64 bits to numpy, 8 to slotfile.
_OWN_NAMES = set(_NAMES.values()) - {"bool", "i8", "u8"}


def scalar_type(dtype: typing.Any) -> str:
    """The library's name of a type, however it is given."""
    if isinstance(dtype, str):
        if dtype in ("i8", "u8"):
            kind = "int" if dtype == "i8" else "uint"
            raise ValueError(
                f"{dtype!r} is 8 bits to slotfile and 64 to numpy; write {kind + '8'!r} or {kind + '64'!r}"
            )
        if dtype in _OWN_NAMES:
            return dtype
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(_refused(dtype)) from None
    name = _NAMES.get(found.name) if dtype is not None else None  # that is float64 to numpy
    if name is None or not found.isnative or found.shape != ():
        raise ValueError(_refused(dtype))
    return name


def _refused(dtype: typing.Any) -> str:
    return (
        f"a number cannot be of type {dtype!r}; write one of {', '.join(_NAMES)} "
        "(for text and bytes there are store.text and store.bytes)"
    )
