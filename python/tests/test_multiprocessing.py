"""`slotfile.multiprocessing` does what `multiprocessing` does: each test runs on both."""

from __future__ import annotations

import array
import ctypes
import importlib
import multiprocessing
import operator
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import slotfile.multiprocessing

from both import METHODS, MODULES, context, join, mp  # noqa: F401 (fixtures)

def run(context: Any, work: Callable[..., None], *arguments: object) -> None:
    """Runs it in a process of its own."""
    process = context.Process(target=work, args=arguments)
    process.start()
    join(process)


# One after the other on both modules: what they return or raise is the same.


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double), ("n", ctypes.c_int)]


class Bits(ctypes.Union):
    _fields_ = [("number", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * 4)]


class Count(ctypes.c_int):
    """Of what derives from a simple type, an array has objects."""


class Indexed:
    def __index__(self) -> int:
        return 2


class NoLock:
    pass


CODES = "bBhHiIlLqQfd"
TYPES = [
    ctypes.c_bool,
    ctypes.c_char,
    ctypes.c_wchar,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_int.__ctype_be__,
    ctypes.c_double.__ctype_be__,
    Count,
]
OBJECTS = [0, 1, -1, 200, 70_000, 2**31, 2**63, 2**64, -(2**70), 1.5, -0.0, float("inf"), 1e300]
OBJECTS += [True, None, "x", "xy", b"x", b"xy", np.int32(5), np.float32(0.5), Indexed(), [1]]


def stored(mp: Any, code: Any, thing: object, lock: bool) -> object:
    value = mp.Value(code, lock=lock)
    value.value = thing
    return value.value


def made(mp: Any, code: Any, thing: object) -> object:
    return mp.Value(code, thing).value


def element(mp: Any, code: Any, thing: object) -> object:
    numbers = mp.Array(code, 3)
    numbers[1] = thing
    found = numbers[1]
    return list(numbers[:]) if isinstance(found, (int, float, str, bytes)) else found.value


def sliced(mp: Any, *index: object) -> object:
    numbers = mp.Array("i", range(10))
    return numbers[slice(*index)]


def slice_set(mp: Any, values: object, *index: object) -> object:
    numbers = mp.Array("h", range(10))
    numbers[slice(*index)] = values
    return numbers[:]


def indexed(mp: Any, code: str, index: object) -> object:
    return mp.Array(code, [3, 1, 4, 1, 5])[index]


def index_set(mp: Any, index: object) -> object:
    numbers = mp.Array("d", [3, 1, 4, 1, 5])
    numbers[index] = 9
    return numbers[:]


def string(mp: Any, raw: bytes) -> object:
    text = mp.Array("c", 8)
    text.value = raw
    before = text.raw
    text.raw = b"12345678"
    text[2:4] = b"xy"
    text[0] = b"z"
    return text.value, before, text[:], text[-1], text[::2], len(text), list(text), repr(text)


def characters(mp: Any) -> object:
    text = mp.Array("u", "grüße")
    text[1] = "R"
    return text[:], text[0], len(text), list(text), hasattr(text, "raw")


def raw_string(mp: Any) -> object:
    text = mp.RawArray("c", b"robot\0\0\0")
    return text.value, text.raw, text[:3]


def structure(mp: Any, lock: bool) -> object:
    point = mp.Value(Point, 1.5, n=3, lock=lock)
    point.x += 1
    point.y = 7
    with pytest.raises(TypeError):
        point.n = 1.5
    return point.x, point.y, point.n, hasattr(point, "z")


def structures(mp: Any) -> object:
    points = mp.Array(Point, [(1, 2, 3), (4, 5, 6)])
    points[1].x = 10
    return [(p.x, p.y, p.n) for p in points], len(points)


def union(mp: Any) -> object:
    bits = mp.Value(Bits)
    bits.number = 0x04030201
    return list(bits.bytes)


def matrix(mp: Any) -> object:
    rows = mp.Array(ctypes.c_int * 3, 2)
    rows[1][2] = 5
    return [list(row) for row in rows]


def locks(mp: Any) -> object:
    own = mp.Value("i", 5).get_lock()
    given = mp.RLock()
    assert mp.Value("i", 5, lock=given).get_lock() is given
    assert mp.Array("i", 5, lock=given).get_lock() is given
    raw = [mp.Value("i", 5, lock=False), mp.Array("i", 5, lock=False), mp.RawValue("i"), mp.RawArray("i", 1)]
    assert not any(hasattr(x, "get_lock") or hasattr(x, "get_obj") for x in raw)
    none = mp.Value("i", 5, lock=None)
    return hasattr(own, "acquire"), hasattr(none.get_lock(), "acquire"), none.get_obj().value


def bad_lock(mp: Any) -> object:
    return mp.Value("i", 5, lock=NoLock)


