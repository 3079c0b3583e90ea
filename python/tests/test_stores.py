"""`slotfile.Store`: opening, the mapping of names, closing, pickling, errors."""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import slotfile

from conftest import HANG, python, run


def test_modes(path: pathlib.Path) -> None:
    for mode in ("r", "r+"):
        with pytest.raises(slotfile.FileNotFound, match="slotfile create"):
            slotfile.open(path, mode)
    with pytest.raises(FileNotFoundError):
        slotfile.open(path, "r")
    with pytest.raises(ValueError, match='"a", "r\\+", "r" or "x"'):
        slotfile.open(path, "w")  # type: ignore[arg-type]
    assert not path.exists()
    with slotfile.open(path, "x") as store:
        store.value("x", int).value = 5
        store.value("hits", int)
    with pytest.raises(FileExistsError):
        slotfile.open(path, "x")
    with slotfile.open(path, "r+") as store:
        store.value("x", int).add(1)
        with pytest.raises(slotfile.NotFound, match='no slot "hit"') as caught:
            store.value("hit", int)
        assert isinstance(caught.value, KeyError)
        assert store.closest_name("hit") == "hits"
        assert store.closest_name("quite another") is None
    with slotfile.open(path, "r") as store:
        x = store.value("x", int)
        assert x.value == 6
        with pytest.raises(slotfile.NotFound):
            store.value("y", int)
        for change in (lambda: x.add(1), lambda: setattr(x, "value", 1), lambda: x.lock().acquire()):
            with pytest.raises(slotfile.ReadOnly) as refused:
                change()
            assert isinstance(refused.value, PermissionError)
    with slotfile.open(str(path)) as store:
        store.value("y", int)
        assert list(store) == ["x", "hits", "y"]


def test_options(path: pathlib.Path) -> None:
    with slotfile.open(path, max_slots=2, max_size=64 << 20, permissions=0o640, checkpoint=False) as store:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        store.value("a", int)
        store.value("b", int)
        with pytest.raises(slotfile.Full, match="max_slots is 2"):
            store.value("c", int)
        with pytest.raises(slotfile.Invalid):
            store.sync()
        info = store.info()
        assert (info.slots, info.max_slots, info.max_size, info.unsynced) == (2, 2, 64 << 20, None)
    for wrong in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="lock_timeout=.* at least 0, or None"):
            slotfile.open(path, lock_timeout=wrong)
        with pytest.raises(ValueError, match="sync_every=.* at least 0, or None"):
            slotfile.open(path, sync_every=wrong)
    for mode in (0o1600, 0, 0o444):
        with pytest.raises(slotfile.Invalid, match="600 to 777"):
            slotfile.open(path.with_name("other"), permissions=mode)
    assert not path.with_name("other").exists()


def test_a_path_is_whatever_names_a_file(path: pathlib.Path) -> None:
    for said in (path, str(path), os.fsencode(path)):
        with slotfile.open(said) as store:
            store.value("hits", int).add(1)
    with slotfile.open(path) as store:
        assert store.value("hits", int).value == 3
        store.copy_to(os.fsencode(path.with_name("copy")))
        with pytest.raises(slotfile.Invalid, match="the path is empty"):
            store.copy_to("")
    for path_, why in (("", "the path is empty; it must name a file"), ("a\0b", "embedded null byte")):
        for refused in (lambda: slotfile.open(path_), lambda: slotfile.open(path_, "r")):
            with pytest.raises(ValueError, match=why) as caught:
                refused()
            assert isinstance(caught.value, slotfile.Invalid) and repr(path_) in str(caught.value)
    with pytest.raises(TypeError, match="os.PathLike"):
        slotfile.open(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [2**40, 2**62, 2**63 - 1])
def test_a_damaged_date_does_not_keep_info_from_telling(path: pathlib.Path, seconds: int) -> None:
    with slotfile.open(path) as store:
        store.value("hits", int)
    with open(path, "r+b") as file:
        file.seek(64 * 1024 + 280)
        file.write(seconds.to_bytes(8, "little"))
    with slotfile.open(path, "r") as store:
        last_sync = store.info().last_sync
    assert last_sync is not None and last_sync.at.year == 9999


