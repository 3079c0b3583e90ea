"""The native API beside the standard library, in one run: `python benches/slots.py`.

Nanoseconds for each operation: the fastest of many short rounds that take turns, so that both
sides see the same machine, and neither what else runs on it. `goal` is for a machine on which `multiprocessing.Value`'s own figures are
those of the column `there`; what counts is the ratio.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import statistics
import tempfile
import time
import timeit
from multiprocessing import shared_memory

import numpy as np

import slotfile

ROUNDS = 200
BY_PROCESS = 200_000

# What is done; with the standard library; its figure on the machine of the goals; the goal.
Row = tuple[str, str, str, float, float]
ROWS: list[Row] = [
    ("with v.lock(): v.value += 1", "with sv.get_lock():\n    sv.value += 1", "with v.lock():\n    v.value += 1", 502, 350),
    ("v.value", "sv.value", "v.value", 117, 60),
    ("v.value = 5", "sv.value = 5", "v.value = 5", 0, 0),
    ("v.add(1)", "with sv.get_lock():\n    sv.value += 1", "v.add(1)", 502, 70),
    ("a.add(i, 1)", "with sa.get_lock():\n    sa[5] += 1", "a.add(5, 1)", 1031, 350),
    ("a[i]", "sa[5]", "a[5]", 381, 70),
    ("a[i] = 5", "sa[5] = 5", "a[5] = 5", 0, 0),
    ("a.load() of ten", "sa[:]", "a.load()", 514, 160),
    ("64 KiB, consistent, load()", "with lock:\n    shared.copy()", "large.load()", 1830, 1900),
    ("64 KiB, consistent, load(out=)", "with lock:\n    np.copyto(out, shared)", "large.load(out=out)", 1830, 1900),
    ("with a.update() as p: p += 1", "with sa.get_lock():\n    np.frombuffer(sa.get_obj(), np.int32)[:] += 1", "with a.update() as p:\n    p += 1", 0, 0),
    ("transaction of two values", "", "with store.transaction(v, w) as tx:\n    tx[v] = 1\n    tx[w] = 2", 0, 0),
]  # fmt: skip


def fastest(timers: list[timeit.Timer]) -> list[float]:
    count = max(1, int(0.0005 / min(timer.timeit(100) / 100 for timer in timers)))
    rounds = [[1e9 * timer.timeit(count) / count for timer in timers] for _ in range(ROUNDS)]
    return [min(side) for side in zip(*rounds)]


def add_in_standard(value: object, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    for _ in range(BY_PROCESS):
        with value.get_lock():  # type: ignore[attr-defined]
            value.value += 1  # type: ignore[attr-defined]


def add_in_slotfile(value: slotfile.Value[int], start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    for _ in range(BY_PROCESS):
        value.add(1)


def two_processes(work: object, value: object) -> float:
    """Additions in a second, of two processes together."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    processes = [context.Process(target=work, args=(value, start)) for _ in range(2)]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    start.wait()
    begun = time.perf_counter()
    for process in processes:
        process.join()
    assert value.value == 2 * BY_PROCESS, "some were lost"  # type: ignore[attr-defined]
    return 2 * BY_PROCESS / (time.perf_counter() - begun)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = slotfile.open(pathlib.Path(folder) / "bench.slots")
        memory = shared_memory.SharedMemory(create=True, size=1 << 16)
        names = {
            "np": np,
            "store": store,
            "v": store.value("v", "int32"),
            "w": store.value("w", "int32"),
            "a": store.array("a", "int32", 10),
            "large": store.array("large", float, 8192),
            "sv": multiprocessing.Value("i", 0),
            "sa": multiprocessing.Array("i", 10),
            "shared": np.ndarray(8192, float, memory.buf),
            "lock": multiprocessing.Lock(),
            "out": np.zeros(8192),
        }
        print(f"{'ns':>32} {'slotfile':>9} {'standard':>9} {'ratio':>6}   goal of there")
        for name, standard, ours, there, goal in ROWS:
            timers = [timeit.Timer(what, globals=names) for what in (ours, standard) if what]
            times = fastest(timers)
            beside = f"{times[1]:9.0f} {times[1] / times[0]:5.1f}x" if standard else ""
            # Scaled by how much slower this machine is than that of the goals.
            verdict = ""
            if goal:
                scaled = times[0] * there / times[1]
                verdict = f"   {goal:4.0f} of {there:5.0f}: {scaled:5.0f}{'' if scaled <= goal else ' missed'}"
            print(f"{name:>32} {times[0]:9.0f} {beside}{verdict}")
        ours = statistics.median(
            two_processes(add_in_slotfile, store.value(f"shared {n}", "int64")) for n in range(5)
        )
        standard = statistics.median(
            two_processes(add_in_standard, multiprocessing.Value("q", 0)) for _ in range(5)
        )
        print(f"two processes, additions a second, {os.cpu_count()} processors: ", end="")
        print(f"slotfile {ours / 1e6:.1f} M, standard {standard / 1e6:.2f} M, {ours / standard:.1f}x")
        names.clear()
        memory.close()
        memory.unlink()


if __name__ == "__main__":
    main()
