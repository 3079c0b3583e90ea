"""The standard library's contexts, with this package's shared objects."""

from multiprocessing import context as _std

__all__ = ()


class BaseContext(_std.BaseContext):
    """The methods of all contexts that replace the standard library's."""

    def RawValue(self, typecode_or_type, *args, name=None, store=None):
        """Returns a shared object."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args, name=name, store=store)

    def RawArray(self, typecode_or_type, size_or_initializer, *, name=None, store=None):
        """Returns a shared array."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer, name=name, store=store)

    def Value(self, typecode_or_type, *args, lock=True, name=None, store=None):
        """Returns a synchronized shared object."""
        from .sharedctypes import Value

        ctx = self.get_context()
        return Value(typecode_or_type, *args, lock=lock, ctx=ctx, name=name, store=store)

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True, name=None, store=None):
        """Returns a synchronized shared array."""
        from .sharedctypes import Array

        ctx = self.get_context()
        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx, name=name, store=store)

    def get_context(self, method=None):
        return self if method is None else _own(_std._default_context.get_context(method))


class ForkContext(BaseContext, _std.ForkContext):
    """Starts processes by fork."""


class SpawnContext(BaseContext, _std.SpawnContext):
    """Starts processes as new interpreters."""


class ForkServerContext(BaseContext, _std.ForkServerContext):
    """Starts processes by the fork of a server."""


class DefaultContext(BaseContext, _std.DefaultContext):
    """The context of the current start method. The start method is shared with the standard
    library: setting it there or here is the same."""

    def __init__(self):
        pass

    def get_context(self, method=None):
        return _own(_std._default_context.get_context(method))

    def set_start_method(self, method, force=False):
        _std._default_context.set_start_method(method, force)

    def get_start_method(self, allow_none=False):
        return _std._default_context.get_start_method(allow_none)

    def get_all_start_methods(self):
        return _std._default_context.get_all_start_methods()


_concrete_contexts = {
    context._name: context for context in (ForkContext(), SpawnContext(), ForkServerContext())
}
_default_context = DefaultContext()


def _own(context):
    """This package's context for one of the standard library's."""
    return _concrete_contexts[context._name]


def __getattr__(name):
    return getattr(_std, name)
