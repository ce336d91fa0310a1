"""This process's own open file description of a segment: its locks end with the process.

The kernel keeps ``flock`` locks and ranges locked by ``F_OFD_SETLK`` per open file description,
and drops them with its last descriptor: when the process dies, however it dies. So every process
opens each segment once for itself, and every lock of that segment lives on that one descriptor.
Two kinds:

* **Mutexes** (`take` and `drop`): on the whole file, or on one byte, which the module `flock`
  builds its locks from.
* **Presence** (`hold` and `let_go`): a shared lock on one imaginary byte far beyond the end, which
  says that somebody uses the thing with that number. If nobody else holds it, it can be taken
  exclusively: a reference count that survives any kill.

**Fork.** A child inherits descriptors, hence the description, hence the locks: a dead parent's
mutex would stay taken. So it gets a description of its own: no mutexes on it, and the presence of
what its parent used, locked before the fork, so that there is no moment in which nobody holds it.
(A fork made behind Python's back, in C, is not noticed.)
"""

from __future__ import annotations

import os
import struct
import sys
from _thread import RLock
from _weakref import ref

from parmap._memory.host import close_quietly, locks_open_files, reopen

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap._memory.segment import Segment

if sys.platform != "win32":
    import fcntl

# F_OFD_*: Python has the names only where its libc had them.
_SETLK, _SETLKW, _GETLK = 37, 38, 36
_PRESENCE = 1 << 40  # where presence bytes begin: beyond any segment
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


