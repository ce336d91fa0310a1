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
import time

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import NoReturn

if sys.platform != "win32":
    import fcntl

LINUX = 0
POSIX = 1
BARE = 2

_FIRST_FREE = 3  # after stdin, stdout, stderr
_MFD_NOEXEC_SEAL = 8


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


def give_way() -> None:
    """Let somebody else have this CPU, if somebody waits for it; for loops that look for news."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0)


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


def make_pipe() -> tuple[int, int]:
    """Return the two ends of a new pipe, closed on exec, above stdio: all of it or nothing."""
    try:
        read_end, write_end = os.pipe()
    except OSError as error:
        too_many(error)
    try:
        read_end = lift(read_end)
    except OSError:
        os.close(write_end)
        raise
    try:
        return read_end, lift(write_end)
    except OSError:
        os.close(read_end)
        raise


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


def anonymous_file(size: int) -> int:
    """Return a descriptor for a new file of zeros that has no name, and goes with its last user."""
    try:
        fd = lift(_memory_file() if portable_level() == LINUX else _unlinked_file())
    except OSError as error:
        too_many(error)
    try:
        extend(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def extend(fd: int, size: int) -> None:
    """Make a file at least `size` bytes long; never shorter, even when two processes do it."""
    if sys.platform == "linux" and portable_level() == LINUX:
        try:
            os.ftruncate(fd, size)
        except PermissionError:
            pass  # sealed against shrinking: another process has made it longer already
    elif sys.platform == "win32" or sys.platform == "darwin":
        if os.fstat(fd).st_size < size:  # not atomic: growing needs the lock of what lives inside
            os.ftruncate(fd, size)
    else:
        # Also reserves the room: a full disk is an OSError here and not a SIGBUS later.
        os.posix_fallocate(fd, 0, size)


def reopen(fd: int) -> int:
    """Open the file behind `fd` once more: a new open file description, so locks of its own."""
    try:
        return lift(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        too_many(error)


def locks_open_files() -> bool:
    """Whether byte ranges can be locked per open file description, which `/proc` can make anew."""
    # `struct flock` is packed for 64-bit offsets, as every 64-bit Linux has it.
    return portable_level() == LINUX and sys.maxsize > 2**32


def _memory_file() -> int:
    if sys.platform != "linux":  # pragma: no cover - portable_level() keeps others away
        raise NotImplementedError
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Some hardened systems refuse memory files that do not swear off being executed.
        fd = os.memfd_create("parmap", flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3
            raise
        fd = os.memfd_create("parmap", flags)
    # A process that made it shorter would kill the others with SIGBUS.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def _unlinked_file() -> int:
    import tempfile

    # A kill between these two lines leaves an empty file behind: the price of this fallback.
    fd, path = tempfile.mkstemp(prefix="parmap-")
    os.unlink(path)
    return fd
