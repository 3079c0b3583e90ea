"""A method of `Transaction`, written in Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy.typing as npt
import typing

from . import _native


@contextlib.contextmanager
def update(self: _native.Transaction, array: _native.Array) -> Iterator[npt.NDArray[typing.Any]]:
    """Changes an array: the `with` block works on a copy, which is stored at the block's end.

    >>> store = slotfile.temporary()
    >>> hits, pose = store.value("hits", int), store.array("pose", float, 3, initial=[1, 2, 3])
    >>> with store.transaction(hits, pose) as tx:
    ...     tx[hits] += 1
    ...     with tx.update(pose) as p:
    ...         p *= 2
    >>> hits.value, pose[:]
    (1, array([2., 4., 6.]))
    """
    copy = self[array]
    yield copy
    self[array] = copy
