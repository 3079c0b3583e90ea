"""The standard library's `multiprocessing`, with shared objects that can last.

Everything is the standard library's own, except for `Value`, `Array`, `RawValue`, `RawArray` and
the module `sharedctypes`: these live in slotfile stores. A program changes only its import line.
Then

- a process that is killed inside `with value.get_lock():` does not block the others;
- with `name=` the object lasts. It is kept in a store (`store=`, or else the file that the
  environment variable SLOTFILE_STORE names). There the next run, unrelated programs and the
  command line tool find it as it was left.

>>> from slotfile.multiprocessing import Process, Value
>>> def visit(counter):
...     with counter.get_lock():
...         counter.value += 1
>>> counter = Value("i", 0, name="visits", store="state.slots")
>>> visitors = [Process(target=visit, args=(counter,)) for _ in range(3)]
>>> for visitor in visitors:
...     visitor.start()
>>> for visitor in visitors:
...     visitor.join()
>>> Value("i", 0, name="visits", store="state.slots").value  # as any other program would
3

Objects without a name are gone with the last process that has them, as in the standard library.
"""

import importlib
import importlib.abc
import importlib.machinery
import multiprocessing as _std
import sys
from multiprocessing import SUBDEBUG, SUBWARNING

from . import context, shared_memory, sharedctypes

__all__ = list(_std.__all__)  # type: ignore[attr-defined]
globals().update((name, getattr(context._default_context, name)) for name in __all__)


def __getattr__(name):
    return getattr(_std, name)


class _StandardSubmodules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `slotfile.multiprocessing.pool` another name of `multiprocessing.pool`, and so
    on for every module that this package does not have itself."""

    def find_spec(self, name, path, target=None):
        package, _, submodule = name.partition(f"{__name__}.")
        if package or not submodule:
            return None
        try:
            found = importlib.util.find_spec(f"{_std.__name__}.{submodule}")
        except ModuleNotFoundError:
            return None
        return found and importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module):
        name = module.__name__
        standard = _std.__name__ + name.removeprefix(__name__)
        sys.modules[name] = importlib.import_module(standard)


# Last, so that this package's own modules are found first.
sys.meta_path.append(_StandardSubmodules())