def representation(mp: Any) -> object:
    return repr(mp.Value("i", 5)), repr(mp.Value(Point).get_obj().x), type(mp.Array("i", 2)).__name__


def copied(mp: Any) -> object:
    there = Point(1, 2, 3)
    copy = mp.sharedctypes.copy(there)
    there.x = 9
    number = mp.sharedctypes.copy(mp.RawValue("i", 5))
    return copy.x, copy.n, number.value, [*mp.sharedctypes.copy((ctypes.c_int * 2)(1, 2))]


def wrapped(mp: Any) -> object:
    """A ctypes object that lies anywhere."""
    number = mp.sharedctypes.synchronized(ctypes.c_int(5))
    number.value += 1
    numbers = mp.sharedctypes.synchronized((ctypes.c_int * 3)(1, 2, 3), mp.RLock())
    numbers[0] = 7
    return number.value, numbers[:], repr(number)


def wrapped_twice(mp: Any) -> object:
    return mp.sharedctypes.synchronized(mp.Value("i"))


def by_keyword(mp: Any) -> object:
    lock = mp.Value("i").get_lock()
    return lock.acquire(block=True, timeout=None), lock.acquire(timeout=-1), lock.acquire(False, 5)


def bad_timeout(mp: Any) -> object:
    return mp.Value("i").get_lock().acquire(True, "x")


def not_acquired(mp: Any) -> object:
    return mp.Value("i").get_lock().release()


def entered(mp: Any) -> object:
    value = mp.Value("i")
    with value.get_lock() as first, value as second:
        inside = (first, second, value.acquire(), value.release())
    value.get_lock().acquire()
    return inside, value.get_lock().__exit__(None, None, None)


def raised(mp: Any) -> object:
    value = mp.Value("i")
    with value.get_lock():
        raise KeyError("passed on")


def memory(mp: Any) -> object:
    numbers = mp.Array("d", [1, 2, 3])
    view = memoryview(numbers.get_obj())
    live = np.frombuffer(numbers.get_obj())
    live += 1
    return view.nbytes, view.readonly, view.format, live.flags.writeable, numbers[:]


def zeroed(mp: Any) -> object:
    contents = []
    for _ in range(5):
        numbers = mp.Array("i", 10)
        contents.append(numbers[:])
        numbers[:] = range(10)
        del numbers
    return contents


CASES: dict[str, tuple[Callable[..., object], tuple[Any, ...]]] = {
    **{f"stored {code} {lock}": (stored, (code, None, lock)) for code in CODES for lock in (True, False)},
    **{f"stored {t.__name__} {i}": (stored, (t, None, True)) for i, t in enumerate(TYPES)},
    **{f"made {code}": (made, (code, None)) for code in [*CODES, "c", "u", *TYPES]},
    **{f"element {code}": (element, (code, None)) for code in [*CODES, "c", "u", *TYPES]},
}
ALONE: dict[str, tuple[Callable[..., object], tuple[Any, ...]]] = {
    "no such type": (made, ("no such type", 1)),
    "no type": (made, (5, 1)),
    "negative size": (lambda mp: mp.Array("i", -1), ()),
    "float size": (lambda mp: mp.Array("i", 2.5), ()),
    "empty": (lambda mp: (mp.Array("i", 0)[:], len(mp.Array("i", []))), ()),
    "from an array": (lambda mp: mp.Array("d", array.array("d", [1, 2]))[:], ()),
    "from an iterator": (lambda mp: mp.Array("d", iter([1, 2]))[:], ()),
    "too many arguments": (lambda mp: mp.Value("i", 1, 2), ()),
    "positional lock": (lambda mp: mp.Array("i", 1, False), ()),
    "long": (lambda mp: sum(mp.Array("q", range(200_000))[:]), ()),
    "not iterable": (lambda mp: iter(mp.Value("i")), ()),
    "contained": (lambda mp: (4 in mp.Array("i", range(5)), 5 in mp.Array("i", range(5))), ()),
    "reversed": (lambda mp: list(reversed(mp.Array("i", range(5)))), ()),
    "deleted": (lambda mp: operator.delitem(mp.Array("i", 3), 0), ()),
    **{f"sliced {i}": (sliced, i) for i in [(None,), (2, 7), (-3, None), (7, 2), (None, None, 3), (None, None, -2), (8, -100, -3), (100, 200), (None, None, 0), (1.5, None), (Indexed(), None)]},
    **{f"slice set {v!r:.9} {i}": (slice_set, (v, *i)) for v in ([7, 8], (70_000, -1), [], 5, "ab", [None, 1]) for i in [(0, 2), (None, None, 5), (5, 5), (8, 12)]},
    **{f"indexed {code} {i!r:.9}": (indexed, (code, i)) for code in "id" for i in [0, 4, -1, -5, 5, -6, 2**70, 1.0, "1", None, True, np.int64(3), Indexed(), (1, 2)]},
    **{f"index set {i!r:.9}": (index_set, (i,)) for i in [0, -1, 5, -6, 2**70, 1.0, "1", None, True, Indexed()]},
    **{f"string {raw!r}": (string, (raw,)) for raw in (b"", b"robot", b"12345678", b"123456789", "robot", None)},
    "characters": (characters, ()),
    "raw string": (raw_string, ()),
    "structure": (structure, (True,)),
    "raw structure": (structure, (False,)),
    "structures": (structures, ()),
    "union": (union, ()),
    "matrix": (matrix, ()),
    "locks": (locks, ()),
    "bad lock": (bad_lock, ()),
    "representation": (representation, ()),
    "copied": (copied, ()),
    "wrapped": (wrapped, ()),
    "wrapped twice": (wrapped_twice, ()),
    "by keyword": (by_keyword, ()),
    "bad timeout": (bad_timeout, ()),
    "not acquired": (not_acquired, ()),
    "entered": (entered, ()),
    "raised": (raised, ()),
    "memory": (memory, ()),
    "zeroed": (zeroed, ()),
}


