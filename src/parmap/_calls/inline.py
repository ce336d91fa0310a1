"""The same call in this very process: `max_workers=0`, for debugging, and for calls within workers
that have no CPU to spare.  Nothing is pickled; breakpoints and coverage just work."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from parmap import _nesting
from parmap._calls.futures import CallFuture
from parmap._calls.outcomes import Batch, Reader
from parmap._calls.recording import clock
from parmap._core.deadlines import LONGEST_WAIT
from parmap._core.events import OnFailure
from parmap._limits import NO_LIMITS, Limits
from parmap._wire.pickling import Codec
from parmap.errors import PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from parmap._calls.recording import CallRecord

P = ParamSpec("P")
R = TypeVar("R")


class InlineSource:
    """Runs each item when its outcome is asked for."""

    takes_all = True

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        star: bool,
        on_failure: OnFailure,
        limits: Limits = NO_LIMITS,
        record: CallRecord | None = None,
    ) -> None:
        self._fn = fn
        self.record = record
        self._retry, self._policy = limits.retry, limits.policy()
        self._seed = limits.seed
        self._context = copy_context()
        self._star = star
        self.stops = on_failure is not OnFailure.CONTINUE
        self._items: deque[tuple[int, object]] = deque()
        # The first of them rests: until when, and which attempt comes then.
        self._resting: tuple[float, int] | None = None
        self._fed = 0
        self._ended = False
        self._current: tuple[int, object] = (0, None)
        self._reader = Reader(Codec("to worker"), lambda index: self._current[1])
        self.appetite = 1
        self.error: BaseException | None = None

    def watch(self, record: CallRecord) -> None:
        """Tell a profile of it from now on."""
        self.record = record

    def feed_all(self, items: Sequence[object]) -> None:
        """Give all items at once."""
        self.feed(items)
        self._ended = True

    def feed(self, items: Sequence[object], skipped: int = 0) -> None:
        """Give some more items; `skipped`: so many before them are not to be run."""
        first = self._fed + skipped
        self._items.extend(enumerate(items, first))
        self._fed = first + len(items)

    def end_input(self) -> None:
        """No more items will come."""
        self._ended = True

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        """Run one item; None when none is there, nobody wants to wait for one, or it is to rest."""
        if not self._items or timeout == 0:
            return None
        index, item = self._current = self._items[0]
        attempt = 1
        if self._resting is not None:
            until, attempt = self._resting
            left = max(0.0, until - time.monotonic())
            longest = LONGEST_WAIT if timeout is None else timeout
            time.sleep(min(left, longest))
            if longest < left:
                return None
        run = self._run if self._seed is None else self._run_seeded
        began = clock()
        try:
            value = run(index, attempt, item)
        except KeyboardInterrupt:
            raise  # in this process it is the user's
        except BaseException as error:  # whatever it is, it is that item's
            self._note(index, began)
            if self._is_retried(error, attempt):
                self._resting = time.monotonic() + self._policy.delay(attempt), attempt + 1
                return None
            self._leave()
            return self._failed(error, index, attempt)
        self._note(index, began)
        self._leave()
        return Batch(index, [value])

    def _leave(self) -> None:
        """The first item is done."""
        if self._items:  # else the item itself has ended the call
            self._items.popleft()
        self._resting = None

    def _run(self, index: int, attempt: int, item: Any) -> Any:
        """In a copy of the caller's context: what the item sets there is gone with it."""
        context = self._context.copy()
        name = threading.current_thread().name
        context.run(_nesting.inner.set, _nesting.RunningItem(index, attempt, name, self._seed))
        return context.run(self._fn, *item) if self._star else context.run(self._fn, item)

    def _run_seeded(self, index: int, attempt: int, item: Any) -> Any:
        from parmap._worker.seeding import Seeding

        assert self._seed is not None
        with Seeding(self._seed) as seeding:
            seeding.plant(index)
            return self._run(index, attempt, item)

    def _note(self, index: int, began: int) -> None:
        if self.record is not None:
            self.record.ran_here(index, began)

    def _is_retried(self, error: BaseException, attempt: int) -> bool:
        retry = self._retry
        return retry is not None and attempt < retry.attempts and isinstance(error, retry.reasons)

    def _failed(self, error: BaseException, index: int, attempt: int) -> Batch:
        if self.stops:
            self.cancel()
        for _ in range(2 if self._seed is None else 3):  # without our own frames
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next
        worker = threading.current_thread().name
        outcome = self._reader.failed(error, index, worker, os.getpid(), attempt)
        return Batch(index, [outcome], 1)

    @property
    def over(self) -> bool:
        """Nothing will come any more."""
        return self._ended and not self._items

    def abandon(self) -> None:
        """Drop what has not run; nobody will ask for it."""
        self.cancel()

    def cancel(self, *, hurry: bool = False) -> None:
        """Drop what has not run."""
        self._items.clear()
        self._ended = True


class InlinePool(Executor):
    """An Executor that runs everything in this process, in the thread that asks: for unit tests.

    As `pool=` it does what ``max_workers=0`` does: one item after the other, nothing pickled, no
    process, so breakpoints, monkeypatches and coverage reach the function; `task_timeout` is not
    enforced.  `submit` runs its function before it returns.  Ctrl-C raises `KeyboardInterrupt` in
    the test, and is no task's failure.  Thread-safe.

    Example:
        >>> from parmap import parallel_map
        >>> from parmap.testing import InlinePool
        >>> seen = []
        >>> with InlinePool() as pool:
        ...     parallel_map(seen.append, "ab", pool=pool), pool.submit(pow, 2, 5).result()
        ([None, None], 32)
        >>> seen
        ['a', 'b']
    """

    def __init__(self) -> None:
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call ``fn(*args, **kwargs)`` here and now; returns a future that is done.

        Raises:
            PoolClosedError: the pool was shut down.
            KeyboardInterrupt: Ctrl-C came meanwhile.
        """
        self._check_open()
        future: Future[R] = CallFuture()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except KeyboardInterrupt:
            raise  # in this process it is the user's
        except BaseException as error:  # whatever it is, it is the task's
            future.set_exception(error)
        return future

    def _check_open(self) -> None:
        """Raise `PoolClosedError` if the pool was shut down."""
        if self._closed:
            raise PoolClosedError("the InlinePool was shut down")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work.  Nothing runs, so there is nothing to wait for."""
        self._closed = True
