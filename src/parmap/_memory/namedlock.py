"""The portable way to lock: ``flock`` on an empty file with a name.

Every process opens it for itself.

Where a file without a name cannot be opened a second time (no ``/proc``), this is what is left:
the kernel still releases the lock when its holder dies. POSIX record locks would need no name, but
a process loses them as soon as it closes any descriptor of the file, and sending a handle does
that.

The name follows from the segment's identity, so that all who have the segment find it. It is
removed by the last user to go; SIGKILL of all leaves an empty file, which the next process to make
such a lock sweeps away. Removing is always safe, because who has locked a file looks whether the
name still means that file, and else starts again.
"""

from __future__ import annotations

import atexit
import os
import sys
from _thread import allocate_lock
from _weakref import ref

from parmap._memory.host import close_quietly, lift, too_many

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap._memory.segment import Segment

if sys.platform != "win32":
    import fcntl


class NamedLock:
    """One process's view of one lock: the file, open while it is used."""

    __slots__ = ("__weakref__", "_fd", "_path", "gate")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        # At 0: what makes threads exclude each other (owned by the module flock).
        self.gate: dict[int, Any] = {}

    def take(self, byte: int | None, *, wait: bool) -> bool:
        """Lock against other processes; whether it worked.

        Each lock has its own file, so `byte` says nothing.
        """
        del byte
        while True:
            if self._fd < 0:
                self._fd = _open(self._path)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if is_named(self._path, self._fd):
                return True
            self._close()  # swept away meanwhile: others will lock a new file of this name

    def drop(self, byte: int | None) -> None:
        """Unlock. Harmless if it was not locked."""
        del byte
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def renew(self) -> None:
        """In a forked child: let go of the parent's description, and so of its lock."""
        self._close()
        for gate in self.gate.values():
            gate.renew()

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _finalizing():  # else `_remove_all` has done it, and half of this module is gone
            self.remove()

    def remove(self) -> None:
        """Close the file, and remove it unless somebody uses it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _remove_unused(self._path, fd)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            close_quietly(fd)


_locks: dict[str, ref[NamedLock]] = {}
_mutex = allocate_lock()


def named_lock_of(segment: Segment, offset: int) -> NamedLock:
    """Return this process's lock of that name; all locks at that place share it."""
    path = f"{private_folder()}/{segment.key[0]:x}-{segment.key[1]:x}-{offset:x}"
    with _mutex:
        known = _locks.get(path)
        lock = None if known is None else known()
        if lock is None:
            for gone in [path for path, weak in _locks.items() if weak() is None]:
                del _locks[gone]
            lock = NamedLock(path)
            _locks[path] = ref(lock)
    return lock


_swept = False


def private_folder() -> str:
    """Return the private folder of lock files; this process's first visit sweeps it."""
    global _swept
    import tempfile

    folder = f"{tempfile.gettempdir()}/parmap-locks-{os.getuid()}"
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        status = os.lstat(folder)
        if status.st_uid != os.getuid() or status.st_mode & 0o170077 != 0o040000:
            raise PermissionError(f"{folder} is not a private folder of this user") from None
    if not _swept:
        _swept = True
        for name in os.listdir(folder):
            _sweep(f"{folder}/{name}")
    return folder


def _open(path: str) -> int:
    try:
        return lift(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        too_many(error)


def _sweep(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    _remove_unused(path, fd)


def _remove_unused(path: str, fd: int) -> None:
    """Remove the file unless somebody holds its lock now, and close it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_named(path, fd):
            os.unlink(path)
    except OSError:
        pass
    close_quietly(fd)


def is_named(path: str, fd: int) -> bool:
    """Whether the name still means the file that is open."""
    try:
        named, opened = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _remove_all() -> None:
    """At the end of the process, when what still lives is not collected any more."""
    for weak in list(_locks.values()):
        lock = weak()
        if lock is not None:
            lock.remove()


atexit.register(_remove_all)


def _renew_all() -> None:
    global _mutex
    _mutex = allocate_lock()
    for weak in _locks.values():
        lock = weak()
        if lock is not None:
            lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