def outcome(case: Callable[..., object], mp: Any, *arguments: object) -> object:
    try:
        result = case(mp, *arguments)
    except Exception as error:
        return type(error), str(error).replace("slotfile.multiprocessing.sharedctypes.", "")
    return re.sub("0x[0-9a-f]+", "address", repr(result)), type(result)


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_taken_or_refused_alike(case: str) -> None:
    work, arguments = CASES[case]
    for thing in OBJECTS:
        filled = [thing if argument is None else argument for argument in arguments]
        expected, found = (outcome(work, mp, *filled) for mp in MODULES)
        assert found == expected, f"of {thing!r}"


@pytest.mark.parametrize("case", ALONE)
def test_it_is_done_alike(case: str) -> None:
    work, arguments = ALONE[case]
    expected, found = (outcome(work, mp, *arguments) for mp in MODULES)
    assert found == expected


def test_the_same_names_are_there() -> None:
    standard, ours = MODULES
    assert set(standard.__all__) == set(ours.__all__)  # type: ignore[attr-defined]
    assert all(hasattr(ours, name) for name in dir(standard))
    for method in METHODS:
        names = set(dir(standard.get_context(method)))
        assert names <= set(dir(ours.get_context(method)))
    for name in ("RawValue", "RawArray", "Value", "Array", "copy", "synchronized", "typecode_to_type",
                 "Synchronized", "SynchronizedArray", "SynchronizedString", "SynchronizedBase"):
        assert hasattr(ours.sharedctypes, name)


def test_submodules_are_the_standard_librarys() -> None:
    import multiprocessing.managers
    import multiprocessing.pool

    import slotfile.multiprocessing.dummy
    import slotfile.multiprocessing.managers
    import slotfile.multiprocessing.pool
    import slotfile.multiprocessing.shared_memory
    from slotfile.multiprocessing.pool import ThreadPool

    assert slotfile.multiprocessing.pool is multiprocessing.pool
    assert slotfile.multiprocessing.managers.BaseManager is multiprocessing.managers.BaseManager
    assert multiprocessing.pool.__spec__.name == "multiprocessing.pool"
    assert slotfile.multiprocessing.shared_memory.SharedMemory is slotfile.shared_memory.SharedMemory
    assert ThreadPool is multiprocessing.pool.ThreadPool
    with pytest.raises(ModuleNotFoundError):
        import slotfile.multiprocessing.nothing  # noqa: F401


def test_the_start_method_is_set_for_both() -> None:
    standard, ours = MODULES
    assert ours.get_all_start_methods() == standard.get_all_start_methods()
    before = standard.get_start_method()
    try:
        ours.set_start_method("spawn", force=True)
        assert standard.get_start_method() == ours.get_start_method() == "spawn"
        assert type(standard.get_context()) is multiprocessing.context.SpawnContext
        assert type(ours.get_context()) is slotfile.multiprocessing.context.SpawnContext
        with pytest.raises(RuntimeError):
            ours.set_start_method("fork")
        with pytest.raises(ValueError):
            ours.get_context("fork").set_start_method("spawn")
        with pytest.raises(ValueError):
            ours.get_context("no such method")
    finally:
        ours.set_start_method(before, force=True)
    assert ours.get_context() is ours.get_context(before)
    for method in METHODS:
        assert ours.get_context("spawn").get_context(method) is ours.get_context(method)
    assert isinstance(ours.get_context().Value("i"), slotfile.multiprocessing.sharedctypes.Synchronized)


# With processes, of each kind.


