"""A fast lock for any place in shared memory, whose holder may be killed at any moment.

::

    segment = Segment.create(size_of())       # or any multiple of 64 inside a segment or block
    prepare(segment, at)                       # once, by its maker
    mutex = mutex_of(segment, at)              # in each process: the one object for that place

    with mutex:                                # threads and processes exclude each other
        if mutex.was_abandoned: ...            # the holder before died inside

The memory is `size_of(slots)` bytes of zeros, `slots` being how many processes can use it at the
same time (1,000 unless said; all users must say the same).  `mutex.abandoned[0]`, a word in shared
memory, becomes 1 at each takeover and stays so until somebody who has repaired what the mutex
guards makes it 0 again.

`enter` waits for it (with a timeout it returns whether it came in); `leave` gives back whatever
this thread has of it, and may be called at any time and twice.  An exception from a signal handler
(Ctrl-C) can strike in front of `leave`'s own first instruction, so where that matters write

    try:
        enter()
        ...
    finally:
        try:
            leave()
        except BaseException:
            leave()
            raise

and ``with`` elsewhere.  Not reentrant: a finaliser or signal handler that comes back in the same
thread gets RuntimeError.  A forked child holds nothing.  `within` bounds all waiting of a thread.

Two kinds; who prepares the memory decides, and the others see it there.  `FileMutex` is the
kernel's lock, always right and slow (1.8 us).  `IntentMutex` is many times as fast.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import RLock
from _weakref import ref

from parmap._memory.flock import RobustLock
from parmap._memory.host import LINUX, portable_level
from parmap._memory.intents import IntentMutex
from parmap._memory.manners import HUNGRY, MANNERS, PATIENCE, be_polite
from parmap._memory.patience import bounded, check_time, left
from parmap._memory.semaphores import (
    ABANDONED,
    HEADER,
    LOCK,
    READY,
    SLOT,
    WAITERS,
    initialise,
)
from parmap._memory.words import WORD, words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from parmap._memory.segment import Segment


SLOTS = 1000


def size_of(slots: int = SLOTS) -> int:
    """Return how many bytes a mutex takes that so many processes can use at the same time."""
    return (HEADER + slots * SLOT) * WORD


def prepare(segment: Segment, at: int = 0) -> None:
    """Make a new mutex in zeros: the fast one, if this system can."""
    if portable_level() == LINUX and _has_gil() and initialise(segment, at):
        words(segment, at, HEADER)[READY] = 1


def mutex_of(segment: Segment, at: int = 0, slots: int = SLOTS) -> FileMutex | IntentMutex:
    """Return this process's one object for the mutex at that place."""
    key = (segment.key, at)
    with _lock:
        known = _mutexes.get(key)
        mutex = None if known is None else known()
        if mutex is None:
            fast = words(segment, at, HEADER)[READY]
            mutex = IntentMutex(segment, at, slots) if fast else FileMutex(segment, at)
            _mutexes[key] = ref(mutex, lambda gone: _forget(key, gone))
    return mutex


class FileMutex:
    """The kernel's lock at that place: released by the kernel when its holder dies."""

    __slots__ = ("__weakref__", "_lock", "_nested", "_polite", "_words", "abandoned", "segment")

    def __init__(self, segment: Segment, at: int = 0) -> None:
        self.segment = segment
        self._lock = RobustLock(segment, at + LOCK * WORD)
        self._words = words(segment, at, HEADER)
        self.abandoned = self._words[ABANDONED : ABANDONED + 1]
        self.renew()

    def renew(self) -> None:
        """In a forked child: the file's lock has done it already."""
        self._polite = False
        self._nested = 0  # refused while this thread was in: each leaves once, as if it had entered

    def enter(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most `timeout` seconds; return whether it is held now."""
        if self._lock.entered:
            self._nested += 1
        deadline = bounded(None if timeout is None else time.monotonic() + timeout)
        if self._polite and timeout != 0:
            self._polite = False
            be_polite(self._words, deadline)
        if not self._lock.acquire(0) and not self._wait(deadline):
            check_time()
            return False
        if self._lock.was_abandoned:
            self.abandoned[0] = 1
        return True

    def leave(self) -> None:
        """Give the lock back, if this thread has it."""
        if self._nested and self._lock.entered:
            self._nested -= 1
        elif self._lock.held:
            self._polite = self._words[WAITERS] == HUNGRY
            self._lock.release()

    @property
    def was_abandoned(self) -> bool:
        """Whether the holder before this one died while it held the lock."""
        return self._lock.was_abandoned

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock."""
        return self._lock.held

    def __enter__(self) -> None:
        try:
            self.enter()
        except BaseException:
            self.leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.leave()

    def _wait(self, deadline: float | None) -> bool:
        """Wait: soon as one whom the others let go first."""
        got = self._lock.acquire(left(deadline, PATIENCE))
        while not got and (deadline is None or time.monotonic() < deadline):
            self._words[WAITERS] = HUNGRY
            got = self._lock.acquire(left(deadline, MANNERS))
        if self._words[WAITERS]:
            self._words[WAITERS] = 0
        return got


def _has_gil() -> bool:
    """Whether threads take turns: an intent is one store, but its number is counted before it."""
    check = getattr(sys, "_is_gil_enabled", None)
    return check is None or bool(check())


# This process's mutexes by place.
_mutexes: dict[tuple[tuple[int, int], int], ref[Any]] = {}
_lock = RLock()


def _forget(key: tuple[tuple[int, int], int], gone: ref[Any]) -> None:
    if _mutexes.get(key) is gone:
        del _mutexes[key]


def _renew_all() -> None:
    global _lock
    _lock = RLock()
    for weak in list(_mutexes.values()):
        mutex = weak()
        if mutex is not None:
            mutex.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
