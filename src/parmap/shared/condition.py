"""`Condition`: wait, without the lock, until another thread or process has changed something."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parmap._memory.patience import left
from parmap.shared._handles import check_count, check_timeout, deadline_of
from parmap.shared.events import Waitable
from parmap.shared.locks import Lock, RLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    T = TypeVar("T")

_SLEEP = 0.5  # no longer, since who should have notified may be dead


class Condition(Waitable):
    """A lock, and a place to wait until what it guards has changed.

    ::

        with condition:
            condition.wait_for(lambda: queue_is_full() is False)
            ...
            condition.notify()

    Those who wait are notified in the order in which they began to wait. The dead are passed over,
    and a notification that reached somebody who was killed before he had the lock again goes to
    the next. Who is killed between a change and `notify` has notified nobody: `wait_for` looks for
    itself twice a second, `wait` cannot. So prefer `wait_for`.

    Its lock is released when its holder dies; `was_abandoned` tells the next one. It can be sent
    anywhere, and lives as long as somebody has it; any thread may use it. Up to 375 threads can wait
    at the same time.

    Args:
        lock: A `Lock` or `RLock` of parmap; None: an `RLock` of its own.

    Raises:
        TypeError: `lock` is another thing.

    Example:
        >>> from parmap import Condition
        >>> condition = Condition()
        >>> with condition:
        ...     condition.wait(timeout=0.01)
        False
    """

    __slots__ = ("_user",)

    _user: Lock

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(f"lock must be a parmap Lock or RLock, not {type(lock).__name__}")
        super().__init__()
        self._user = RLock() if lock is None else lock

    def _extras(self) -> tuple[Any, ...]:
        return (self._user,)

    def _arrive(self, *extras: Any) -> None:
        (self._user,) = extras

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock; return whether this thread holds it now. See `Lock.acquire`."""
        return self._user.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock. See `Lock.release`."""
        self._user.release()

    def locked(self) -> bool:
        """Whether some thread of some process holds the lock at this moment."""
        return self._user.locked()

    @property
    def was_abandoned(self) -> bool:
        """Whether the holder of the lock before died while it held it. Ask while holding it."""
        return self._user.was_abandoned

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire the lock again.

        Return True, or False when `timeout` seconds have passed without a notification. However
        it ends (Ctrl-C, too), the lock is held again, however long that takes.

        Raises:
            RuntimeError: This thread does not hold the lock.
            ValueError: `timeout` is negative.
        """
        check_timeout(timeout)
        self._check_held("wait")
        deadline = deadline_of(timeout)
        room = self._room
        with self._mutex:
            seat = room.sit()
        depth = self._user._release_save()
        notified = False
        try:
            self._sleep(seat, deadline)
        finally:
            try:
                self._user._acquire_restore(depth)
            finally:
                with self._mutex:
                    notified = room.stand(seat)
        return notified

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `predicate()` is true; return what it gave last.

        It is called with the lock held: at first, whenever this thread is notified, and twice a
        second.

        Raises:
            RuntimeError: This thread does not hold the lock.
            ValueError: `timeout` is negative.
        """
        check_timeout(timeout)
        self._check_held("wait")
        deadline = deadline_of(timeout)
        while not (value := predicate()):
            if deadline is not None and time.monotonic() >= deadline:
                break
            self.wait(left(deadline, _SLEEP))
        return value

    def notify(self, n: int = 1) -> None:
        """Wake up to `n` threads that wait. They go on once they have the lock.

        Raises:
            RuntimeError: This thread does not hold the lock.
            ValueError: `n` is negative.
        """
        check_count("n", n, 0)
        self._check_held("notify")
        with self._mutex:
            self._room.call(n)

    def notify_all(self) -> None:
        """Wake all threads that wait.

        Raises:
            RuntimeError: This thread does not hold the lock.
        """
        self._check_held("notify")
        with self._mutex:
            self._room.call(-1)

    def __enter__(self) -> bool:
        return self._user.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._user.__exit__(kind, error, tb)

    def __repr__(self) -> str:
        return f"<Condition on {self._user!r}>"

    def _check_held(self, what: str) -> None:
        if not self._user._mutex.held:
            raise RuntimeError(f"to {what}, acquire the condition first: `with condition:`")

    def _sleep(self, seat: int, deadline: float | None) -> None:
        room = self._room
        while not room.called(seat) and (deadline is None or time.monotonic() < deadline):
            room.sleep(seat, left(deadline, _SLEEP))
            if not room.called(seat):
                with self._mutex:
                    room.inherit(seat)
