"""`slotfile.shared_memory` does what `multiprocessing.shared_memory` does: each test runs on
both; where they differ, a test says so."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import multiprocessing.shared_memory
import os
import pathlib
import pickle
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import slotfile.shared_memory
from slotfile.shared_memory import ShareableList, SharedMemory

from conftest import HANG, python, run, until

MODULES = [multiprocessing.shared_memory, slotfile.shared_memory]
FOLDER = pathlib.Path(f"/dev/shm/slotfile-{os.geteuid()}")


@pytest.fixture(params=MODULES, ids=["standard", "slotfile"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def name() -> Iterator[str]:
    """A name that nobody uses, nor is used when the test is over."""
    name = f"test_{secrets.token_hex(8)}"
    yield name
    for path in (FOLDER / name, pathlib.Path("/dev/shm") / name):
        path.unlink(missing_ok=True)


def basics(module: Any, name: str) -> object:
    first = module.SharedMemory(name, create=True, size=100)
    second = module.SharedMemory(name, size=5)  # the size is ignored
    first.buf[:5] = b"hello"
    found = (second.name == name, second.size, bytes(second.buf[:6]), first.buf.readonly, first.buf.format)
    first.close()
    closed = first.buf, first.size, first.name == name, repr(first).replace(name, "")
    first.close()
    third = module.SharedMemory(name=name)
    third.buf[0:1] = b"J"
    second_sees = bytes(second.buf[:5])
    third.unlink()
    after = bytes(second.buf[:5])
    second.close()
    third.close()
    return found, closed, second_sees, after


def pickled(module: Any, name: str) -> object:
    first = module.SharedMemory(name, True, 10)
    second = pickle.loads(pickle.dumps(first))
    second.buf[3] = 7
    found = first.buf[3], type(second) is type(first), second.size
    second.close()
    first.close()
    first.unlink()
    return found


def pickled_and_gone(module: Any, name: str) -> object:
    memory = module.SharedMemory(name, True, 10)
    there = pickle.dumps(memory)
    memory.close()
    memory.unlink()
    return pickle.loads(there)


def exported(module: Any, name: str) -> object:
    found: list[object] = []
    for export in (
        lambda view: np.frombuffer(view, np.int32),
        lambda view: ctypes.c_int.from_buffer(view),
        lambda view: view[3:5],
        lambda view: memoryview(view),
    ):
        memory = module.SharedMemory(name, True, 64)
        memory.unlink()
        kept = export(memory.buf)
        try:
            memory.close()
        except BufferError as error:
            found.append(str(error))
        found.append((memory.buf is None, kept[0] if hasattr(kept, "__len__") else kept.value))
        del kept
        memory.close()
    return found


def released(module: Any, name: str) -> object:
    memory = module.SharedMemory(name, True, 64)
    memory.unlink()
    view = memory.buf
    memory.close()
    return view[0]


def unlinked_twice(module: Any, name: str) -> object:
    memory = module.SharedMemory(name, True, 64)
    memory.close()
    memory.unlink()
    return memory.unlink()


def created_twice(module: Any, name: str) -> object:
    memory = module.SharedMemory(name, True, 64)
    try:
        return module.SharedMemory(name, create=True, size=64)
    finally:
        memory.close()
        memory.unlink()


def unnamed(module: Any, name: str) -> object:
    first, second = module.SharedMemory(create=True, size=1), module.SharedMemory(None, True, 1)
    found = first.name != second.name, first.name[:4], len(first.name), bytes(first.buf)
    for memory in (first, second):
        memory.close()
        memory.unlink()
    return found


def attached_or_created(module: Any, name: str) -> object:
    class Optional(module.SharedMemory):  # type: ignore[misc]
        _flags = os.O_CREAT | os.O_RDWR

    first = module.SharedMemory(name, create=True, size=12)
    second = Optional(name)
    found = second.size
    for memory in (first, second):
        memory.close()
    first.unlink()
    return found


def of_numpys_size(module: Any, name: str) -> object:
    memory = module.SharedMemory(name, create=True, size=np.prod((10,)) * np.dtype(np.int32).itemsize)
    memory.close()
    memory.unlink()
    return memory.size


def listed(module: Any, name: str) -> object:
    there = module.ShareableList(["howdy", b"HoWdY", -273.154, 100, None, True, 42], name=name)
    there[0], there[-1], there[4] = "hello", 43, "some"
    again = module.ShareableList(name=name)
    copy = pickle.loads(pickle.dumps(again))
    copy[3] = 5
    found = list(there), len(there), there.format, there.index(5), there.count(43), 100 in there
    errors = [outcome(lambda *_: work(), module, name) for work in (
        lambda: there[7],
        lambda: there[-8],
        lambda: there.__setitem__(7, 1),
        lambda: there.__setitem__(0, "much too long for it"),
        lambda: there.__setitem__(0, [1]),
        lambda: there.index("absent"),
    )]
    shown = repr(there).replace(name, "")
    for one in (there, again, copy):
        one.shm.close()
    there.shm.unlink()
    return found, errors, shown


def empty_list(module: Any, name: str) -> object:
    there = module.ShareableList(name=None)
    found = len(there), list(there), there.format
    there.shm.close()
    there.shm.unlink()
    return found


CASES: dict[str, Callable[[Any, str], object]] = {
    **{work.__name__: work for work in (
        basics, pickled, pickled_and_gone, exported, released, unlinked_twice, created_twice, unnamed,
        attached_or_created, of_numpys_size, listed, empty_list,
    )},
    "absent": lambda module, name: module.SharedMemory(name),
    "no name": lambda module, name: module.SharedMemory(),
    "no size": lambda module, name: module.SharedMemory(name, create=True),
    "size 0": lambda module, name: module.SharedMemory(name, create=True, size=0),
    "negative size": lambda module, name: module.SharedMemory(name, create=True, size=-1),
    "float size": lambda module, name: module.SharedMemory(name, create=True, size=1.5),
    "text size": lambda module, name: module.SharedMemory(name, create=True, size="1"),
    "folder": lambda module, name: module.SharedMemory(f"{name}/x", create=True, size=1),
    "list of objects": lambda module, name: module.ShareableList([object()], name=name),
    "absent list": lambda module, name: module.ShareableList(name=name),
}


def outcome(case: Callable[[Any, str], object], module: Any, name: str) -> object:
    try:
        return case(module, name)
    except Exception as error:
        return type(error), getattr(error, "errno", None) or str(error)


@pytest.mark.parametrize("case", CASES)
def test_it_is_done_alike(case: str, name: str) -> None:
    expected, found = (outcome(CASES[case], module, name) for module in MODULES)
    assert found == expected
    assert not (FOLDER / name).exists()


def modify(name: str) -> None:
    memory = slotfile.shared_memory.SharedMemory(name)
    numbers = np.ndarray((10,), np.int32, memory.buf)
    numbers += 1
    memory.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_share_it(method: str, name: str) -> None:
    memory = SharedMemory(name, create=True, size=40)
    context = multiprocessing.get_context(method)
    for _ in range(2):
        process = context.Process(target=modify, args=(name,))
        process.start()
        process.join(HANG)
        assert process.exitcode == 0
    assert np.ndarray((10,), np.int32, memory.buf).tolist() == [2] * 10
    memory.close()
    memory.unlink()


# Where it differs: nobody's end deletes anything.


def test_no_processs_end_deletes_it(name: str) -> None:
    create = "import sys; from slotfile.shared_memory import *; m = SharedMemory(sys.argv[1], True, 8)"
    run(f"{create}; m.buf[0] = 5", name)
    look = "import sys; from slotfile.shared_memory import *; m = SharedMemory(sys.argv[1]); print(m.buf[0])"
    assert [run(look, name), run(look, name)] == ["5\n", "5\n"]
    SharedMemory(name).unlink()
    killed = python(f"{create}; m.buf[0] = 6; print(flush=True); input()", name)
    assert killed.stdout is not None and killed.stdout.readline() == "\n"
    killed.kill()
    killed.communicate()
    memory = SharedMemory(name)
    assert memory.buf[0] == 6
    memory.close()
    memory.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def test_there_is_no_resource_tracker(name: str) -> None:
    program = """
