"""`slotfile.Array`, compared with numpy's own arrays."""

from __future__ import annotations

import sys
import threading
import warnings

import numpy as np
import pytest

import slotfile

KEYS: list[object] = [
    0, 3, -1, np.int64(2), True, None, ..., slice(None), slice(1, 3), slice(-2, None), slice(None, None, 2),
    slice(None, None, -1), slice(3, 1), slice(2, 99), [0, 2], np.array([1, -1]), (), (1,), (1, 2), (-1, -1),
    (np.uint8(1), 2), (slice(None), 1), (1, slice(0, 2)), (..., 0), np.arange(5) > 2,
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=repr)
@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 3, 2)], ids=repr)
def test_indexing_as_numpy(store: slotfile.Store, shape: tuple[int, ...], key: object) -> None:
    model = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    array = store.array("a", np.int32, shape)
    array[...] = model
    try:
        expected = model[key]  # type: ignore[index]
    except IndexError:
        with pytest.raises(IndexError):
            array[key]
        with pytest.raises(IndexError):
            array[key] = 0
        assert (array.load() == model).all()
        return
    found = array[key]
    np.testing.assert_array_equal(found, expected)
    assert np.shape(found) == np.shape(expected)
    if np.ndim(expected) == 0 and isinstance(expected, np.int32):
        assert type(found) is int
    else:
        assert found.dtype == model.dtype
        found[...] = 55  # a copy
        assert (array.load() == model).all()

    version = array.version
    model[key] = 77  # type: ignore[index]
    array[key] = 77
    np.testing.assert_array_equal(array.load(), model)
    assert array.version == version + 1, "one update, at once"
    if np.ndim(expected) > 0:
        new = np.arange(expected.size).reshape(expected.shape) * 3
        model[key] = new  # type: ignore[index]
        array[key] = new.tolist() if new.size else new
        np.testing.assert_array_equal(array.load(), model)
        with pytest.raises((ValueError, TypeError)):
            array[key] = np.zeros((7, 9, 11))
        np.testing.assert_array_equal(array.load(), model)


@pytest.mark.parametrize("index", [5, -6, 2**70, (0, 0), "0", 1.0])
def test_indices_that_name_nothing(store: slotfile.Store, index: object) -> None:
    array = store.array("a", int, 5)
    with pytest.raises(IndexError):
        array[index]
    with pytest.raises(IndexError):
        array[index] = 1
    with pytest.raises(IndexError):
        array.add(index, 1)


def test_what_does_not_fit_changes_nothing(store: slotfile.Store) -> None:
    array = store.array("a", "uint8", 3, initial=[1, 2, 3])
    version = array.version
    for key, wrong, error in [
        (0, 256, OverflowError),
        (0, -1, OverflowError),
        (0, 1.5, TypeError),
        (slice(None), [1, 2, 300], OverflowError),
        (slice(None), [1, 2], ValueError),
        (slice(None), "abc", ValueError),
        ([0, 1], ["x", "y"], ValueError),
    ]:
        with pytest.raises(error):
            array[key] = wrong
    with pytest.raises(ValueError):
        array.store([1, 2])
    assert (list(array), array.version) == ([1, 2, 3], version)


@pytest.mark.parametrize("dtype", "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split())
def test_every_type(store: slotfile.Store, dtype: str) -> None:
    array = store.array("a", dtype, (2, 3), initial=[[0, 1, 0], [1, 1, 0]])
    assert array.dtype == np.dtype(dtype)
    assert (array.shape, array.ndim, array.size, len(array)) == ((2, 3), 2, 6, 2)
    copy = array.load()
    assert copy.dtype == np.dtype(dtype) and copy.flags.c_contiguous and copy.flags.writeable
    assert copy.tolist() == [[0, 1, 0], [1, 1, 0]]
    copy[:] = 1
    assert array[0, 0] == 0, "a copy"
    array.store(copy)
    assert np.asarray(array).tolist() == [[1, 1, 1], [1, 1, 1]]
    with array.update() as p:
        assert p.dtype == np.dtype(dtype)
        p[0] = 0
    assert array[:].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert array.swap((0, 1), 1) == 0
    assert array.compare_exchange((0, 1), 1, 0) is True
    assert array.compare_exchange((0, 1), 1, 0) is False


def test_elements_are_added_to_at_once(store: slotfile.Store) -> None:
    array = store.array("a", "int16", 4)
    assert array.add(1) == 1
    assert array.add(-3, 4) == 5
    assert array.fetch_add(1, 2**15 - 1) == 5
    assert array[1] == 5 - 2**15 - 1
    with pytest.raises(OverflowError):
        array.add(1, -40000)
    assert array.fetch_sub(0, 1) == 0
    assert array.fetch_max(0, 6) == -1
    assert array.fetch_min(0, 2) == 6
    assert array.fetch_or(0, 5) == 2
    assert array.fetch_and(0, 6) == 7
    assert array.fetch_xor(0, 3) == 6
    assert list(array) == [5, 5 - 2**15 - 1, 0, 0]


def test_load_into_an_array_of_ones_own(store: slotfile.Store) -> None:
    array = store.array("a", float, (2, 3), initial=[[1, 2, 3], [4, 5, 6]])
    out = np.empty((2, 3))
    assert array.load(out=out) is out
    assert out.tolist() == [[1, 2, 3], [4, 5, 6]]
    for wrong in (np.empty(6), np.empty((2, 3), np.float32), np.empty((2, 3), order="F"), [[0.0] * 3] * 2):
        with pytest.raises(TypeError, match="float64"):
            array.load(out=wrong)  # type: ignore[call-overload]
    out.flags.writeable = False
    with pytest.raises(ValueError):
        array.load(out=out)
    large = store.array("large", "uint8", 1 << 20)
    large[:] = 7
    content, version = large.load_versioned()
    assert (content == 7).all() and version == large.version


def test_the_array_protocol(store: slotfile.Store) -> None:
    array = store.array("a", "int32", 3, initial=[1, 2, 3])
    copy = np.asarray(array)
    copy[0] = 9
    assert array[0] == 1
    assert np.asarray(array, dtype=float).dtype == float
    assert np.sum(array) == 6  # type: ignore[call-overload]
    assert np.array(array, copy=True).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="copying"):
        np.asarray(array, copy=False)