def test_a_shape_that_is_none_is_shown(store: slotfile.Store) -> None:
    for wrong in (0, -1, 3.0, "ab", (), (2, 0), (1,) * 5, None, (2**70, 0), (2**70, "x")):
        for define in (store.array, store.buffer):
            with pytest.raises(ValueError, match="one to 4 dimensions, each an integer of at least 1") as caught:
                define("x", float, wrong)
            assert f"shape {wrong!r}:" in str(caught.value)
    for large in (2**32, 2**62, 2**64, 2**70, 2**200, (2, 2**70), [2**40, 2**40]):
        for define in (store.array, store.buffer):
            with pytest.raises(ValueError, match="too large: a slot holds at most 32 GiB") as caught:
                define("x", float, large)
            assert "at least 1" not in str(caught.value)
    for capacity, why in ((0, "a capacity is at least 1"), (2**40, "too large: a slot holds at most 32 GiB")):
        with pytest.raises(slotfile.Invalid, match=rf'"x": it cannot be text\[{capacity}\]: .*{why}'):
            store.text("x", capacity)
    assert "x" not in store


def test_a_store_is_a_mapping(store: slotfile.Store) -> None:
    a, b = store.value("a", "uint64"), store.array("b/b", float, (2, 3))
    store.text("c", 9, "text")
    store.bytes("d", 9, b"bytes")
    assert len(store) == 4
    assert list(store) == store.keys() == ["a", "b/b", "c", "d"]
    assert "a" in store and "aa" not in store and "" not in store
    a.value = 5
    b[1] = 7
    assert isinstance(store["a"], slotfile.Value) and store["a"].value == 5
    assert isinstance(store["b/b"], slotfile.Array) and store["b/b"].load().sum() == 21
    assert isinstance(store["c"], slotfile.Text) and store["c"].value == "text"
    assert isinstance(store["d"], slotfile.Bytes) and store["d"].value == b"bytes"
    del store["a"]
    assert a.is_removed and a.value == 5
    with pytest.raises(slotfile.Removed):
        a.add(1)
    with pytest.raises(slotfile.NotFound):
        store["a"]
    with pytest.raises(KeyError):
        del store["a"]
    store.text("a", 3)
    with pytest.raises(TypeError, match=r'slot "a": .* `store\["a"\].value = 5`'):
        store["a"] = 5  # type: ignore[index]
    assert store.keys() == ["b/b", "c", "d", "a"]


def test_row_40_names_and_types_that_do_not_fit(store: slotfile.Store) -> None:
    for name in ("", "x" * 256, "a\nb", "a\0b"):
        with pytest.raises(slotfile.Invalid, match="cannot name a slot"):
            store.value(name, int)
    with pytest.raises(UnicodeEncodeError):
        store.value("\ud800", int)
    store.value("x", "int32")
    store.array("a", float, 3)
    for asked in (
        lambda: store.value("x", "uint32"),
        lambda: store.array("x", "int32", 1),
        lambda: store.array("a", float, 4),
        lambda: store.array("a", float, (1, 3)),
        lambda: store.text("a", 3),
    ):
        with pytest.raises(slotfile.TypeMismatch) as caught:
            asked()
        assert isinstance(caught.value, TypeError)
        assert "i32" in str(caught.value) or "f64[3]" in str(caught.value)
    with pytest.raises(ValueError):
        store.array("b", float, 3, areas=3)


def test_text_and_bytes(store: slotfile.Store) -> None:
    name = store.text("name", 8)
    assert name.value == "" and name.capacity == 8
    name.value = "Käthe"
    assert name.load_versioned() == ("Käthe", 1)
    with pytest.raises(slotfile.Invalid, match="at most 8 bytes"):
        name.value = "Katharina"
    with pytest.raises(TypeError):
        name.value = b"x"  # type: ignore[assignment]
    assert name.value == "Käthe"
    assert repr(name) == "<Text 'name': text[8] = 'Käthe'>"
    assert store.text("name", 4).capacity == 8, "one with more room will do"
    with pytest.raises(slotfile.TypeMismatch):
        store.text("name", 9)
    blob = store.bytes("blob", 8, b"\0\1")
    assert blob.load_versioned() == (b"\0\1", 0)
    blob.value = b""
    assert blob.value == b"" and blob.capacity == 8
    with pytest.raises(slotfile.Invalid):
        blob.value = b"123456789"
    with pytest.raises(TypeError):
        blob.value = "x"  # type: ignore[assignment]
    assert repr(blob) == "<Bytes 'blob': bytes[8] = b''>"