import sys
from slotfile.shared_memory import *
from multiprocessing import resource_tracker
memory = SharedMemory(sys.argv[1], create=True, size=8, track=True)
numbers = ShareableList([1, 2], name=sys.argv[1] + "_list")
numbers.shm.unlink()
memory.unlink()
print(resource_tracker._resource_tracker._pid)
"""
    assert run(program, name) == "None\n"


def mappings() -> int:
    return pathlib.Path("/proc/self/maps").read_text().count(str(FOLDER))


def test_an_array_that_is_left_keeps_the_memory(name: str) -> None:
    """The standard library's program dies of SIGSEGV: to numpy the array is no export."""
    before = mappings()
    memory = SharedMemory(name, create=True, size=40)
    numbers = np.ndarray((10,), np.int32, memory.buf)
    part = numbers[2:4]
    numbers[:] = range(10)
    memory.close()
    del numbers
    memory.unlink()
    del memory
    assert part.tolist() == [2, 3]
    part += 1
    assert part.tolist() == [3, 4]
    assert mappings() == before + 1
    del part
    assert mappings() == before


def test_it_is_this_users_alone(name: str) -> None:
    memory = SharedMemory(name, create=True, size=40)
    assert (FOLDER.stat().st_mode & 0o777, (FOLDER / name).stat().st_mode & 0o777) == (0o700, 0o600)
    memory.close()
    memory.unlink()


