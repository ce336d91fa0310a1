"""What this operating system offers, and the portable way round what it lacks.

Everything here is a small wrapper over a system call. Two levels of poverty can be asked for, so
that the fallbacks run, and are tested, on a rich system too; `portable_level` is the only reader
of the variable:

* ``PARMAP_PORTABLE=1``: POSIX without Linux (no memory files, no ``/proc``, no locks that belong
  to an open file).
* ``PARMAP_PORTABLE=2``: in addition no descriptors over sockets (``SCM_RIGHTS``), as on Windows.

Descriptors made or received here are never 0, 1 or 2: a program that closed its standard streams
would otherwise find a later ``print`` inside a shared memory file.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
from typing import NoReturn

if sys.platform != "win32":
    import fcntl

LINUX = 0
POSIX = 1
BARE = 2

_FIRST_FREE = 3  # after stdin, stdout, stderr


def portable_level() -> int:
    """How little to assume: LINUX, POSIX or BARE (the platform, or ``PARMAP_PORTABLE``)."""
    native = LINUX if sys.platform == "linux" else BARE if sys.platform == "win32" else POSIX
    asked = os.environ.get("PARMAP_PORTABLE")
    return max(native, int(asked)) if asked in ("1", "2") else native


def passes_descriptors() -> bool:
    """Whether a descriptor can be sent to a process that runs already."""
    return hasattr(_socket, "SCM_RIGHTS") and portable_level() < BARE


def close_quietly(fd: int) -> None:
    """Close a descriptor that may be closed already. Never raises: the callers are cleaning up."""
    try:
        os.close(fd)
    except OSError:
        pass


def too_many(error: OSError) -> NoReturn:
    """Re-raise `error` of a call that makes a descriptor; a limit that was hit gets its cure."""
    if error.errno == errno.EMFILE:
        text = "this process has no file descriptor left for parmap: raise its limit (ulimit -n)"
        raise OSError(errno.EMFILE, text) from error
    if error.errno == errno.ENFILE:
        raise OSError(
            errno.ENFILE, "this machine has no file descriptor left for parmap"
        ) from error
    raise error


def duplicate(fd: int) -> int:
    """Return a second descriptor for the same open file, closed on exec, above stdio."""
    try:
        if sys.platform == "win32":
            return os.dup(fd)
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    except OSError as error:
        too_many(error)


def lift(fd: int) -> int:
    """`fd` itself, or its replacement when it took the place of a closed standard stream."""
    if fd >= _FIRST_FREE:
        return fd
    try:
        return duplicate(fd)
    finally:
        os.close(fd)


def is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors stand for the same file, opened the same way, as far as is known.

    Used to tell a descriptor seen twice from a number that was closed and given away again in
    between. Kernel objects that share one inode (epoll, eventfd: those whose mode names no type)
    are never called the same.
    """
    a, b = os.fstat(one), os.fstat(other)
    if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) or a.st_mode & 0o170000 == 0:
        return False
    if sys.platform == "win32":
        return True
    # Both ends of one pipe have the same inode: the access mode tells them apart.
    return fcntl.fcntl(one, fcntl.F_GETFL) == fcntl.fcntl(other, fcntl.F_GETFL)
