"""`Pool.options`: the same pool, with other limits for its tasks."""

from __future__ import annotations

import weakref
from concurrent.futures import Executor, Future, wait
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from parmap import options
from parmap._calls.executor_map import executor_map
from parmap._calls.submit import submit
from parmap._limits import Limits, check_limits
from parmap.errors import PoolClosedError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from parmap._calls.statistics import PoolStatistics
    from parmap._limits import Retry
    from parmap.pool import Pool

P = ParamSpec("P")
R = TypeVar("R")


class PoolView(Executor):
    """A pool, seen with limits of its own; `Pool.options` makes it.

    It has no workers: what is submitted runs on the pool's, beside everything else.  `shutdown`, or
    the end of its ``with``, waits for what was submitted through this view and leaves the pool open.
    Thread-safe.

    Example:
        >>> from parmap import Pool
        >>> with Pool(1) as pool:
        ...     patient = pool.options(task_timeout=60)
        ...     patient.options(retry=2).submit(pow, 2, 5).result()
        32
    """

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self.pool = pool
        self.limits = limits
        self._closed = False
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    @property
    def max_workers(self) -> int:
        """The most processes that the pool runs at a time."""
        return self.pool.max_workers

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn(*args, **kwargs)`` in a worker of the pool, within the view's limits.

        Raises:
            PoolClosedError: the pool or this view was shut down.
            SerializationError: the function or an argument cannot be pickled.
        """
        options.check_callable(fn)
        self._check_open()
        future = submit(self.pool._driver, fn, args, kwargs, self.limits)
        self._futures.add(future)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """As `Pool.map`, each item within the view's limits."""
        self._check_open()
        return executor_map(
            self.pool._driver, self.max_workers, fn, iterables, timeout, chunksize, buffersize,
            self.limits, self._futures.add,
        )  # fmt: skip

    def _check_open(self) -> None:
        if self._closed:
            raise PoolClosedError(f"{self!r} has been shut down; its pool has not")

    def kill(self, future: Future[Any]) -> bool:
        """As `Pool.kill`."""
        return self.pool.kill(future)

    def options(
        self, *, task_timeout: float | None = None, retry: Retry | int | None = None
    ) -> PoolView:
        """A view whose limits are these, and this one's where they say nothing."""
        return PoolView(self.pool, check_limits(task_timeout, retry).over(self.limits))

    def statistics(self) -> PoolStatistics:
        """As `Pool.statistics`: of the whole pool."""
        return self.pool.statistics()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work through this view; the pool stays open.

        Args:
            wait: return only when all is done that was submitted through this view.
            cancel_futures: drop what of that has not been sent to a worker yet.
        """
        self._closed = True
        submitted = list(self._futures)
        if cancel_futures:
            for future in submitted:
                future.cancel()
        if wait:
            _wait(submitted)

    def __reduce__(self) -> NoReturn:
        raise SerializationError(
            "a view of a Pool belongs to the process that made the pool, and cannot be sent"
        )

    def __repr__(self) -> str:
        shown = [f"task_timeout={self.limits.task_timeout}", f"retry={self.limits.retry}"]
        return f"<view of {self.pool!r} with {', '.join(shown)}>"


def _wait(futures: list[Future[Any]]) -> None:
    wait(futures)