def test_an_update_is_all_or_nothing(store: slotfile.Store) -> None:
    pose = store.array("pose", float, 3, initial=[1, 2, 3])
    with pose.update() as p:
        p *= 2
        assert pose.load().tolist() == [1, 2, 3], "not before the end"
    assert pose.load().tolist() == [2, 4, 6]
    version = pose.version
    with pytest.raises(ZeroDivisionError):
        with pose.update() as p:
            p[0] = 99
            1 / 0
    assert (pose.load().tolist(), pose.version) == ([2, 4, 6], version)
    # Neither a second update inside, which would be lost, nor a view that outlives it.
    with pose.update() as p:
        with pytest.raises(slotfile.Deadlock):
            pose.add(0, 1)
        with pytest.raises(slotfile.Deadlock):
            with pose.update():
                pass
        view = p[:2]
    view[:] = 55
    assert pose.load().tolist() == [2, 4, 6]
    with pose.lock():
        with pose.update() as p:
            p += 1
        assert pose[0] == 3
    with pytest.raises(RuntimeError, match="not held"):
        pose.update().__exit__(None, None, None)


def test_an_update_that_was_tampered_with_is_refused(store: slotfile.Store) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # numpy discourages it, too
    pose = store.array("pose", float, 4)
    for attribute, new in [("strides", (0,)), ("dtype", np.int32), ("dtype", np.int64)]:
        with pytest.raises(ValueError, match="layout"):
            with pose.update() as p:
                p[:] = 1
                setattr(p, attribute, new)
    assert pose.load().tolist() == [0] * 4
    with pose.update() as p:
        p.shape = (2, 2)
        p[1, 1] = 5
    assert pose.load().tolist() == [0, 0, 0, 5]
    with pytest.raises(slotfile.Error):
        with pose.update() as p:
            p.resize(2, refcheck=False)
    pose.add(0)
    assert pose.load().tolist() == [1, 0, 0, 5]


def test_never_torn(store: slotfile.Store) -> None:
    array = store.array("a", "int64", 1000)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            array[:] = n

    writer = threading.Thread(target=write)
    writer.start()
    out = np.empty(1000, np.int64)
    for _ in range(2000):
        array.load(out=out)
        assert (out == out[0]).all()
        part = array[10:500]
        assert (part == part[0]).all()
    stop.set()
    writer.join()


def test_repr_tells_type_and_content(store: slotfile.Store) -> None:
    array = store.array("a", "uint8", (2, 2), initial=[[1, 2], [3, 4]])
    assert repr(array) == "<Array 'a': uint8[2,2] = [[1, 2],\n [3, 4]]>"
    assert "..." in repr(store.array("long", float, 10000))


@pytest.mark.parametrize("shape", [0, (3, 0), (1, 2, 3, 4, 5), (), -1, "3", 1.5, (2**40, 2**40)])
def test_shapes_that_no_array_has(store: slotfile.Store, shape: object) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        store.array("a", float, shape)  # type: ignore[arg-type]
    assert "a" not in store


def test_any_byte_but_zero_is_true(store: slotfile.Store) -> None:
    flags = store.array("flags", bool, 3)
    flags[:] = np.array([0, 2, 255], np.uint8).view(bool)
    assert flags.load().view(np.uint8).tolist() == [0, 1, 1]
    with flags.update() as f:
        f.view(np.uint8)[:] = 0, 0, 7
    assert flags.load().view(np.uint8).tolist() == [0, 0, 1]


def test_what_is_stored_may_lie_in_memory_in_any_way(store: slotfile.Store) -> None:
    content = np.arange(12.0).reshape(3, 4)
    unaligned = np.frombuffer(b"x" + content.tobytes(), float, offset=1).reshape(3, 4)
    constant = content.copy()
    constant.flags.writeable = False
    wide = np.zeros((3, 8))
    wide[:, ::2] = content
    forms: list[object] = [
        content,
        unaligned,
        constant,
        wide[:, ::2],
        content[::-1].copy()[::-1],
        np.asfortranarray(content),
        content.astype(">f8"),
        content.astype(np.float32),
        content.view(np.recarray),
        np.ma.array(content, mask=content > 5).data,
        content.tolist(),
    ]
    array = store.array("a", float, (3, 4))
    for form in forms:
        for put in (array.store, lambda x: array.__setitem__(slice(None), x),
                    lambda x: array.__setitem__(..., x)):  # fmt: skip
            array.store(-1)
            put(form)
            assert (array.load() == content).all(), form
    array[...] = 7
    assert (array[...] == np.full((3, 4), 7.0)).all()


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs the interpreter lock"
)
def test_a_store_that_waits_takes_what_it_was_called_with(store: slotfile.Store) -> None:
    array = store.array("a", "int64", 100)
    content = np.ones(100, np.int64)
    calls = threading.Event()

    def put() -> None:
        calls.set()
        array.store(content)

    switches = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the thread runs until it waits
    try:
        with array.lock():
            thread = threading.Thread(target=put)
            thread.start()
            calls.wait()
            content[:] = 2
        thread.join()
    finally:
        sys.setswitchinterval(switches)
    assert array.load().tolist() == [1] * 100