def test_row_42_after_close_handles_raise_and_copies_stay(path: pathlib.Path) -> None:
    with slotfile.open(path) as store:
        value, array = store.value("v", int), store.array("a", int, 3, initial=[1, 2, 3])
        text, blob = store.text("t", 3), store.bytes("b", 3)
        copy, lock, update = array.load(), value.lock(), array.update()
        assert not store.closed
    assert store.closed
    store.close()
    for used in (
        lambda: value.value,
        lambda: setattr(value, "value", 1),
        lambda: value.add(1),
        lambda: value.version,
        lambda: value.lock(),
        lambda: lock.acquire(),
        lambda: array[0],
        lambda: array.__setitem__(0, 1),
        lambda: array.__setitem__([0], 1),
        lambda: array.load(),
        lambda: array.store(1),
        lambda: list(array),
        lambda: array.add(0),
        lambda: array.update(),
        lambda: update.__enter__(),
        lambda: np.asarray(array),
        lambda: text.value,
        lambda: setattr(text, "value", ""),
        lambda: blob.value,
        lambda: pickle.dumps(value),
        lambda: pickle.dumps(store),
        lambda: store["v"],
        lambda: "v" in store,
        lambda: list(store),
        lambda: len(store),
        lambda: store.value("v", int),
        lambda: store.sync(),
        lambda: store.info(),
        lambda: store.check(),
        lambda: store.__enter__(),
        lambda: store.__delitem__("v"),
    ):
        with pytest.raises(ValueError, match="closed"):
            used()
    assert copy.tolist() == [1, 2, 3]
    assert repr(value) == "<Value 'v': int64, closed>"
    assert repr(store) == f'<Store "{path}", closed>'
    with slotfile.open(path) as again:
        assert again.value("v", int).value == 0


def test_closing_syncs(path: pathlib.Path) -> None:
    with slotfile.open(path, sync_every=3600) as store:
        store.value("x", int).value = 5
        assert store.info().unsynced == 1
        kept = store["x"]
    with slotfile.open(path) as store:
        assert store.info().unsynced == 0
    assert repr(kept) == "<Value 'x': int64, closed>"


def test_the_end_of_the_program_syncs(path: pathlib.Path) -> None:
    run(
        """
import ctypes, slotfile, sys, time
store = slotfile.open(sys.argv[1], sync_every=3600)
time.sleep(0.3)  # the first sync is at once
x = store.value("x", int)
x.value = 5
assert store.info().unsynced == 1
ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))  # never dropped
""",
        path,
    )
    with slotfile.open(path, "r") as store:
        assert store["x"].value == 5
        assert store.info().unsynced == 0


