"""`slotfile.multiprocessing` beside `multiprocessing`, in one run: `python benches/drop_ins.py`.

Nanoseconds for each operation: the median of rounds that take turns, so that both sides see
the same machine.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.shared_memory
import statistics
import timeit

import slotfile.multiprocessing

ROUNDS = 15
OPERATIONS = {
    "with v.get_lock(): v.value += 1": "with v.get_lock():\n    v.value += 1",
    "v.value": "v.value",
    "v.value = 5": "v.value = 5",
    "with a.get_lock(): a[i] += 1": "with a.get_lock():\n    a[5] += 1",
    "a[i]": "a[5]",
    "a[:] of ten": "a[:]",
    "Value('i', 5)": "mp.Value('i', 5)",
    **{
        f"SharedMemory of {kib} KiB{how}": f"b = mp.shared_memory.SharedMemory(create=True, size={kib << 10})\n{use}"
        "b.close()\nb.unlink()"
        for kib in (1, 64, 1024)
        for how, use in (("", ""), (", filled", f"b.buf[:] = bytes({kib << 10})\n"))
    },
}


def rounds(modules: list[object], operation: str) -> list[float]:
    timers = []
    for mp in modules:
        names = {"mp": mp, "v": mp.Value("i", 0), "a": mp.Array("i", range(10))}  # type: ignore[attr-defined]
        timers.append(timeit.Timer(operation, globals=names))
    count = max(1, int(0.01 / min(timer.timeit(100) / 100 for timer in timers)))
    times = [[1e9 * timer.timeit(count) / count for timer in timers] for _ in range(ROUNDS)]
    return [statistics.median(side) for side in zip(*times)]


def main() -> None:
    print(f"{'ns':>34} {'slotfile':>9} {'standard':>9} {'ratio':>6}")
    for name, operation in OPERATIONS.items():
        ours, standard = rounds([slotfile.multiprocessing, multiprocessing], operation)
        print(f"{name:>34} {ours:9.0f} {standard:9.0f} {standard / ours:5.1f}x")


if __name__ == "__main__":
    main()
