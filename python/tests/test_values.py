"""`slotfile.Value`."""

from __future__ import annotations

import ctypes
import math
import threading

import numpy as np
import pytest

import slotfile

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("name", INTEGERS)
def test_row_43_integers_at_the_ends_of_their_range(store: slotfile.Store, name: str) -> None:
    least, greatest = int(np.iinfo(name).min), int(np.iinfo(name).max)
    value = store.value("x", name)
    assert value.value == 0 and type(value.value) is int
    assert value.dtype == np.dtype(name)
    value.value = greatest
    assert value.value == greatest
    # `add` refuses; nothing is changed.
    version = value.version
    with pytest.raises(OverflowError, match=str(greatest)):
        value.add(1)
    with pytest.raises(OverflowError):
        value.add(2**100)
    assert (value.value, value.version) == (greatest, version)
    # `fetch_add` wraps around, as in numpy and in Rust.
    assert value.fetch_add(1) == greatest
    assert value.value == least
    assert value.fetch_sub(1) == least
    assert value.value == greatest
    # What leads back into the range can be added, however large.
    assert value.add(least - greatest) == least
    assert value.add(greatest - least) == greatest
    for wrong in (least - 1, greatest + 1):
        with pytest.raises(OverflowError, match=f"{wrong}"):
            value.value = wrong
        with pytest.raises(OverflowError):
            value.fetch_add(wrong)
        with pytest.raises(OverflowError):
            value.swap(wrong)
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            value.value = wrong  # type: ignore[assignment]
    assert value.value == greatest
    value.value = np.int8(7)  # what has __index__ will do
    assert value.value == 7


def test_the_operations_of_integers(store: slotfile.Store) -> None:
    value = store.value("x", int, initial=6)
    assert value.add() == 7
    assert value.add(-2) == 5
    assert value.fetch_add(4) == 5
    assert value.fetch_sub(1) == 9
    assert value.fetch_min(3) == 8
    assert value.fetch_min(5) == 3
    assert value.fetch_max(12) == 3
    assert value.fetch_max(1) == 12
    assert value.fetch_and(0b0110) == 12
    assert value.fetch_or(0b0011) == 0b0100
    assert value.fetch_xor(0b0101) == 0b0111
    assert value.swap(40) == 0b0010
    assert value.compare_exchange(40, 41) is True
    assert value.compare_exchange(40, 42) is False
    assert value.value == 41


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_row_43_floats(store: slotfile.Store, name: str) -> None:
    value = store.value("x", name)
    assert value.value == 0.0 and type(value.value) is float
    value.value = 1
    assert value.add(0.5) == 1.5
    assert value.fetch_add(0.25) == 1.5
    assert value.fetch_min(math.nan) == 1.75  # of a NaN and a number the number stays
    assert value.fetch_max(2) == 1.75
    value.value = math.nan
    assert math.isnan(value.value)
    assert value.compare_exchange(math.nan, 0.0) is True  # bit by bit
    assert value.compare_exchange(-0.0, 1.0) is False
    value.value = math.inf
    assert value.value == math.inf
    with pytest.raises(TypeError, match="fetch_and"):
        value.fetch_and(1)
    if name == "float32":
        with pytest.raises(OverflowError):
            value.value = 1e39
    assert value.value == math.inf


def test_bools(store: slotfile.Store) -> None:
    flag = store.value("x", bool, initial=True)
    assert flag.value is True
    flag.value = np.bool_(False)
    assert flag.value is False
    flag.value = 1
    assert flag.fetch_xor(True) is True
    assert flag.fetch_or(True) is False
    assert flag.fetch_and(False) is True
    for wrong in (2, "False", None):
        with pytest.raises(TypeError):
            flag.value = wrong  # type: ignore[assignment]
    with pytest.raises(TypeError, match="bool"):
        flag.add()
    with pytest.raises(TypeError, match="fetch_add"):
        flag.fetch_add(True)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (float, "float64"),
        (int, "int64"),
        (bool, "bool"),
        ("uint64", "uint64"),
        ("u64", "uint64"),
        ("f32", "float32"),
        (np.uint16, "uint16"),
        (np.dtype("int8"), "int8"),
        (ctypes.c_uint64, "uint64"),
        (ctypes.c_int, "int32"),
        (ctypes.c_double, "float64"),
        (ctypes.c_bool, "bool"),
        ("i", "int32"),
        ("B", "uint8"),
        ("d", "float64"),
        ("Q", "uint64"),
        ("<i4", "int32"),
    ],
)
def test_types_however_they_are_said(store: slotfile.Store, said: object, meant: str) -> None:
    assert store.value("x", said).dtype == np.dtype(meant)


