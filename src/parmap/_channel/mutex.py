"""The lock of one channel.

`enter` waits for it; `leave` gives it back if this thread has it, and else does nothing, so that

    try:
        enter()
        ...
    finally:
        leave()

leaves nothing locked, wherever an exception from a signal handler strikes.
"""

from __future__ import annotations

from parmap._channel.layout import LOCK, REPAIR, WORD
from parmap._memory.flock import RobustLock
from parmap._memory.words import words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.segment import Segment


class FileMutex:
    """The kernel's lock on the channel's file: released by the kernel when its holder dies."""

    __slots__ = ("_lock", "_repair")

    def __init__(self, segment: Segment) -> None:
        self._lock = RobustLock(segment, LOCK * WORD, whole=True)
        self._repair = words(segment, REPAIR * WORD)

    def enter(self) -> None:
        """Wait for the lock."""
        self._lock.acquire()
        if self._lock.was_abandoned:
            self._repair[0] = 1

    def leave(self) -> None:
        """Give the lock back, if this thread has it."""
        if self._lock.held:
            self._lock.release()

    def renew(self) -> None:
        """In a forked child: the file's lock has done it already."""
