"""The works that Python's multiprocessing can do: `multiprocessing.py WORK SECONDS`.

Prints the figures of the work as JSON, in the order and the units of the harness.
"""

import ctypes
import json
import multiprocessing
import os
import statistics
import sys
import time

TRIES, EQUAL = 5, 0.6
MARKED = 128


def per_operation(effort, run):
    """Nanoseconds of one operation: the median of nine batches."""
    batch, count = effort / 9, 1
    while (took := run(count)) < batch / 2:
        count *= 2
    count = max(1, int(count * batch / took))
    return statistics.median(1e9 * run(count) / count for _ in range(9))


def timed(operation):
    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            operation()
        return time.perf_counter() - start

    return run


def bind_to(processor):
    os.sched_setaffinity(0, {processor})


def read(effort):
    value = multiprocessing.Value(ctypes.c_uint64, 3)
    each = per_operation(effort, timed(lambda: value.value))
    assert value.value == 3
    return [each], []


def add_one(value):
    with value.get_lock():
        value.value += 1


def add(effort):
    value = multiprocessing.Value(ctypes.c_uint64, 0)
    added = 0

    def run(count):
        nonlocal added
        added += count
        start = time.perf_counter()
        for _ in range(count):
            with value.get_lock():
                value.value += 1
        return time.perf_counter() - start

    each = per_operation(effort, run)
    assert value.value == added
    return [each], []


def adder(value, barrier, over, processor, result):
    bind_to(processor)
    barrier.wait()
    start, count = time.perf_counter(), 0
    while not over.value:
        for _ in range(16):
            add_one(value)
        count += 16
    result.put((count, time.perf_counter() - start))


def add_two(effort):
    runs = []
    for _ in range(TRIES):
        value = multiprocessing.Value(ctypes.c_uint64, 0)
        over = multiprocessing.RawValue(ctypes.c_bool, False)
        barrier, result = multiprocessing.Barrier(3), multiprocessing.Queue()
        sides = [
            multiprocessing.Process(target=adder, args=(value, barrier, over, i, result))
            for i in range(2)
        ]
        for side in sides:
            side.start()
        barrier.wait()
        time.sleep(effort)
        over.value = True
        done = [result.get() for _ in sides]
        for side in sides:
            side.join()
        total = sum(count for count, _ in done)
        assert value.value == total, "lost"
        share = max(count for count, _ in done) / total
        runs.append((share, sum(count / took for count, took in done)))
        if share <= EQUAL:
            break
    share, rate = min(runs)
    notes = []
    if share > EQUAL:
        notes.append(f"unequal shares in each of {TRIES} tries")
    elif len(runs) > 1:
        notes.append("repeated for unequal shares")
    return [rate], notes


def whole(words):
    def work(effort):
        array = multiprocessing.Array(ctypes.c_uint64, words)
        content = list(range(1, words + 1))

        def replace():
            array[:] = content

        replaced = per_operation(effort, timed(replace))
        read = per_operation(effort, timed(lambda: array[:]))
        assert array[:] == content
        return [replaced, read], []

    return work


def writer(array, barrier, over, result):
    bind_to(1)
    content = [0] * len(array)
    barrier.wait()
    start, count = time.perf_counter(), 0
    while not over.value:
        count += 1
        for i in range(0, len(content), MARKED):
            content[i] = count
        array[:] = content
    result.put(count / (time.perf_counter() - start))


def beside_a_writer(effort):
    array = multiprocessing.Array(ctypes.c_uint64, 8192)
    over = multiprocessing.RawValue(ctypes.c_bool, False)
    barrier, result = multiprocessing.Barrier(2), multiprocessing.Queue()
    side = multiprocessing.Process(target=writer, args=(array, barrier, over, result))
    side.start()
    bind_to(0)
    barrier.wait()
    start, times, last = time.perf_counter(), [], 0
    while time.perf_counter() - start < 4 * effort:
        begun = time.perf_counter()
        out = array[:]
        times.append(1e9 * (time.perf_counter() - begun))
        assert all(word == out[0] for word in out[::MARKED]), "torn"
        assert out[0] >= last, "older than the one before"
        last = out[0]
    took = time.perf_counter() - start
    over.value = True
    writes = result.get()
    side.join()
    assert last > 0, "no write was seen"
    times.sort()
    return [len(times) / took, times[int(0.999 * (len(times) - 1))], writes], []


def waiter(count, ping, pong, stamp, result):
    bind_to(1)
    times = []
    for number in range(1, count + 1):
        ping.wait(number)
        times.append(1e9 * (time.monotonic() - stamp.value))
        pong.send(number)
    result.put(statistics.median(times))


class Signal:
    """A number that is waited for."""

    def __init__(self):
        self.condition = multiprocessing.Condition()
        self.number = multiprocessing.RawValue(ctypes.c_uint64, 0)

    def send(self, number):
        with self.condition:
            self.number.value = number
            self.condition.notify()

    def wait(self, number):
        with self.condition:
            self.condition.wait_for(lambda: self.number.value >= number)


def wait(pause, turn):
    def work(effort):
        count = int(effort / turn) + 1
        ping, pong = Signal(), Signal()
        stamp = multiprocessing.RawValue(ctypes.c_double, 0.0)
        result = multiprocessing.Queue()
        side = multiprocessing.Process(target=waiter, args=(count, ping, pong, stamp, result))
        side.start()
        bind_to(0)
        for number in range(1, count + 1):
            if pause:
                time.sleep(pause)
            stamp.value = time.monotonic()
            ping.send(number)
            pong.wait(number)
        median = result.get()
        side.join()
        return [median], []

    return work


WORKS = {
    "read": read,
    "add": add,
    "add-two": add_two,
    "whole-1k": whole(128),
    "whole-64k": whole(8192),
    "beside-a-writer": beside_a_writer,
    "wait-busy": wait(0, 200e-6),
    "wait-idle": wait(1e-3, 1e-3),
}

if __name__ == "__main__":
    # As it is on Linux up to 3.13; a spawned process would import this file anew.
    multiprocessing.set_start_method("fork")
    figures, notes = WORKS[sys.argv[1]](float(sys.argv[2]))
    doubtful = any(note.startswith("unequal") for note in notes)
    print(json.dumps({"figures": figures, "notes": notes, "doubtful": doubtful}))
