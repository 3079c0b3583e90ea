"""Shared ctypes objects in slotfile stores, in place of those in anonymous memory of the
standard library's `multiprocessing.sharedctypes`."""

import ctypes
import os
import weakref
from multiprocessing import get_context
from multiprocessing.context import assert_spawning, reduction
from multiprocessing.sharedctypes import (
    make_property,
    rebuild_ctype,
    reduce_ctype,
    typecode_to_type,
)

from .. import Store, open as _open
from .._native import (
    Arena,
    Block,
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    allocate,
    forked,
)

__all__ = ["RawValue", "RawArray", "Value", "Array", "copy", "synchronized"]


def RawValue(typecode_or_type, *args, name=None, store=None):
    """Returns a ctypes object in shared memory.

    >>> RawValue("d", 2.5)
    c_double(2.5)
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if name is not None or store is not None:
        return _named(type_, lambda: type_(*args), name, store)
    obj = _new_value(type_)
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type, size_or_initializer, *, name=None, store=None):
    """Returns a ctypes array in shared memory.

    >>> list(RawArray("i", [1, 2, 3]))
    [1, 2, 3]
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        type_, initial = type_ * size_or_initializer, ()
    else:
        type_, initial = type_ * len(size_or_initializer), size_or_initializer
    if name is not None or store is not None:
        return _named(type_, lambda: type_(*initial), name, store)
    obj = _new_value(type_)
    obj.__init__(*initial)
    return obj


def Value(typecode_or_type, *args, lock=True, ctx=None, name=None, store=None):
    """Returns a synchronized object in shared memory.

    With a `name` it is a buffer of the store (a path, or a `slotfile.Store`; else the file
    that the environment variable SLOTFILE_STORE names). An existing buffer is used as it is;
    a new one gets the content of `args`.

    >>> counter = Value("i", 5)
    >>> with counter.get_lock():
    ...     counter.value += 1
    >>> counter
    <Synchronized wrapper for c_int(6)>
    """
    return _locked(RawValue(typecode_or_type, *args, name=name, store=store), lock, ctx)


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None, name=None, store=None):
    """Returns a synchronized array in shared memory; for `name` and `store`, see `Value`.

    >>> pose = Array("d", 6)
    >>> pose[1:3] = [0.5, 1.5]
    >>> pose[:]
    [0.0, 0.5, 1.5, 0.0, 0.0, 0.0]
    """
    return _locked(RawArray(typecode_or_type, size_or_initializer, name=name, store=store), lock, ctx)


def copy(obj):
    """Returns a copy of a ctypes object, in its own shared memory."""
    new_obj = _new_value(type(obj))
    ctypes.pointer(new_obj)[0] = obj
    return new_obj


def synchronized(obj, lock=None, ctx=None):
    """Returns a wrapper that takes a lock around every access to a ctypes object."""
    assert not isinstance(obj, SynchronizedBase), "object already synchronized"
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        string = obj._type_ is ctypes.c_char
        return (SynchronizedString if string else SynchronizedArray)(obj, lock, ctx)
    cls = type(obj)
    if cls not in class_cache:
        properties = {field[0]: make_property(field[0]) for field in cls._fields_}
        class_cache[cls] = type("Synchronized" + cls.__name__, (SynchronizedBase,), properties)
    return class_cache[cls](obj, lock, ctx)


class_cache = weakref.WeakKeyDictionary()


def _new_value(type_):
    return rebuild_ctype(type_, allocate(ctypes.sizeof(type_)), None)