@pytest.mark.parametrize("wrong", ["u8", "i8"])
def test_names_that_mean_two_things_are_refused(store: slotfile.Store, wrong: str) -> None:
    kind = "int" if wrong == "i8" else "uint"
    with pytest.raises(ValueError, match=f"'{kind}8' or '{kind}64'"):
        store.value("x", wrong)
    with pytest.raises(ValueError, match=f"'{kind}8' or '{kind}64'"):
        store.array("x", wrong, 3)
    assert "x" not in store


@pytest.mark.parametrize("wrong", ["float16", complex, str, object, None, ">i4", "S5", "(2,)i4", "datetime64[s]"])
def test_types_that_no_slot_has_are_refused(store: slotfile.Store, wrong: object) -> None:
    with pytest.raises(ValueError, match="cannot be of type"):
        store.value("x", wrong)


def test_the_first_definition_stands(store: slotfile.Store) -> None:
    store.value("x", int, initial=5)
    assert store.value("x", int, initial=7).value == 5
    with pytest.raises(OverflowError):
        store.value("y", "uint8", initial=300)
    assert "y" not in store


def test_versions(store: slotfile.Store) -> None:
    value = store.value("x", int)
    before = value.version
    value.value = 3
    assert value.load_versioned() == (3, before + 1)
    assert value.version == before + 1


def test_repr_tells_type_and_value(store: slotfile.Store) -> None:
    value = store.value("it's", "uint8", initial=5)
    assert repr(value) == "<Value \"it's\": uint8 = 5>"
    assert value.type == "u8"
    del store["it's"]
    assert repr(value) == "<Value \"it's\": uint8 = 5, removed>"
    store.close()
    assert repr(value) == "<Value \"it's\": uint8, closed>"


