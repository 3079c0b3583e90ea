"""The examples in the documentation are right; the stubs fit the module."""

from __future__ import annotations

import doctest
import inspect
import pathlib
import subprocess
import sys

import pytest

import slotfile


def test_docstrings(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for name in ["slotfile", *slotfile.__all__]:
        what = slotfile if name == "slotfile" else getattr(slotfile, name)
        for test in finder.find(what, name, globs={"slotfile": slotfile}):
            folder = tmp_path / test.name.replace("/", "_")
            folder.mkdir()
            monkeypatch.chdir(folder)
            runner.run(test)
    assert runner.failures == 0
    assert runner.tries > 30


def test_everything_public_is_documented() -> None:
    for name in slotfile.__all__:
        what = getattr(slotfile, name)
        assert what.__doc__, name
        if inspect.isclass(what) and what.__module__ == "slotfile":
            for attribute, member in vars(what).items():
                assert attribute.startswith("_") or member.__doc__, f"{name}.{attribute}"


@pytest.mark.parametrize("name", ["python/README.md", "README.md", "docs/guide.md"])
def test_the_pages_run(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = pathlib.Path(__file__).parents[2] / name
    blocks = page.read_text().split("```python\n")[1:]
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block.split("```")[0], str(page), "exec"), {})


def test_the_types(tmp_path: pathlib.Path) -> None:
    """mypy agrees with the stubs, with what the tests do, and refuses what is wrong."""
    pytest.importorskip("mypy")
    right = tmp_path / "right.py"
    right.write_text(
        """
import numpy as np, slotfile
from typing import assert_type
store = slotfile.open("x")
assert_type(store.value("a", float).value, float)
assert_type(store.value("a", "uint64").add(1), int)
assert_type(store.value("a", bool).value, bool)
assert_type(store.text("a", 5).value, str)
with store.array("a", float, (2, 3)).update() as p:
    p *= 2
with store.value("a", int).lock(timeout=1.0):
    pass
"""
    )
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        """
import slotfile
slotfile.open("x", "w")
slotfile.open("x").text("a", "b")
slotfile.open("x").value("a", int).value = "5"
"""
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    good = subprocess.run([*command, right], capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    bad = subprocess.run([*command, wrong], capture_output=True, text=True)
    assert bad.stdout.count("error:") == 3, bad.stdout
    stubs = [sys.executable, "-m", "mypy.stubtest", "slotfile", "--concise"]
    checked = subprocess.run(stubs, capture_output=True, text=True, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
