"""Row 23: too little memory is a MemoryError; nothing ends the process, nothing was changed."""

from __future__ import annotations

import pytest

from conftest import run

# Of 64 MiB, of which 16 fit.
PROGRAM = """
import resource, threading
import numpy as np, slotfile
from slotfile.multiprocessing import Array
N = 64 << 20
store = slotfile.temporary()
numbers, text, blob = store.array("a", float, N // 8), store.text("t", N), store.bytes("b", N)
frame, shared = store.buffer("f", float, N // 8), Array("d", N // 8)
text.value, blob.value = "x" * N, b"x" * N
source, narrow, string, content = np.ones(N // 8), np.ones(N // 8, "f4"), "y" * N, b"y" * N
small = store.value("v", int)

def mapped():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmSize")).split()[1]) << 10

def update():
    with numbers.update():
        pass

def transaction(slot, new):
    with store.transaction(slot) as tx:
        tx[slot] = new

def seen_by_transaction(slot):
    with store.transaction(slot) as tx:
        tx[slot]

def strided(slot):
    slot[::2] = 1.0

def busy(slot, call):
    "Another thread has the slot locked when the call begins."
    has, done = threading.Event(), threading.Event()
    def hold():
        with slot.lock():
            has.set()
            done.wait()
    holder = threading.Thread(target=hold)
    holder.start()
    has.wait()
    try:
        call()
    finally:
        done.set()
        holder.join()

def all_numbers():
    numbers.store(source)

CALLS = dict(
    load=numbers.load, block=lambda: numbers[1:], picked=lambda: numbers[::2], update=update,
    strided=lambda: strided(numbers), converted=lambda: numbers.store(narrow), filled=lambda: numbers.store(1.0),
    repr=lambda: repr(numbers), listed=lambda: list(numbers), as_numpy=lambda: np.asarray(numbers),
    waited=lambda: numbers.wait_until(lambda _: True), transaction=lambda: transaction(numbers, source),
    in_transaction=lambda: seen_by_transaction(numbers), snapshot=lambda: store.snapshot(numbers, small),
    initial=lambda: store.array("new", float, N // 8, initial=source),
    initial_buffer=lambda: store.buffer("new", float, N // 8, initial=source),
    initial_filled=lambda: store.array("new", float, N // 8, initial=1.0),
    watched=lambda: next(store.watch("a", present=True)), copied=frame.load,
    text=lambda: text.value, text_repr=lambda: repr(text), text_store=lambda: setattr(text, "value", string),
    text_initial=lambda: store.text("new", N, initial=string), text_tx=lambda: transaction(text, string),
    bytes=lambda: blob.value, bytes_repr=lambda: repr(blob), bytes_store=lambda: setattr(blob, "value", content),
    bytes_initial=lambda: store.bytes("new", N, initial=content), bytes_tx=lambda: transaction(blob, content),
    shared=lambda: shared[:],
    busy=lambda: busy(numbers, all_numbers),
    busy_text=lambda: busy(text, lambda: setattr(text, "value", string)),
)
assert store.snapshot(small) == (0,)
busy(small, lambda: None)
resource.setrlimit(resource.RLIMIT_AS, (mapped() + N // 4, resource.RLIM_INFINITY))
for name, call in CALLS.items():
    try:
        call()
    except MemoryError:
        continue
    print("no MemoryError:", name)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert not numbers.load().any() and text.value == "x" * N and blob.value == b"x" * N
assert "new" not in store and numbers.version == 0
for slot in (numbers, text, blob):
    with slot.lock(timeout=0):
        pass
"""


def test_row_23_no_memory_is_a_memory_error() -> None:
    pytest.importorskip("resource")
    assert run(PROGRAM) == ""
