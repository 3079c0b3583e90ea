"""The standard library's `multiprocessing.shared_memory`, without its surprises.

A block of shared memory is a file in `/dev/shm/slotfile-UID/`. It stays until somebody calls
`unlink`: it outlives every process, its creator too, and there is no resource tracker.
A full disk is an OSError when the block is created, never a crash later. An array
that still uses the memory after `close` keeps it alive.

>>> block = SharedMemory(create=True, size=10)
>>> block.buf[0] = 7
>>> same = SharedMemory(block.name)
>>> same.buf[0]
7
>>> same.unlink()
"""

import contextlib
import errno
import mmap
import os
import stat
import types
from multiprocessing import shared_memory as _std

__all__ = ["SharedMemory", "ShareableList"]


class SharedMemory(_std.SharedMemory):
    """A block of shared memory: a new one (`create=True`), or the existing one of this name.

    Works like the standard library's. `track` is accepted and ignored: only `unlink` deletes a
    block.
    """

    _track = False

    def __init__(self, name=None, create=False, size=0, *, track=True):
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        if name is not None:
            self._name = "/" + name
            self._fd = self._open(size)
        while self._fd < 0:
            self._name = _std._make_filename()
            try:
                self._fd = _create_unknown(_path(self._name), size, self._mode)
            except FileExistsError:
                continue
        self._size = size if create else os.fstat(self._fd).st_size
        try:
            self._mmap = mmap.mmap(self._fd, self._size)
        except OSError:
            if create:
                self.unlink()
            raise
        self._buf = memoryview(self._mmap)

    def _open(self, size):
        """A descriptor of the existing file, or of a new one of this size."""
        path = _path(self._name)
        with _errors_name(self._name):
            if not self._flags & os.O_EXCL:
                try:
                    return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                except FileNotFoundError:
                    if not self._flags & os.O_CREAT:
                        raise
            return _create(path, size, self._mode)

    def close(self):
        """Ends this object's use of the memory. BufferError if something still exports it.

        A numpy array of it does not count as an export, and stays valid.
        """
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            try:
                self._mmap.resize(-1)
            except BufferError:
                raise BufferError("cannot close exported pointers exist") from None
            except ValueError:
                pass  # it would be resized, if there were such a size: it is not exported
            self._mmap = None  # unmapped with the last array of it
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def unlink(self):
        """Deletes the block. Its name is free at once, its memory when its last user closes it."""
        if self._name:
            with _errors_name(self._name):
                os.unlink(_file(self._name))


class ShareableList(_std.ShareableList):
    """Works like the standard library's list in shared memory.

    >>> numbers = ShareableList([1, 2.5, "three"])
    >>> numbers[2] = "four"
    >>> list(ShareableList(name=numbers.shm.name))
    [1, 2.5, 'four']
    >>> numbers.shm.unlink()
    """

    # The standard library's own code, with one global name replaced.
    __init__ = types.FunctionType(
        _std.ShareableList.__init__.__code__,
        {**vars(_std), "SharedMemory": SharedMemory},
        "__init__",
        _std.ShareableList.__init__.__defaults__,
    )
    __init__.__kwdefaults__ = _std.ShareableList.__init__.__kwdefaults__


@contextlib.contextmanager
def _errors_name(name):
    """Makes errors name the block, as the standard library's do, in place of the files."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise OSError(error.errno, error.strerror, name) from None


def _create(path, size, mode):
    """A descriptor of a new file, which gets its name only when it is complete: nobody ever sees
    half of it."""
    folder, file = os.path.split(path)
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        os.posix_fallocate(fd, 0, size)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # (Without a descriptor of the folder, Python does not follow the link.)
            os.link(f"/proc/self/fd/{fd}", file, dst_dir_fd=place)
        finally:
            os.close(place)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_unknown(path, size, mode):
    """The same, in a third of the time, for a name that nobody knows yet."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        os.posix_fallocate(fd, 0, size)
    except BaseException:
        os.unlink(path)
        os.close(fd)
        raise
    return fd


def _file(name):
    """Where a block of this name is."""
    file = name.lstrip("/")
    if not file or "/" in file or file in (".", ".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return f"/dev/shm/slotfile-{os.geteuid()}/{file}"


def _path(name):
    """The same, in a folder that exists and belongs to this user."""
    path = _file(name)
    folder = os.path.dirname(path)
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(
            errno.EPERM, "somebody else has created this user's folder", folder
        )
    return path
