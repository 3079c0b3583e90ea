"""Arrays beside numpy's own copies, in one run: `python benches/copies.py`.

How many times as long each takes as numpy's copy of as many bytes in private memory; and, after
the slash, as numpy's copy out of, or into, memory that processes share, as slotfile's is. The
contestants take turns in short rounds, so that they see the same machine; these are the medians of
the rounds' ratios.
"""

from __future__ import annotations

import mmap
import os
import statistics
import timeit

import numpy as np

import slotfile

KIB, MIB = 1 << 10, 1 << 20
SIZES = [KIB, 8 * KIB, 64 * KIB, MIB, 6 * MIB, 16 * MIB, 64 * MIB]
# What slotfile does; numpy in private memory; the same in shared memory; at most so many times as
# long. An array has two areas, which its updates fill in turn: so does numpy, into shared memory.
Row = tuple[str, str, str, float]
ROWS: list[Row] = [
    ("a.load()", "x.copy()", "s.copy()", 1.1),
    ("a.load(out=out)", "np.copyto(out, x)", "np.copyto(out, s)", 1.1),
    ("a.store(x)", "np.copyto(y, x)", "np.copyto(s, x); s, t = t, s", 1.1),
    ("a[:] = x", "y[:] = x", "s[:] = x; s, t = t, s", 1.1),
    ("with a.update() as p: pass", "p = x.copy()", "p = s.copy()", 2.2),
]
TURNS = "s, t = areas"
# How long each contestant is measured for, in seconds, and in how many rounds at least.
ALL, LEAST_ROUNDS = 0.3, 25


def ratios(timers: list[timeit.Timer]) -> list[float]:
    """How many times as long the first takes as each of the others."""
    once = min(timer.timeit(2) / 2 for timer in timers)
    count = max(2, int(0.0003 / once))
    rounds = max(LEAST_ROUNDS, int(ALL / (count * once)))
    times = [[timer.timeit(count) / count for timer in timers] for _ in range(rounds)]
    in_rounds = [[ours / other for other in others] for ours, *others in times]
    return [statistics.median(of_one) for of_one in zip(*in_rounds)]


def shared(x: np.ndarray) -> np.ndarray:
    file = os.memfd_create("bench")
    os.ftruncate(file, x.nbytes)
    copy = np.frombuffer(mmap.mmap(file, x.nbytes), x.dtype)
    os.close(file)
    copy[:] = x
    return copy


def names_for(size: int) -> dict[str, object]:
    x = np.random.default_rng(size).random(size // 8)
    a = slotfile.temporary().array("a", float, x.shape)
    for _ in range(2):  # both of its areas are in memory
        a.store(x)
    areas = [shared(x), shared(x)]
    return {"np": np, "a": a, "x": x, "y": x.copy(), "out": x.copy(), "areas": areas}


def sized(size: int) -> str:
    return f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"


def main() -> None:
    print("| | beside | at most |", " | ".join(map(sized, SIZES)), "|")
    print("|", " | ".join(["---"] * (3 + len(SIZES))), "|")
    names = [names_for(size) for size in SIZES]
    for ours, private, there, goal in ROWS:
        cells = []
        for of_size in names:
            what = [(ours, "pass"), (private, "pass"), (there, TURNS)]
            timers = [timeit.Timer(call, setup, globals=of_size) for call, setup in what]
            cells.append(" / ".join(f"{ratio:.2f}" for ratio in ratios(timers)))
        print(f"| `{ours}` | `{private}` | {goal} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