def _locked(obj, lock, ctx):
    if lock is False:
        return obj
    if lock in (True, None):
        lock = _lock_of(obj, ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError("%r has no method 'acquire'" % lock)
    return synchronized(obj, lock, ctx=ctx)


def _lock_of(obj, ctx=None):
    """The default lock of an object: that of its memory, or a new one."""
    block = getattr(obj, "_wrapper", None)
    return block.lock if isinstance(block, Block) else (ctx or get_context()).RLock()


# The store's types of numbers. Only these types themselves: an array of a derived type has objects
# in place of numbers.
_NUMBERS = {
    ctypes.c_bool: "bool",
    **{
        type_: f"{kind}{8 * ctypes.sizeof(type_)}"
        for kind, types in {
            "i": (ctypes.c_byte, ctypes.c_short, ctypes.c_int, ctypes.c_long, ctypes.c_longlong),
            "u": (ctypes.c_ubyte, ctypes.c_ushort, ctypes.c_uint, ctypes.c_ulong, ctypes.c_ulonglong),
            "f": (ctypes.c_float, ctypes.c_double),
        }.items()
        for type_ in types
    },
}
_CHARACTERS = {ctypes.c_char: "u8", ctypes.c_wchar: f"u{8 * ctypes.sizeof(ctypes.c_wchar)}"}


def _layout(type_):
    """The element type and shape of a slot for a ctypes type."""
    if issubclass(type_, ctypes.Array):
        element, shape = _layout(type_._type_)
        return element, (type_._length_, *shape)
    element = _NUMBERS.get(type_) or _CHARACTERS.get(type_)
    return (element, ()) if element else ("u8", (ctypes.sizeof(type_),))


def _numbers(obj):
    """The type, count and address of the numbers in an object; None if it has anything else."""
    of, count = (obj._type_, obj._length_) if isinstance(obj, ctypes.Array) else (type(obj), 1)
    return (_NUMBERS[of], count, ctypes.addressof(obj)) if of in _NUMBERS else None


def _address_in(type_):
    """The type of an address that an object of this type has in it; None if there is none."""
    if issubclass(type_, ctypes.Array):
        return _address_in(type_._type_)
    if issubclass(type_, (ctypes.Structure, ctypes.Union)):
        fields = (field[1] for base in type_.__mro__ for field in vars(base).get("_fields_", ()))
        return next(filter(None, map(_address_in, fields)), None)
    # The letters: c_void_p, c_char_p, c_wchar_p, py_object.
    is_simple = issubclass(type_, ctypes._SimpleCData)
    is_address = type_._type_ in tuple("PzZO") if is_simple else True
    return type_ if is_address else None


def _named(type_, initial, name, store):
    if name is None:
        raise TypeError("store= needs name=: only an object with a name is kept in a store")
    if (address := _address_in(type_)) is not None:
        raise TypeError(
            f"{name!r} cannot have a {address.__name__}: an address means nothing to the next run, and "
            "to other processes; keep what it leads to, as in Array('c', b'text', name=...)"
        )
    if store is None and (store := os.environ.get("SLOTFILE_STORE")) is None:
        raise ValueError(
            f"which store has {name!r}? Pass store=, or set the environment variable SLOTFILE_STORE"
        )
    if not isinstance(store, Store):
        store = _open(store)
    element, shape = _layout(type_)
    block = Block.named(store, name, element, shape or (1,), bytes(initial()))
    return rebuild_ctype(type_, block, None)


# Pickling. As in the standard library, an object without a name can only be sent to a process that
# is being started, with the descriptor of its store. An object with a name can be sent anywhere.


def _reduce_synchronized(self):
    obj, lock = self.get_obj(), self.get_lock()
    block = getattr(obj, "_wrapper", None)
    if not isinstance(block, Block) or block.name is None:
        assert_spawning(self)
        return synchronized, (obj, lock)
    type_, length = (obj._type_, obj._length_) if isinstance(obj, ctypes.Array) else (type(obj), None)
    return _rebuild_synchronized, (type_, length, block, lock)


def _rebuild_synchronized(type_, length, block, lock):
    return synchronized(rebuild_ctype(type_, block, length), lock)


def _rebuild_inherited(arena, name, size):
    return Block.inherited(arena, name, size)


def _rebuild_named(store, name, element, shape):
    return Block.named(store, name, element, shape, None)


def _rebuild_lock(block):
    return block.lock


def _reduce_arena(arena):
    assert_spawning(arena)
    return _rebuild_arena, (reduction.DupFd(arena.fileno()),)


def _rebuild_arena(handle):
    fd = handle.detach()
    try:
        return Arena.at(fd)
    finally:
        os.close(fd)


reduction.register(Arena, _reduce_arena)
os.register_at_fork(after_in_child=forked)
