"""Programs as people write them for the standard library, with their import lines changed and
nothing else; and each in its lasting form, which goes on where the last run stopped."""

from __future__ import annotations

import os
import pathlib
import secrets
import subprocess
import sys

import pytest

from conftest import HANG

VALUE = """
from multiprocessing import Process, Value
import time

def increment_value(shared_value):
    for _ in range(100):
        with shared_value.get_lock():
            shared_value.value += 1
        time.sleep(0.01)

if __name__ == '__main__':
    shared_value = Value('i', 0)
    processes = [Process(target=increment_value, args=(shared_value,)) for _ in range(10)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(shared_value.value)
"""

ARRAY = """
from multiprocessing import Process, Array
import time

def increment_array(shared_array):
    for _ in range(100):
        with shared_array.get_lock():
            for i in range(len(shared_array)):
                shared_array[i] += 1
        time.sleep(0.01)

if __name__ == '__main__':
    shared_array = Array('i', 10)
    processes = [Process(target=increment_array, args=(shared_array,)) for _ in range(10)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(list(shared_array))
"""

SHARED_MEMORY = """
from multiprocessing import Process
from multiprocessing.shared_memory import SharedMemory
import numpy as np

def modify_shared_memory(shared_mem_name, shape, dtype):
    existing_shm = SharedMemory(name=shared_mem_name)
    array = np.ndarray(shape, dtype=dtype, buffer=existing_shm.buf)
    array += 1
    existing_shm.close()

if __name__ == '__main__':
    shape = (10,)
    dtype = np.int32
    shm = SharedMemory(create=True, size=np.prod(shape) * np.dtype(dtype).itemsize)
    array = np.ndarray(shape, dtype=dtype, buffer=shm.buf)
    array[:] = 0
    processes = [Process(target=modify_shared_memory, args=(shm.name, shape, dtype)) for _ in range(10)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(array)
    shm.close()
    shm.unlink()
"""

MMAP = """
import mmap
import os
import time
from multiprocessing import Process

def modify_mmap(filename, size):
    with open(filename, "r+b") as f:
        mm = mmap.mmap(f.fileno(), size)
        for i in range(size):
            mm[i] = (mm[i] + 1) % 256
        mm.close()

if __name__ == '__main__':
    filename = "shared_memory.bin"
    size = 10
    with open(filename, "wb") as f:
        f.write(bytearray(size))
    processes = [Process(target=modify_mmap, args=(filename, size)) for _ in range(10)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    with open(filename, "rb") as f:
        data = f.read()
    print(list(data))
    os.remove(filename)
"""

ALL_AT_ONCE = """    for p in processes:
        p.start()
    for p in processes:
        p.join()
"""
# The last two programs add without a lock: run at once, one process may write over what another
# has added. That is so with the standard library, too, and not what is tested here.
ONE_BY_ONE = """    for p in processes:
        p.start()
        p.join()
"""

TENS = "[10, 10, 10, 10, 10, 10, 10, 10, 10, 10]\n"
PROGRAMS = {
    "value": (VALUE, "1000\n"),
    "array": (ARRAY, f"{[1000] * 10}\n"),
    "shared memory": (SHARED_MEMORY, "[10 10 10 10 10 10 10 10 10 10]\n"),
    "mmap": (MMAP, TENS),
}


WITHOUT_A_LOCK = ["shared memory", "mmap"]


def changed(program: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in program
        program = program.replace(old, new)
    return program


def run(program: str, folder: pathlib.Path, **environment: str) -> str:
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("standard", [True, False], ids=["standard", "slotfile"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program(name: str, standard: bool, tmp_path: pathlib.Path) -> None:
    program, printed = PROGRAMS[name]
    if not standard:
        program = changed(program, ("from multiprocessing", "from slotfile.multiprocessing"))
    if name in WITHOUT_A_LOCK:
        # As it stands, each process has added to what was there, and nothing else.
        counts = [int(count) for count in run(program, tmp_path).strip("[]\n").replace(",", " ").split()]
        assert len(counts) == 10
        assert all(1 <= count <= 10 for count in counts), counts
        program = changed(program, (ALL_AT_ONCE, ONE_BY_ONE))
    assert run(program, tmp_path) == printed


def lasting(program: str, *changes: tuple[str, str]) -> str:
    return changed(program, ("from multiprocessing", "from slotfile.multiprocessing"), *changes)


def test_the_value_lasts(tmp_path: pathlib.Path) -> None:
    program = lasting(VALUE, ("Value('i', 0)", "Value('i', 0, name='shared_value', store='state.slots')"))
    assert [run(program, tmp_path) for _ in range(2)] == ["1000\n", "2000\n"]


def test_the_array_lasts(tmp_path: pathlib.Path) -> None:
    program = lasting(ARRAY, ("Array('i', 10)", "Array('i', 10, name='shared_array')"))
    path = str(tmp_path / "of_the_environment.slots")
    assert run(program, tmp_path, SLOTFILE_STORE=path) == f"{[1000] * 10}\n"
    assert run(program, tmp_path, SLOTFILE_STORE=path) == f"{[2000] * 10}\n"


def test_the_shared_memory_lasts(tmp_path: pathlib.Path) -> None:
    name = f"test_{secrets.token_hex(8)}"
    program = lasting(
        SHARED_MEMORY,
        (
            "    shm = SharedMemory(create=True, size=",
            f"    class Lasting(SharedMemory):\n        _flags = 0o102  # opens it, or creates it\n"
            f"    shm = Lasting('{name}', size=",
        ),
        ("    array[:] = 0\n", ""),
        ("    shm.unlink()\n", ""),
        (ALL_AT_ONCE, ONE_BY_ONE),
    )
    try:
        first, second = (run(program, tmp_path) for _ in range(2))
    finally:
        pathlib.Path(f"/dev/shm/slotfile-{os.geteuid()}/{name}").unlink(missing_ok=True)
    assert first == "[10 10 10 10 10 10 10 10 10 10]\n"
    assert second == "[20 20 20 20 20 20 20 20 20 20]\n"


def test_the_mmap_lasts(tmp_path: pathlib.Path) -> None:
    """Its bytes stand in a store, with a lock that the program did not have."""
    program = lasting(
        MMAP,
        ("import Process", "import Array, Process"),
        (
            """    with open(filename, "r+b") as f:
        mm = mmap.mmap(f.fileno(), size)
        for i in range(size):
            mm[i] = (mm[i] + 1) % 256
        mm.close()
""",
            """    mm = Array("B", size, name="shared_memory", store=filename)
    with mm.get_lock():
        for i in range(size):
            mm[i] = (mm[i] + 1) % 256
""",
        ),
        (
            """    with open(filename, "wb") as f:
        f.write(bytearray(size))
""",
            "",
        ),
        (
            """    with open(filename, "rb") as f:
        data = f.read()
    print(list(data))
    os.remove(filename)
""",
            """    print(list(Array("B", size, name="shared_memory", store=filename)))
""",
        ),
    )
    assert [run(program, tmp_path) for _ in range(2)] == [TENS, TENS.replace("10", "20")]