def test_a_copy_of_the_file_is_as_of_the_last_sync(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with slotfile.open(path, sync_every=None) as store:
        x = store.value("x", int)
        x.value = 5
        store.sync()
        x.value = 6
        os.system(f"cp {path} {tmp_path}/cp")
        store.copy_to(tmp_path / "copy")
    with slotfile.open(tmp_path / "cp") as copied:
        assert copied["x"].value == 5
        assert copied.recovery.what == "restored" and copied.recovery.epoch is not None
    with slotfile.open(tmp_path / "copy") as copied:
        assert copied["x"].value == 6


def test_info_check_and_recovery(store: slotfile.Store, path: pathlib.Path) -> None:
    store.array("a", float, 10)[0] = 1
    info = store.info()
    assert info.path == str(path) and info.slots == 1 and info.format == (1, 1)
    assert info.size == path.stat().st_size
    assert [opener.pid for opener in info.open_by] == [os.getpid()]
    store.sync()
    synced = store.info().last_sync
    assert synced is not None and synced.at.tzinfo is not None
    assert store.check().ok and store.check().problems == []
    assert store.recovery == ("created", None, False)
    with slotfile.open(path) as again:
        assert again.recovery.what == "created", "as this process first opened it"


def test_damage_is_found(path: pathlib.Path) -> None:
    path.write_bytes(b"not a store" * 100)
    with pytest.raises(slotfile.Damaged, match="not a store"):
        slotfile.open(path)
    slotfile.open(path.with_name("x"), "x").close()
    os.truncate(path.with_name("x"), 100_000)
    with pytest.raises(slotfile.Damaged, match="truncated"):
        slotfile.open(path.with_name("x"))


def test_pickling_is_by_path_and_name(store: slotfile.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    store.value("v", "uint8", initial=5)
    handles = [store["v"], store.array("a", float, 3), store.text("t", 5), store.bytes("b", 5)]
    for handle in handles:
        copy = pickle.loads(pickle.dumps(handle))
        assert type(copy) is type(handle) and repr(copy) == repr(handle)
    copied = pickle.loads(pickle.dumps(handles[0]))
    copied.add(1)
    assert handles[0].value == 6
    again = pickle.loads(pickle.dumps(store))
    assert list(again) == list(store)
    assert again.path == store.path
    del store["v"]
    with pytest.raises(slotfile.NotFound):
        pickle.loads(pickle.dumps(handles[0]))


def test_pickles_keep_how_the_store_was_opened(path: pathlib.Path) -> None:
    slotfile.open(path).value("x", int)
    with slotfile.open(path, "r", lock_timeout=None) as store:
        again = pickle.loads(pickle.dumps(store))
        with pytest.raises(slotfile.ReadOnly):
            again["x"].add(1)
    with slotfile.open(path, "r+", lock_timeout=0.5, sync_every=None) as store:
        with pytest.raises(slotfile.NotFound):
            pickle.loads(pickle.dumps(store)).value("y", int)
    dumped = pickle.dumps(slotfile.open(path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(dumped)


def test_temporary_stores(tmp_path: pathlib.Path) -> None:
    store = slotfile.temporary()
    x = store.value("x", int)
    assert x.add(5) == 5
    assert store.path is None and repr(store) == "<Store in memory>"
    for handle in (store, x):
        with pytest.raises(TypeError, match="temporary store has no name"):
            pickle.dumps(handle)
    with slotfile.temporary() as other:
        assert "x" not in other
    with pytest.raises(ValueError):
        other.value("x", int)


def test_every_exception_is_an_error_and_what_one_expects() -> None:
    expected = {
        "NotFound": KeyError, "FileNotFound": FileNotFoundError, "Exists": FileExistsError,
        "TypeMismatch": TypeError, "Invalid": ValueError, "OutOfBounds": IndexError,
        "LockTimeout": TimeoutError, "ReadOnly": PermissionError, "NotPermitted": PermissionError,
        "Full": OSError, "SystemFailure": OSError, "Damaged": Exception, "Removed": Exception,
        "Deadlock": Exception, "Evicted": Exception, "IsADirectory": IsADirectoryError,
    }  # fmt: skip
    for name, builtin in expected.items():
        assert issubclass(getattr(slotfile, name), (slotfile.Error,))
        assert issubclass(getattr(slotfile, name), builtin)
    raised = slotfile.NotFound("no such slot")
    assert str(raised) == "no such slot"


def test_what_the_system_refuses_is_the_builtin_that_open_raises(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As `open` and `os` do, with `errno` and `filename`; and it is one of slotfile's own, too."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("prose")
    store = slotfile.open(path)

    def at(name: str, mode: str = "a") -> Callable[[], object]:
        return lambda: slotfile.open(tmp_path / name, mode)  # type: ignore[arg-type]

    cases: list[tuple[Callable[[], object], str, type[OSError], type[slotfile.Error], int]] = [
        (at("no/folder/x"), "no/folder/x", FileNotFoundError, slotfile.FileNotFound, errno.ENOENT),
        (at("no/folder/x", "r"), "no/folder/x", FileNotFoundError, slotfile.FileNotFound, errno.ENOENT),
        (at("absent", "r"), "absent", FileNotFoundError, slotfile.FileNotFound, errno.ENOENT),
        (lambda: store.copy_to(tmp_path / "no/x"), "no/x", FileNotFoundError, slotfile.FileNotFound, errno.ENOENT),
        (at("file", "x"), "file", FileExistsError, slotfile.Exists, errno.EEXIST),
        (at("file/x"), "file/x", NotADirectoryError, slotfile.SystemFailure, errno.ENOTDIR),
        (at("folder"), "folder", IsADirectoryError, slotfile.Damaged, errno.EISDIR),
        (at("folder"), "folder", IsADirectoryError, slotfile.IsADirectory, errno.EISDIR),
        (at("folder", "x"), "folder", FileExistsError, slotfile.Exists, errno.EEXIST),
        (at("n" * 300), "n" * 300, OSError, slotfile.SystemFailure, errno.ENAMETOOLONG),
    ]
    for refused, name, builtin, ours, number in cases:
        with pytest.raises(builtin) as caught:
            refused()
        raised = caught.value
        assert isinstance(raised, ours) and isinstance(raised, slotfile.Error), name
        assert (raised.errno, raised.filename) == (number, str(tmp_path / name))
        # The message alone, without the number and the file once more.
        assert str(raised).startswith(f"{tmp_path / name}: ")
        copy = pickle.loads(pickle.dumps(raised))
        assert type(copy) is type(raised) and str(copy) == str(raised)
        assert (copy.errno, copy.filename) == (raised.errno, raised.filename)
    with pytest.raises(FileNotFoundError, match=f"create that first, with `mkdir -p {tmp_path}/no/folder`"):
        at("no/folder/x")()
    # A folder in which nothing can be created is not missing.
    with pytest.raises(FileNotFoundError, match="cannot create the store") as caught_in_proc:
        slotfile.open("/proc/x")
    assert isinstance(caught_in_proc.value, slotfile.SystemFailure)


def test_a_store_whose_file_is_gone_says_so(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = slotfile.open(path)
    store.value("x", int, initial=1)
    store.sync()
    assert not store.is_detached() and store.info().detached is None
    path.unlink()
    other = slotfile.open(path)
    assert store.is_detached() and not other.is_detached()
    assert (store.info().detached or "").startswith("replaced")
    with pytest.raises(slotfile.Detached, match="replaced"):
        store.sync()
    assert not store.check().ok
    store.copy_to(tmp_path / "saved")
    assert slotfile.open(tmp_path / "saved")["x"].value == 1


def test_who_waits_is_told_that_the_file_is_gone(path: pathlib.Path) -> None:
    store = slotfile.open(path)
    x = store.value("x", int)
    path.unlink()
    with pytest.raises(slotfile.Detached, match="deleted"):
        x.wait_until(lambda x: x == 5, timeout=30)
    with pytest.raises(slotfile.Detached, match="deleted"):
        asyncio.run(x.wait_async(lambda x: x == 5, timeout=30))
    x.value = 5
    assert x.wait_until(lambda x: x == 5, timeout=30) == 5


FAILING = """
import resource, sys, slotfile
how, path = sys.argv[1:]
store = slotfile.open(path, sync_every=3000)
x = store.value("x", int)
store.sync()
x.value = 2
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
if how == "with":
    try:
        with store:
            pass
    except slotfile.Full as error:
        print("told", error.errno)
if how == "dropped":
    del x, store
"""


def test_a_sync_that_fails_at_the_end_is_heard(path: pathlib.Path) -> None:
    assert run(FAILING, "with", path) == f"told {errno.EFBIG}\n"
    for how in ("dropped", "exit"):
        child = python(FAILING, how, path)
        _, said = child.communicate(timeout=60)
        assert "slotfile._errors.Full" in said, (how, said)
        with slotfile.open(path, "r") as store:
            assert "the last sync failed" in (store.info().failed_sync or "")
    with slotfile.open(path) as store:
        store.sync()
        assert store.info().failed_sync is None


@pytest.mark.parametrize("number", [-1, 2**64, 2**200])
def test_numbers_out_of_range_are_refused_with_the_range(path: pathlib.Path, number: int) -> None:
    ranges = {"max_slots": "1 to 268435456", "max_size": "1 to 35184372088832", "permissions": "0o600 to 0o777"}
    for option, range_ in ranges.items():
        with pytest.raises(slotfile.Invalid, match=f"^{option}={number}: it must be an integer from {range_}$"):
            slotfile.open(path, **{option: number})  # type: ignore[arg-type]
    assert not path.exists()
    with slotfile.open(path) as store:
        for make in (store.text, store.bytes):
            with pytest.raises(slotfile.Invalid, match=f'slot "x": capacity={number}: .* from 1 to 34359738352'):
                make("x", number)
            with pytest.raises(slotfile.Invalid, match=f"areas={number}: .* from 2 to 8"):
                make("x", 8, areas=number)
        with pytest.raises(slotfile.Invalid, match=f"areas={number}: .* from 2 to 8"):
            store.array("x", int, 8, areas=number)
        assert list(store) == []


def test_a_pickled_handle_opens_any_file_system(path: pathlib.Path) -> None:
    strace = shutil.which("strace")
    program = """
import pickle, sys
import slotfile
store = slotfile.open(sys.argv[1], any_file_system=True)
value = store.value("v", int)
value.add(5)
try:
    slotfile.open(sys.argv[1])
    print("not refused")
except slotfile.SystemFailure as refused:
    assert "NFS" in str(refused), refused
print(pickle.loads(pickle.dumps(value)).value, "v" in pickle.loads(pickle.dumps(store)))
"""
    # It answers that the store is on NFS.
    inject = "inject=fstatfs:poke_exit=@arg2=6969000000000000"
    seen = strace and subprocess.run(
        [strace, "-f", "-e", "trace=fstatfs", "-e", inject, "-o", "/dev/null", sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    if not seen or "strace" in seen.stderr or "not refused" in seen.stdout:
        pytest.skip("needs strace that can change answers")
    assert (seen.stdout, seen.stderr) == ("5 True\n", "")