def test_nobody_sees_half_of_it(name: str) -> None:
    """Either absent or whole, while it is created over and over."""
    program = """
import sys
from slotfile.shared_memory import *
print(flush=True)
while True:
    memory = SharedMemory(sys.argv[1], create=True, size=100_000)
    memory.unlink()
    memory.close()
"""
    creator = python(program, name)
    assert creator.stdout is not None and creator.stdout.readline() == "\n"
    found = 0

    def look() -> bool:
        nonlocal found
        try:
            memory = SharedMemory(name)
        except FileNotFoundError:
            return False
        assert memory.size == 100_000
        memory.close()
        found += 1
        return found > 50

    until(look, "found often enough")
    creator.kill()
    creator.communicate()


def test_row_22_no_room_is_an_error_when_it_is_created(name: str) -> None:
    there = os.statvfs("/dev/shm")
    too_much = there.f_blocks * there.f_frsize + 4096
    with pytest.raises(OSError) as refused:
        SharedMemory(name, create=True, size=too_much)
    assert refused.value.errno in (errno.ENOSPC, errno.ENOMEM)
    assert not (FOLDER / name).exists()


@pytest.mark.parametrize("bad", ["", "/", ".", "..", "a/b", "../x"])
def test_row_40_a_name_is_no_path(bad: str) -> None:
    with pytest.raises(OSError) as refused:
        SharedMemory(bad, create=True, size=1)
    assert refused.value.errno == errno.EINVAL


def test_a_list_keeps_its_own_memory() -> None:
    numbers = ShareableList([1, 2.5, "three"])
    assert isinstance(numbers.shm, SharedMemory)
    assert isinstance(numbers, multiprocessing.shared_memory.ShareableList)
    assert (FOLDER / numbers.shm.name).exists()
    numbers.shm.unlink()


@pytest.mark.parametrize("module", [multiprocessing.shared_memory, slotfile.shared_memory])
def test_errors_name_the_block(module: Any) -> None:
    name = f"taken-{os.getpid()}"
    block = module.SharedMemory(name, create=True, size=10)
    try:
        with pytest.raises(FileExistsError) as taken:
            module.SharedMemory(name, create=True, size=10)
        assert (taken.value.filename, taken.value.filename2) == ("/" + name, None)
        assert str(taken.value) == f"[Errno 17] File exists: '/{name}'"
    finally:
        block.close()
        block.unlink()
    with pytest.raises(FileNotFoundError) as missing:
        module.SharedMemory(name)
    assert missing.value.filename == "/" + name
    with pytest.raises(OSError) as long:
        module.SharedMemory("x" * 300, create=True, size=10)
    assert long.value.filename == "/" + "x" * 300
