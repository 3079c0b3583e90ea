"""`Store.transaction` and `Store.snapshot`."""

from __future__ import annotations

import pathlib
import threading
import time

import numpy as np
import pytest

import slotfile

from conftest import in_child, join
from test_kills import HALFWAY, kill, start


def test_all_or_nothing(store: slotfile.Store) -> None:
    hits, pose = store.value("hits", int), store.array("pose", float, (2, 3))
    name, blob = store.text("name", 9), store.bytes("blob", 9)
    with store.transaction(hits, pose, name, blob) as tx:
        tx[hits] += 1
        with tx.update(pose) as p:
            p[0] = 5
        tx[name], tx[blob] = "Karel", b"\0"
        assert (tx[hits], tx[name], tx[blob]) == (1, "Karel", b"\0"), "it reads what it stored"
        assert tx[pose].tolist() == [[5, 5, 5], [0, 0, 0]]
        assert (hits.value, name.value, blob.value) == (0, "", b""), "the others do not yet"
        assert not pose.load().any()
    assert (hits.value, name.value, blob.value) == (1, "Karel", b"\0")
    assert pose[0].tolist() == [5, 5, 5]
    versions = [slot.version for slot in (hits, pose, name, blob)]
    with pytest.raises(ZeroDivisionError):
        with store.transaction(hits, pose) as tx:
            tx[hits] = 99
            with tx.update(pose) as p:
                p[:] = 99
            1 / 0
    with pytest.raises(ZeroDivisionError):
        with store.transaction(pose) as tx:
            with tx.update(pose) as p:
                p[:] = 99
                1 / 0
    assert [slot.version for slot in (hits, pose, name, blob)] == versions
    hits.add(1)
    pose[0, 0] = 1


def test_what_does_not_fit_is_refused_and_the_rest_goes_on(store: slotfile.Store) -> None:
    small, pose, name = store.value("small", "uint8"), store.array("pose", float, 3), store.text("name", 3)
    other, frame = store.value("other", int), store.buffer("frame", int, 3)
    with store.transaction(small, pose, name) as tx:
        for slot, new, error in [
            (small, 256, OverflowError),
            (small, "1", TypeError),
            (pose, [1, 2], ValueError),
            (name, "too long", slotfile.Invalid),
            (name, 5, TypeError),
        ]:
            with pytest.raises(error):
                tx[slot] = new
        with pytest.raises(KeyError, match="name it"):
            tx[other]
        with pytest.raises(KeyError, match="name it"):
            tx[other] = 1
        with pytest.raises(TypeError):
            tx["small"]  # type: ignore[call-overload]
        with pytest.raises(slotfile.Deadlock):
            with store.transaction(other):
                pass
        with pytest.raises(slotfile.Deadlock):
            small.add(1)
        tx[small] = 7
    assert (small.value, name.value, list(pose)) == (7, "", [0, 0, 0])
    with pytest.raises(slotfile.Invalid):
        with store.transaction(frame):
            pass
    with pytest.raises(slotfile.Invalid, match="another store"):
        with store.transaction(slotfile.temporary().value("x", int)):
            pass
    with pytest.raises(RuntimeError, match="not held"):
        store.transaction(small)[small]
    with store.transaction():
        pass
    del store["other"]
    with pytest.raises(slotfile.Removed):
        with store.transaction(other, small):
            pass
    small.add(1)


def test_row_16_opposite_orders(store: slotfile.Store) -> None:
    """Threads and processes take the same slots in every order; no unit is lost."""
    accounts = [store.value(f"account {n}", "int64", initial=100) for n in range(4)]

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(100):
            a, b = (accounts[i] for i in random.choice(4, 2, replace=False))
            with store.transaction(a, b) as tx:
                amount = min(tx[a], 7)
                tx[a] -= amount
                tx[b] += amount

    stop = threading.Event()
    sums: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            sums.add(sum(store.snapshot(*accounts)))

    reader = threading.Thread(target=read)
    reader.start()
    children = [in_child(lambda: work(seed)) for seed in range(3)]
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (10, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [join(child) for child in children] == [0] * 3
    stop.set()
    reader.join()
    assert sums == {400}, "a snapshot is of one instant"
    assert sum(account.value for account in accounts) == 400


def test_a_transaction_under_ones_own_lock(store: slotfile.Store) -> None:
    a, b = store.value("a", int), store.value("b", int)
    with a.lock():
        with store.transaction(a, b) as tx:
            tx[a], tx[b] = 1, 2
        a.add(1)
    assert store.snapshot(a, b) == (2, 2)


def test_row_01_a_transaction_is_gone_if_it_is_killed_half_way(path: pathlib.Path) -> None:
    store = slotfile.open(path)
    hits, pose = store.value("hits", int, initial=5), store.array("pose", float, 100)
    child = start(
        "hits, pose = store.value('hits', int), store.array('pose', float, 100)\n"
        "with store.transaction(hits, pose) as tx:\n"
        "    tx[hits] += 1\n"
        "    with tx.update(pose) as p:\n        p += 1\n"
        f"    {HALFWAY}",
        path,
    )
    assert store.snapshot(hits, pose)[0] == 5
    kill(child)
    with store.transaction(hits, pose) as tx:
        assert tx[hits] == 5 and not tx[pose].any()
        tx[hits] = 6
    assert hits.value == 6


def test_row_01_transactions_killed_at_any_moment(path: pathlib.Path) -> None:
    store = slotfile.open(path)
    a, b = store.array("a", "int64", 500), store.value("b", "int64")
    for round_ in range(5):
        child = start(
            "a, b = store.array('a', 'int64', 500), store.value('b', 'int64')\n"
            "print('half-way', flush=True)\n"
            "while True:\n    with store.transaction(a, b) as tx:\n"
            "        tx[b] += 1\n        tx[a] = tx[b]",
            path,
        )
        time.sleep(0.02 + 0.003 * round_)
        kill(child)
        content, count = store.snapshot(a, b)
        assert (content == count).all() and count > 0
        with store.transaction(a, b) as tx:
            tx[b] += 1
            tx[a] = tx[b]
    assert store.check().ok


def test_snapshots(store: slotfile.Store) -> None:
    a, b = store.value("a", float, initial=0.5), store.array("b", "uint8", (2, 2), initial=3)
    t = store.text("t", 5, "text")
    value, array, text = store.snapshot(a, b, t)
    assert (value, array.tolist(), text) == (0.5, [[3, 3], [3, 3]], "text")
    assert array.dtype == np.uint8
    assert store.snapshot() == ()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.snapshot(a)
    with pytest.raises(ValueError, match="closed"):
        store.transaction(a)