def change_all(number: Any, raw: Any, point: Any, numbers: Any, text: Any, letter: Any) -> None:
    number.value += 1
    raw.value *= 2
    point.x, point.n = 2.5, 7
    numbers[1] += 0.5
    numbers[-2:] = [8, 9]
    text.value = b"from there"
    letter.value = "ß"


def test_children_have_the_same_objects(context: Any) -> None:
    number, raw = context.Value("i", 5), context.RawValue("d", 1.5)
    point, numbers = context.Value(Point, 1, 2, 3), context.Array("d", range(5))
    text, letter = context.Array("c", 20), context.Value("u", "s", lock=context.Lock())
    run(context, change_all, number, raw, point, numbers, text, letter)
    assert (number.value, raw.value, point.x, point.y, point.n) == (6, 3.0, 2.5, 2, 7)
    assert (numbers[:], text.value, letter.value) == ([0, 1.5, 2, 8, 9], b"from there", "ß")


def change_again(context: Any, numbers: Any) -> None:
    numbers[0] += 1
    run(context, change_raw, numbers.get_obj())


def change_raw(numbers: Any) -> None:
    numbers[0] += 1


def test_children_hand_them_on(context: Any) -> None:
    numbers = context.Array("i", 3)
    run(context, change_again, context, numbers)
    assert numbers[:] == [2, 0, 0]


def same_twice(first: Any, second: Any, lock: Any) -> None:
    with lock, first.get_lock(), second.get_lock():
        first.value += 1
        second.value += 1


def test_one_object_handed_over_twice_stays_one(context: Any) -> None:
    number = context.Value("i")
    run(context, same_twice, number, number, number.get_lock())
    assert number.value == 2


def keep_and_add(numbers: list[Any], ready: Any) -> None:
    for number in numbers:
        number.value += 1
    ready.set()


def test_many_objects(context: Any) -> None:
    numbers = [context.Value("i", i) for i in range(200)]
    ready = context.Event()
    run(context, keep_and_add, numbers, ready)
    assert ready.is_set()
    assert [number.value for number in numbers] == list(range(1, 201))


def count_up(number: Any, times: int) -> None:
    for _ in range(times):
        with number.get_lock():
            number.value += 1


def test_no_addition_is_lost(context: Any) -> None:
    number = context.Value("i")
    processes = [context.Process(target=count_up, args=(number, 200)) for _ in range(3)]
    for process in processes:
        process.start()
    join(*processes)
    assert number.value == 600


pooled: Any = None


def take_pooled(number: Any) -> None:
    global pooled
    pooled = number


def add_pooled(n: int) -> None:
    with pooled.get_lock():
        pooled.value += n


def test_a_pool_gets_them_by_its_initializer(context: Any) -> None:
    number = context.Value("i")
    with context.Pool(3, take_pooled, (number,)) as pool:
        pool.map(add_pooled, range(101))
    assert number.value == 5050


@pytest.mark.parametrize("shared", ["Value", "RawValue", "Array"])
def test_they_are_not_pickled_but_for_a_child_that_starts(mp: Any, shared: str) -> None:
    made = getattr(mp, shared)("i", 1)
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        mp.reduction.ForkingPickler.dumps(made)
    if hasattr(made, "get_lock"):
        for part in (made, made.get_lock()):
            with pytest.raises(RuntimeError, match="through inheritance"):
                pickle.dumps(part)


def test_slices_by_their_old_names(mp: Any) -> None:
    shared = mp.Array("i", range(5))
    assert shared.__getslice__(1, 3) == [1, 2]
    shared.__setslice__(1, 3, [7, 8])
    assert shared[:] == [0, 7, 8, 3, 4]


def test_an_array_that_is_too_large_is_an_oserror(mp: Any) -> None:
    with pytest.raises(OSError):
        mp.RawArray("d", 10**13)


def _changes_first(package: str, name: str) -> None:
    block = importlib.import_module(f"{package}.shared_memory").SharedMemory(name)
    block.buf[0] = 7
    block.close()


@pytest.mark.parametrize("package", ["multiprocessing", "slotfile.multiprocessing"])
def test_a_managers_blocks_are_found(package: str) -> None:
    managers = importlib.import_module(f"{package}.managers")
    blocks = importlib.import_module(f"{package}.shared_memory")
    processes = importlib.import_module(package)
    with managers.SharedMemoryManager() as manager:
        block, numbers = manager.SharedMemory(10), manager.ShareableList([1, 2])
        child = processes.Process(target=_changes_first, args=(package, block.name))
        child.start()
        join(child)
        assert block.buf[0] == 7
        again = blocks.ShareableList(name=numbers.shm.name)
        assert list(again) == [1, 2]
        again.shm.close()
        numbers.shm.close()
        block.close()
    # Its blocks end with it.
    for name in (block.name, numbers.shm.name):
        with pytest.raises(FileNotFoundError):
            blocks.SharedMemory(name)
