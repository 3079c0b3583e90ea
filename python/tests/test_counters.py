"""`slotfile.Counter`: many add to it at once, and no add is lost."""

from __future__ import annotations

import multiprocessing
import pathlib
import pickle
import threading

import numpy as np
import pytest

import slotfile


def test_it_counts(store: slotfile.Store) -> None:
    hits = store.counter("hits", initial=40)
    hits.add()
    hits.add(np.int64(5))
    hits.add(-3)
    assert hits.value == store.counter("hits").value == store["hits"].value == 43
    assert (hits.type, hits.version) == ("counter", 0)
    assert hits.swap(7) == 43
    hits.value = 2**63 - 1
    hits.add()
    assert hits.value == -(2**63)
    assert hits.version == 2
    assert repr(hits) == "<Counter 'hits': counter = -9223372036854775808>"
    with pytest.raises(OverflowError):
        hits.add(2**63)
    with pytest.raises(TypeError):
        hits.add(1.5)  # type: ignore[arg-type]
    with pytest.raises(slotfile.TypeMismatch):
        store.value("hits", int)
    del store["hits"]
    with pytest.raises(slotfile.Removed):
        hits.add()


def test_what_it_cannot_do(store: slotfile.Store) -> None:
    hits = store.counter("hits")
    assert not hasattr(hits, "wait_until") and not hasattr(hits, "wait_async")
    with pytest.raises((TypeError, slotfile.Invalid)):
        store.snapshot(hits)
    with pytest.raises((TypeError, slotfile.Invalid)):
        with store.transaction(hits):
            pass
    store.close()
    with pytest.raises(ValueError):
        hits.add()
    with pytest.raises(ValueError):
        hits.value


def add(hits: slotfile.Counter) -> None:
    for _ in range(5_000):
        hits.add()


def test_no_add_is_lost(path: pathlib.Path) -> None:
    with slotfile.open(path) as store:
        hits = store.counter("hits")
        assert pickle.loads(pickle.dumps(hits)).value == 0
        spawned = multiprocessing.get_context("spawn")
        processes = [spawned.Process(target=add, args=(hits,)) for _ in range(2)]
        threads = [threading.Thread(target=add, args=(hits,)) for _ in range(2)]
        for adder in [*processes, *threads]:
            adder.start()
        for adder in [*processes, *threads]:
            adder.join()
        assert hits.value == 20_000
