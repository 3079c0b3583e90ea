"""`slotfile.Buffer`: live views, and elements that are atomic."""

from __future__ import annotations

import gc
import pathlib
import threading

import numpy as np
import pytest

import slotfile

from conftest import in_child, join


@pytest.mark.parametrize("dtype", "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split())
@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 1, 3, 2)], ids=repr)
def test_views_are_live(store: slotfile.Store, dtype: str, shape: tuple[int, ...]) -> None:
    frame = store.buffer("frame", dtype, shape)
    view = np.asarray(frame)
    assert (view.shape, view.dtype) == (shape, np.dtype(dtype)) == (frame.shape, frame.dtype)
    assert view.flags.c_contiguous and view.flags.writeable and not view.flags.owndata
    view[...] = 1
    last = tuple(n - 1 for n in shape)
    assert frame[last] == 1 and type(frame[last]) in (bool, int, float)
    frame[last] = 0
    assert view[last] == 0
    again = np.asarray(slotfile.Store.buffer(store, "frame", dtype, shape))
    assert np.shares_memory(view, again) or view.__array_interface__["data"] == again.__array_interface__["data"]
    memory = frame.buf
    assert (memory.format, memory.shape, memory.readonly) == (np.dtype(dtype).char.replace("l", "q").replace("L", "Q"), shape, False)
    assert memory.nbytes == frame.size * np.dtype(dtype).itemsize
    assert memory.tobytes() == view.tobytes()
    assert frame.__array_interface__["shape"] == shape
    assert frame.__array_interface__["data"] == view.__array_interface__["data"]
    copy = frame.load()
    copy[...] = 0
    assert view.any()
    assert memoryview(frame).cast("B").nbytes == memory.nbytes


def test_elements_are_atomic(store: slotfile.Store) -> None:
    counters = store.buffer("counters", "uint16", 4, initial=[0, 0, 5, 65535])
    assert list(counters) == [0, 0, 5, 65535]

    def work() -> None:
        for _ in range(500):
            counters.add(0)
            counters.fetch_add(1, 3)

    children = [in_child(work) for _ in range(2)]
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [join(child) for child in children] == [0, 0]
    assert counters[:2].tolist() == [2500, 7500]
    with pytest.raises(OverflowError):
        counters.add(3)
    assert counters[3] == 65535
    assert counters.fetch_add(3, 1) == 65535 and counters[3] == 0
    assert counters.swap(2, 7) == 5
    assert counters.compare_exchange(2, 7, 8) and not counters.compare_exchange(2, 7, 9)
    assert counters.fetch_max(2, 3) == 8
    with pytest.raises(IndexError):
        counters[4]
    with pytest.raises(OverflowError):
        counters[0] = -1
    counters[1:3] = 9
    assert list(counters) == [2500, 9, 9, 0]
    assert repr(counters) == "<Buffer 'counters': uint16[4] = [2500,    9,    9,    0]>"


def test_notify_wakes_those_who_wait(store: slotfile.Store) -> None:
    frame = store.buffer("frame", float, 3)
    seen = frame.version
    np.asarray(frame)[:] = 5
    assert frame.wait_for_change(seen, 0.02) is None, "what is stored moves no version"
    threading.Timer(0.02, frame.notify).start()
    found = frame.wait_until(lambda f: frame.version > seen, 60)
    assert found is not None and found.tolist() == [5, 5, 5]


def test_row_42_a_view_outlives_its_store(path: pathlib.Path) -> None:
    store = slotfile.open(path)
    frame = store.buffer("frame", "uint8", (100, 100))
    view, memory = np.asarray(frame), frame.buf
    store.close()
    for used in (lambda: frame[0, 0], lambda: np.asarray(frame), lambda: frame.buf, lambda: frame.add((0, 0))):
        with pytest.raises(ValueError, match="closed"):
            used()
    del store, frame
    gc.collect()
    view[5, 5] = 77  # a live view, not a crash
    assert memory[5, 5] == 77
    with slotfile.open(path) as again:
        assert again["frame"][5, 5] == 77
    path.unlink()
    part = view[3:7]
    del view, memory
    gc.collect()
    assert part[2, 5] == 77


def test_a_view_of_a_store_that_is_only_read(path: pathlib.Path) -> None:
    with slotfile.open(path) as store:
        store.buffer("frame", int, 3)[1] = 5
    with slotfile.open(path, "r") as store:
        frame = store["frame"]
        view = np.asarray(frame)
        assert view.tolist() == [0, 5, 0] and not view.flags.writeable
        with pytest.raises(ValueError):
            view[0] = 1
        assert frame.buf.readonly
        with pytest.raises(slotfile.ReadOnly):
            frame[0] = 1
        with pytest.raises(slotfile.ReadOnly):
            frame.add(0)


def test_a_buffer_is_synced_and_shared(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with slotfile.open(path) as store:
        frame = store.buffer("frame", np.int32, 1000)
        np.asarray(frame)[:] = np.arange(1000)
        store.copy_to(tmp_path / "copy")
    with slotfile.open(tmp_path / "copy") as copied:
        assert copied["frame"].load().tolist() == list(range(1000))


def test_adding_through_a_view_under_the_lock(store: slotfile.Store) -> None:
    frame = store.buffer("frame", "int64", 10)

    def work() -> None:
        view = np.asarray(store.buffer("frame", "int64", 10))
        for _ in range(200):
            with frame.lock():
                view += 1

    children = [in_child(work) for _ in range(3)]
    assert [join(child) for child in children] == [0, 0, 0]
    assert list(frame) == [600] * 10
