"""A lock between processes that the kernel releases when its holder dies.

The lock proper is the kernel's, on this process's own open file description of a segment (see
`lockfile`), so the death of a holder frees it within the time of a process exit. Such a lock knows
nothing of threads, so each has a gate in front, one per process: a reentrant lock, because only
that can say after an interruption whether this very thread has it.

One word in the segment, at the lock's own place, holds the pid of the holder. It is written after
locking and cleared before unlocking; who finds it set learns that the holder before died inside
(`was_abandoned`), and that what the lock guards may be half-changed.

Fairness is the kernel's: waiters are queued, but one who comes as the lock falls free may be first.
"""

from __future__ import annotations

import os
import time
from _thread import RLock, get_ident

from parmap._memory.host import locks_open_files
from parmap._memory.lockfile import lock_file_of
from parmap._memory.segment import Segment
from parmap._memory.words import WORD, words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Protocol, Self

    class Backing(Protocol):
        """What really locks: a `LockFile`, or a `NamedLock` where there is none."""

        def take(self, byte: int | None, *, wait: bool) -> bool: ...
        def drop(self, byte: int | None) -> None: ...


# How often one that waits with a timeout looks again: at first soon, then every 2 ms.
_FIRST_LOOK, _LAST_LOOK = 20e-6, 2e-3


class Gate:
    """What the threads of one process share about one lock."""

    __slots__ = ("abandoned", "enter", "entered", "leave", "owner")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget everything: in a forked child nobody holds anything."""
        lock: Any = RLock()
        self.enter: Callable[..., bool] = lock.acquire
        self.leave: Callable[[], None] = lock.release
        self.entered: Callable[[], bool] = lock._is_owned
        self.owner = 0  # the thread that holds the lock
        self.abandoned = False


class RobustLock:
    """Mutual exclusion for all threads of all processes with the same (segment, offset).

    Not reentrant. Held by a thread: another one cannot release it. Neither can a forked child,
    which never holds what its parent held. `whole` locks the whole file instead of one byte, which
    is a little faster: for a segment with one lock only. All users of one lock must agree on it.

    An exception from a signal handler (Ctrl-C) that strikes inside `acquire` leaves the lock free.
    One that strikes between its return and the caller's ``try`` does not, so prefer ``with``.
    """

    __slots__ = ("_backing", "_byte", "_gate", "_holder", "offset", "segment", "whole")

    def __init__(self, segment: Segment, offset: int = 0, *, whole: bool = False) -> None:
        """Use the 8 bytes at `offset` of `segment` as a lock; they are zeros at first."""
        self.segment = segment
        self.offset = offset
        self.whole = whole
        self._byte = None if whole else offset
        self._holder = words(segment, offset)
        self._backing, self._gate = _share(segment, offset)

    @classmethod
    def create(cls) -> RobustLock:
        """Return a new lock in a segment of its own (two descriptors)."""
        return cls(Segment.create(WORD), 0, whole=True)

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most `timeout` seconds (0: do not wait); whether it is held now.

        Raises RuntimeError when this thread holds it already.
        """
        gate = self._gate
        if gate.entered():
            # Or it is in this very method, and a signal handler or finaliser came in between.
            raise RuntimeError("this thread holds the lock already, and it is not reentrant")
        me = get_ident()
        try:
            if gate.enter(False) and self._backing.take(self._byte, wait=False):
                got = True
            else:
                got = self._wait(timeout)
            if got:
                # Stores only from here on: no signal can come between them and leave half of it.
                self._holder[0], gate.abandoned = _pid, self._holder[0] != 0
                gate.owner = me
                return True
        except BaseException:
            self._leave()
            raise
        self._leave()
        return False

    def release(self) -> None:
        """Let the next one in. Raises RuntimeError when this thread does not hold the lock."""
        gate = self._gate
        if gate.owner != get_ident():
            raise RuntimeError(_why_not(gate.owner))
        self._holder[0] = 0
        self._leave()

    @property
    def was_abandoned(self) -> bool:
        """Whether the holder before this one died while it held the lock. Ask while holding it."""
        return self._gate.abandoned

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock."""
        return self._gate.owner == get_ident()

    @property
    def entered(self) -> bool:
        """Whether this thread holds the lock, or is on its way in or out."""
        return self._gate.entered()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def __reduce__(
        self,
    ) -> tuple[Callable[..., RobustLock], tuple[object, ...]]:
        return _rebuild, (self.segment, self.offset, self.whole)

    def __repr__(self) -> str:
        return f"<RobustLock {'held by this thread' if self.held else 'not held here'}>"

    def _wait(self, timeout: float | None) -> bool:
        """Get the gate, if this thread has not got it already, and then the kernel's lock."""
        gate = self._gate
        if timeout is None:
            if not gate.entered():
                gate.enter()
            return self._backing.take(self._byte, wait=True)
        deadline = time.monotonic() + timeout
        if not gate.entered() and not gate.enter(True, max(0.0, timeout)):
            return False
        pause = _FIRST_LOOK
        # The kernel's lock has no timeout, and an alarm signal would be the user's: so look again
        # and again.
        while not self._backing.take(self._byte, wait=False):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LAST_LOOK)
        return True

    def _leave(self) -> None:
        """Give back whatever this thread has of the lock."""
        gate = self._gate
        if not gate.entered():
            return
        try:
            self._backing.drop(self._byte)
        except BaseException:
            # A signal handler raised, perhaps before the kernel was told; it is told again.
            self._backing.drop(self._byte)
            raise
        finally:
            gate.owner = 0
            gate.leave()


def _rebuild(segment: Segment, offset: int, whole: bool) -> RobustLock:
    return RobustLock(segment, offset, whole=whole)


def _share(segment: Segment, offset: int) -> tuple[Backing, Gate]:
    """Return what all locks of this process at this place have in common."""
    if locks_open_files():
        file = lock_file_of(segment)
        # setdefault is atomic: two threads get the same gate.
        return file, file.gates.setdefault(offset, Gate())
    from parmap._memory.namedlock import named_lock_of

    lock = named_lock_of(segment, offset)
    return lock, lock.gate.setdefault(0, Gate())


def _why_not(owner: int) -> str:
    if owner:
        return "another thread of this process holds the lock"
    return "this process does not hold the lock (a forked child does not inherit it)"


_pid = os.getpid()


def _learn_pid() -> None:
    global _pid
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_learn_pid)
