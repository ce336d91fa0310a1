"""`Lock` and `RLock`: mutual exclusion that the death of a holder ends."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from parmap.shared._handles import Handle, check_timeout

if TYPE_CHECKING:
    from types import TracebackType

    from parmap._memory.arena import Block
    from parmap._memory.intents import IntentMutex
    from parmap._memory.mutex import FileMutex


class Lock(Handle):
    """Mutual exclusion for all threads of all processes that have it.

    ::

        with lock:
            if lock.was_abandoned:
                repair()            # the holder before was killed in here
            change()

    It belongs to the thread that acquired it: only that one can release it, and only once. When its
    process dies, however it dies, the lock is free again (the next `acquire` notices within about 20
    ms), and `was_abandoned` tells. A forked child does not hold what its parent holds.

    Who has waited for 5 ms is let in before those who come back again and again, so nobody starves;
    there is no strict order.

    It can be sent anywhere, and lives as long as somebody has it, or holds it after `acquire`. Any
    thread may use it. Up to 500 processes can use one at the same time.

    Example:
        >>> from parmap import Lock, parallel_map
        >>> lock = Lock()
        >>> def careful(x):
        ...     with lock:
        ...         return x + 1
        >>> parallel_map(careful, range(3), max_workers=2)
        [1, 2, 3]
    """

    __slots__ = ()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Wait for the lock; return whether this thread holds it now.

        An exception from a signal handler (Ctrl-C) that strikes in here leaves the lock free; one
        between its return and the next line does not, so prefer ``with``.

        Args:
            block: False: do not wait, say at once.
            timeout: Wait at most so many seconds, then return False. None: for ever.

        Raises:
            RuntimeError: This thread holds it already, so it would wait for itself for ever (with
                ``block=False`` or a timeout it returns False).
            ValueError: `timeout` is negative, or given although `block` is False.
        """
        if timeout is not None or not block:
            check_timeout(timeout, block=block)
            timeout = timeout if block else 0
            if self._mutex.held:
                time.sleep(timeout or 0)
                return False
        elif self._mutex.held:
            raise RuntimeError("this thread holds the lock already: use an RLock to nest")
        got = _enter(self._mutex, timeout)
        if got:
            _held.add(self)
        return got

    def release(self) -> None:
        """Let the next one in.

        Raises:
            RuntimeError: This thread does not hold it: it was not acquired, another thread has it,
                or the parent of this forked process.
        """
        if not self._mutex.held:
            raise RuntimeError(_NOT_HELD)
        _held.discard(self)  # first: then another thread may have acquired it
        self._mutex.leave()

    def locked(self) -> bool:
        """Whether some thread of some process holds it at this moment."""
        if self._mutex.held:
            return True
        if _enter(self._mutex, 0):
            self._mutex.leave()
            return False
        return True

    @property
    def was_abandoned(self) -> bool:
        """Whether the holder before died while it held the lock. Ask while holding it."""
        return self._mutex.was_abandoned

    def __enter__(self) -> bool:
        self._mutex.__enter__()  # which raises if this thread holds it already
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._mutex.__exit__(kind, error, tb)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'held by this thread' if self._mutex.held else 'shared'}>"

    def _release_save(self) -> int:
        """Release it however often it is held; what `_acquire_restore` takes."""
        self._mutex.leave()
        return 1

    def _acquire_restore(self, count: int) -> None:
        del count
        self._mutex.enter()


class RLock(Lock):
    """A `Lock` that the thread which holds it can acquire again; it is free after as many releases.

    Example:
        >>> from parmap import RLock
        >>> lock = RLock()
        >>> with lock, lock:
        ...     lock.locked()
        True
    """

    __slots__ = ("_depth",)

    _depth: int

    def _attach(self, block: Block) -> None:
        super()._attach(block)
        self._depth = 0  # of the thread that holds it

    def _renew(self) -> None:
        self._depth = 0

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Wait for the lock, or count once more; return whether this thread holds it now.

        Args:
            block: False: do not wait, say at once.
            timeout: Wait at most so many seconds, then return False. None: for ever.

        Raises:
            ValueError: `timeout` is negative, or given although `block` is False.
        """
        check_timeout(timeout, block=block)
        if self._mutex.held:
            self._depth += 1
            return True
        got = super().acquire(block, timeout)
        if got:
            self._depth = 1
        return got

    def release(self) -> None:
        """Count once less; the last time lets the next one in.

        Raises:
            RuntimeError: This thread does not hold it.
        """
        if not self._mutex.held:
            raise RuntimeError(_NOT_HELD)
        if self._depth > 1:
            self._depth -= 1
            return
        self._depth = 0
        _held.discard(self)  # first: then another thread may have acquired it
        self._mutex.leave()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _release_save(self) -> int:
        depth, self._depth = self._depth, 0
        self._mutex.leave()
        return depth

    def _acquire_restore(self, count: int) -> None:
        self._mutex.enter()
        self._depth = count


def _enter(mutex: FileMutex | IntentMutex, timeout: float | None) -> bool:
    """Enter, or hold nothing: an exception from a signal handler may strike anywhere in between."""
    try:
        return mutex.enter(timeout)
    except BaseException:
        mutex.leave()
        raise


# What `acquire` has taken here lives until its release, also where nothing else refers to it, as in
# ``array.lock.acquire()``: else nobody could release it, and everybody would wait for ever.  A
# ``with`` statement refers to its lock itself.
_held: set[Lock] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)

_NOT_HELD = (
    "this thread does not hold the lock: another thread or process may, and a forked child does not"
    " hold what its parent holds"
)