def test_adding_by_many_threads_loses_nothing(store: slotfile.Store) -> None:
    value = store.value("x", "uint32")

    def work() -> None:
        mine = store.value("x", "uint32")
        for _ in range(2000):
            mine.add(1)
            value.add(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value.value == 32000


def test_what_an_argument_is_refused_for_names_the_slot(store: slotfile.Store) -> None:
    small, flag, narrow = store.value("small", "uint8"), store.value("flag", bool), store.value("f", "float32")
    pose, buffer = store.array("pose", "int32", (2, 3)), store.buffer("buffer", "uint8", 4)
    text, blob, counter = store.text("text", 9), store.bytes("blob", 9), store.counter("counter")

    def transaction(slot: slotfile.Slot, content: object) -> None:
        with store.transaction(slot) as tx:
            tx[slot] = content

    beyond = "300 is beyond the range of u8, 0 to 255"
    for slot, refused, said in (
        ("small", lambda: setattr(small, "value", 300), beyond),
        ("small", lambda: small.fetch_add(300), beyond),
        ("small", lambda: small.swap(300), beyond),
        ("small", lambda: small.compare_exchange(300, 1), beyond),
        ("small", lambda: transaction(small, 300), beyond),
        ("new", lambda: store.value("new", "uint8", 300), beyond),
        ("small", lambda: small.add(300), "the sum would leave the range of u8, 0 to 255"),
        ("small", lambda: small.add(2**200), "is beyond the range of u8, 0 to 255"),
        ("small", lambda: setattr(small, "value", "x"), "'str' object cannot"),
        ("flag", lambda: setattr(flag, "value", 2), "2 is neither True nor False"),
        ("flag", lambda: flag.add(), "nothing can be added to a bool"),
        ("f", lambda: setattr(narrow, "value", 1e300), "1e300 is beyond the range of f32"),
        ("pose", lambda: pose[2], "index 2 is out of bounds for axis 0 with size 2"),
        ("pose", lambda: pose[0, 3], "index 3 is out of bounds for axis 1 with size 3"),
        ("pose", lambda: pose["x"], "only integers"),
        ("pose", lambda: pose.add((5, 0)), "index 5 is out of bounds"),
        ("pose", lambda: pose.add(0), "0 does not name one element"),
        ("pose", lambda: pose.__setitem__((0, 0), 2**40), "is beyond the range of i32"),
        ("pose", lambda: pose.__setitem__(0, [2**40] * 3), "out of bounds for int32"),
        ("pose", lambda: pose.__setitem__(0, [1, 2]), "shape"),
        ("pose", lambda: pose.__setitem__([0], [[1, 2, 3, 4]]), "shape"),
        ("pose", lambda: pose.store("x"), "x"),
        ("pose", lambda: pose.load(out=np.zeros(3)), "`out` must be"),
        ("pose", lambda: transaction(pose, [1, 2]), "shape"),
        ("new", lambda: store.array("new", float, 3, [1, 2]), "shape"),
        ("new", lambda: store.buffer("new", float, 3, [1, 2]), "shape"),
        ("buffer", lambda: buffer[9], "index 9 is out of bounds for axis 0 with size 4"),
        ("buffer", lambda: buffer.__setitem__(0, 300), beyond),
        ("buffer", lambda: buffer.__setitem__(slice(None), [1, 2]), "shape"),
        ("text", lambda: setattr(text, "value", 5), "'int' object"),
        ("counter", lambda: counter.add(2**63), "is beyond the range of i64"),
        ("counter", lambda: counter.swap(-(2**70)), "is beyond the range of i64"),
        ("counter", lambda: setattr(counter, "value", "x"), "'str' object cannot"),
        ("new", lambda: store.counter("new", 2**63), "is beyond the range of i64"),
        ("blob", lambda: setattr(blob, "value", "x"), "'str' object"),
    ):
        with pytest.raises((OverflowError, TypeError, ValueError, IndexError)) as caught:
            refused()
        begin = f'{store.path}: slot "{slot}": '
        assert str(caught.value).startswith(begin) and said in str(caught.value), (slot, str(caught.value))
        assert type(caught.value).__module__ == "builtins"
    assert "new" not in store


def test_an_exception_of_the_callers_own_stays_as_it_is(store: slotfile.Store) -> None:
    class Mine(ValueError):
        pass

    class Content:
        def __float__(self) -> float:
            raise Mine("of my own")

    with pytest.raises(Mine) as caught:
        store.value("f", float).value = Content()  # type: ignore[assignment]
    assert str(caught.value) == "of my own"


def test_messages_speak_of_what_is_there_in_python(store: slotfile.Store) -> None:
    hits, pose = store.value("hits", int), store.array("pose", float, 3)
    for deadlock in (
        lambda: hits.lock().__enter__(),
        lambda: pose.update().__enter__(),
    ):
        with hits.lock(), pose.lock(), pytest.raises(slotfile.Deadlock) as caught:
            with store.transaction(hits, pose):
                deadlock()
                deadlock()
        assert "closure" not in str(caught.value) and "release the lock first" in str(caught.value)
    with pytest.raises(TypeError, match="a number cannot be of type 'frob'; write one of bool, int8"):
        store.value("x", "frob")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="a number cannot be of type <class 'str'>.*store.text"):
        store.value("x", str)  # type: ignore[call-overload]
    with pytest.raises(slotfile.Invalid, match="no slot to wait for"):
        slotfile._native.wait_any([])


def test_add_none_is_refused(store: slotfile.Store) -> None:
    value, real = store.value("n", int), store.value("r", float)
    numbers, frame = store.array("a", int, 3), store.buffer("f", float, 3)
    counter = store.counter("c")
    for add in (value.add, real.add, counter.add):
        with pytest.raises(TypeError):
            add(None)  # type: ignore[operator]
    for add_at in (numbers.add, frame.add):
        with pytest.raises(TypeError):
            add_at(0, None)  # type: ignore[operator]
    assert (value.value, real.value, counter.value, numbers[0], frame[0]) == (0, 0.0, 0, 0, 0.0)
    value.add()
    numbers.add(0)
    counter.add()
    assert (value.value, numbers[0], counter.value) == (1, 1, 1)