class LockFile:
    """One process's description of one segment. Made by `lock_file_of`; lives as long as that.

    `take` and `drop` leave it to the caller that threads of one process do not mix; the rest is
    thread-safe.
    """

    __slots__ = ("__weakref__", "_close", "_next", "_present", "_records", "_source", "fd", "gates")

    def __init__(self, source: int) -> None:
        """Open the file behind the descriptor `source`, which must stay open."""
        self._source = source
        self._close: Callable[[int], None] = close_quietly
        self._present: dict[int, int] = {}
        self._next = -1  # the child's description, while a fork is being made
        # Per byte: what makes threads exclude each other (owned by the module flock).
        self.gates: dict[int, Any] = {}
        self._records: dict[int, tuple[bytes, bytes]] = {}
        self.fd = reopen(source)
        _files[id(self)] = ref(self)

    def take(self, byte: int | None, *, wait: bool) -> bool:
        """Lock one byte, or the whole file (None), against other processes; whether it worked."""
        fd = self.fd if self.fd >= 0 else self._open()
        try:
            if byte is None:
                fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.fcntl(fd, _SETLKW if wait else _SETLK, self._pair(byte)[0])
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: taken
            return False
        return True

    def drop(self, byte: int | None) -> None:
        """Unlock. Harmless if it was not locked."""
        if self.fd < 0:
            return
        if byte is None:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        else:
            fcntl.fcntl(self.fd, _SETLK, self._pair(byte)[1])

    def hold(self, number: int) -> None:
        """Be counted as a user of `number` in this process once more. The first time locks it."""
        with _mutex:
            count = self._present.get(number, 0)
            if not count:
                # Waits only while another process tests for presence, which is a matter of
                # microseconds.
                fcntl.fcntl(self.fd, _SETLKW, _record(fcntl.F_RDLCK, _PRESENCE + number))
            self._present[number] = count + 1

    def claim(self, number: int) -> bool:
        """Become the only user of `number`, if nobody uses it."""
        with _mutex:
            if number in self._present:
                return False
            try:
                fcntl.fcntl(self.fd, _SETLK, _record(fcntl.F_WRLCK, _PRESENCE + number))
            except (BlockingIOError, PermissionError):
                return False
            # Made shared at once: from now on others can join.
            fcntl.fcntl(self.fd, _SETLK, _record(fcntl.F_RDLCK, _PRESENCE + number))
            self._present[number] = 1
            return True

    def let_go(self, number: int) -> bool:
        """Be counted once less; True when nobody here or elsewhere uses `number` any more."""
        with _mutex:
            count = self._present.pop(number, 0)
            if count > 1:
                self._present[number] = count - 1
                return False
            if not count or self.fd < 0:
                return False
            fcntl.fcntl(self.fd, _SETLK, _record(fcntl.F_UNLCK, _PRESENCE + number))
            return not self._used_elsewhere(number)

    def in_use(self, number: int) -> bool:
        """Whether anybody, here or elsewhere, uses `number`."""
        with _mutex:
            return number in self._present or self._used_elsewhere(number)

    def traveller(self, number: int) -> int:
        """Return a new descriptor that counts as a user of `number` while it is open."""
        fd = reopen(self._source)
        try:
            fcntl.fcntl(fd, _SETLKW, _record(fcntl.F_RDLCK, _PRESENCE + number))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def forget_source(self) -> None:
        """Never open again: the segment is closed, and its number may soon mean another file."""
        self._source = -1

    def __del__(self) -> None:
        _files.pop(id(self), None)
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            self.fd = -1  # what is collected together with this may still call
            self._close(fd)

    def _pair(self, byte: int) -> tuple[bytes, bytes]:
        """Return what locks and what unlocks a byte, packed once: packing is a tenth of it all."""
        pair = self._records.get(byte)
        if pair is None:
            pair = self._records[byte] = (
                _record(fcntl.F_WRLCK, byte),
                _record(fcntl.F_UNLCK, byte),
            )
        return pair

    def _used_elsewhere(self, number: int) -> bool:
        asked = _record(fcntl.F_WRLCK, _PRESENCE + number)
        kind: int = struct.unpack_from("h", fcntl.fcntl(self.fd, _GETLK, asked))[0]
        return kind != fcntl.F_UNLCK

    def _open(self) -> int:
        with _mutex:
            if self.fd < 0:
                self.fd = reopen(self._source)
            return self.fd

    def _prepare_fork(self) -> None:
        """In the parent, before: make the child's description, if there is presence to hand on."""
        if not self._present:
            return
        fd = reopen(self._source)
        try:
            for first, count in _runs(sorted(self._present)):
                fcntl.fcntl(fd, _SETLK, _record(fcntl.F_RDLCK, _PRESENCE + first, count))
        except BaseException:
            os.close(fd)
            raise
        self._next = fd

    def _end_fork(self, *, child: bool) -> None:
        if not child:
            if self._next >= 0:
                self._close(self._next)
                self._next = -1
            return
        for gate in self.gates.values():
            gate.renew()
        if self._present and self._next < 0:
            return  # no descriptor was left for a new one: sharing loses nothing that is in use
        # The parent keeps its locks: closing one descriptor of several releases nothing.
        self._close(self.fd)
        self.fd, self._next = self._next, -1


# All of this process, for the fork handlers.
_files: dict[int, ref[LockFile]] = {}
_mutex: Any = RLock()


def inside() -> bool:
    """Whether this thread is half-way through a change here, so that a finaliser must come back."""
    return bool(_mutex._is_owned())


def lock_file_of(segment: Segment) -> LockFile:
    """Return this process's lock file of `segment`, opened at the first request."""
    file = segment.lock_file
    if file is None:
        if not locks_open_files():
            raise NotImplementedError("this system has no locks that belong to an open file")
        with _mutex:
            file = segment.lock_file
            if file is None:
                file = segment.lock_file = LockFile(segment.fileno())
    return file


def _record(kind: int, start: int, length: int = 1) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as runs (first, count): the kernel takes a run as one lock."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _live() -> list[LockFile]:
    return [file for weak in list(_files.values()) if (file := weak()) is not None]


def _before_fork() -> None:
    _mutex.acquire()  # no other thread may be half-way through a change in the child's copy
    for file in _live():
        try:
            file._prepare_fork()
        except OSError:
            pass  # out of descriptors: the child shares this one's description


def _after_fork_parent() -> None:
    for file in _live():
        file._end_fork(child=False)
    _mutex.release()


def _after_fork_child() -> None:
    global _mutex
    _mutex = RLock()
    for file in _live():
        file._end_fork(child=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_parent, after_in_child=_after_fork_child
    )
