"""`Pool`: workers with a lifetime of their own, as a `concurrent.futures.Executor`; and the pool
that calls without one share."""

from __future__ import annotations

import itertools
import os
import threading
import warnings
import weakref
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from parmap import options
from parmap._calls.executor_map import executor_map
from parmap._calls.hearsay import hearsay
from parmap._calls.inline import InlineSource
from parmap._calls.opening import remote_call
from parmap._calls.remote import RemoteCall
from parmap._calls.run import RemoteSource, Source
from parmap._calls.submit import kill, submit
from parmap._driver import Driver
from parmap._launch import launcher_for
from parmap._launch.setup import Setup
from parmap._limits import check_limits
from parmap._pool_view import PoolView
from parmap._words import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from parmap._calls.statistics import PoolStatistics
    from parmap._core.events import OnFailure
    from parmap._limits import Limits, Retry

P = ParamSpec("P")
R = TypeVar("R")

# Idle workers of the shared pool go after this many seconds: long enough to serve a person at a
# prompt or a loop of calls warm, short enough not to hold memory for nothing.
IDLE_SECONDS = 60.0

_names = itertools.count(1)


class Pool(Executor):
    """Workers that serve many calls, until the `with` block (or `shutdown`) ends them.

    A pool is a complete `concurrent.futures.Executor`, and the value of `pool=` in
    `parallel_map`, `parallel_starmap` and `parallel_imap`.  Use one where calls shall share an
    initialiser or need a start method; without one they share a pool that needs no care.

    Workers start when there is work for them, at most `max_workers`, and stay until the pool is
    shut down.  A worker that dies costs only the item that it was running and is replaced.

    Leaving the block waits for what was submitted; on an exception too, as for every Executor.
    Thread-safe: every method may be called from any thread.  A pool cannot be sent to another
    process (`SerializationError`), and one that a forked child inherits raises `PoolClosedError`
    there.

    Args:
        max_workers: the most processes that run at a time; None: as many as there are usable CPUs.
        mp_context: a context of `multiprocessing`, of which only the start method is used.
        initializer: called as ``initializer(*initargs)`` once in each worker, before any item.  If
            it raises, calls fail with that very error.
        initargs: its arguments, a tuple.
        max_tasks_per_child: a worker that has run so many items is replaced by a new one.
        start_method: None, a clean start (never an implicit fork); or ``"spawn"``,
            ``"forkserver"``, ``"fork"``, multiprocessing's own.
        max_memory_per_child: bytes; a worker that uses more is replaced, once it is between two items.
        name: begins the names of the workers and of errors; default ``"pool-1"`` and so on.

    Raises:
        TypeError, ValueError: an argument is not what it must be.
        SerializationError: the initializer or an argument of it cannot be pickled.

    Example:
        >>> from parmap import Pool, parallel_map
        >>> with Pool(2) as pool:
        ...     parallel_map(abs, [-1, 2, -3], pool=pool)
        [1, 2, 3]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        start_method: str | None = None,
        max_memory_per_child: int | None = None,
        name: str | None = None,
    ) -> None:
        limit = options.check_max_workers(max_workers, least=1)
        start_method = _start_method(mp_context, start_method)
        if initializer is not None:
            options.check_callable(initializer, "initializer")
        options.check_name(name)
        self._max_workers = max(1, limit)
        self._name = printable(name).replace("\n", " ") if name else f"pool-{next(_names)}"
        setup = Setup(
            initializer, initargs, self._max_workers,
            options.check_limit("max_memory_per_child", max_memory_per_child),
        )  # fmt: skip
        self._driver = Driver(
            launcher_for(start_method), setup.frame, limit=self._max_workers, idle_timeout=None,
            name=self._name, max_tasks=options.check_limit("max_tasks_per_child", max_tasks_per_child),
        )  # fmt: skip
        # A pool that is dropped without shutdown finishes what was submitted, then ends.
        weakref.finalize(self, self._driver.close, cancel=False).atexit = False
        self._made_at = options.callers_line()

    @property
    def max_workers(self) -> int:
        """The most processes that run at a time."""
        return self._max_workers

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn(*args, **kwargs)`` in a worker; returns a `concurrent.futures.Future` at once.

        The function and its arguments are pickled here and now, so what cannot travel raises here.
        `Future.cancel` succeeds until the call has been sent to a worker.

        Raises:
            PoolClosedError: the pool was shut down.
            SerializationError: the function or an argument cannot be pickled.
        """
        options.check_callable(fn)
        return submit(self._driver, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """`Executor.map`: an iterator over ``fn(*args)`` for ``args in zip(*iterables)``, in order.

        As in the standard library the input is read here and now, all of it (with `buffersize` a
        part), and runs whether or not anybody takes the results.  ``next`` blocks until the next
        result is there.  After an error the iterator is exhausted, and what had not been sent to a
        worker is cancelled; so it is when the iterator is closed or dropped half-way.  `parallel_imap`
        is the lazy map that adapts to its consumer and leaves nothing running.

        Args:
            fn: called once for each tuple of arguments, in a worker.
            *iterables: its arguments; the shortest one ends the map.
            timeout: seconds from this call on; it strikes where the next result is not ready.
            chunksize: items per message.
            buffersize: the most chunks whose results have not been taken yet (Python 3.14 has it,
                too); the input, then lazily read in the thread that calls ``next``, may be endless.

        Raises:
            Exception: from ``next``: what `fn` raised, or the input, after every earlier result.
            CallTimeoutError: from ``next``, a `TimeoutError`.
            CancelledError: from ``next``: the pool was shut down with ``cancel_futures=True``.
            PoolClosedError: the pool was shut down; from ``next``, before all of the input was read.
            SerializationError: `fn` cannot be pickled.

        Example:
            >>> from parmap import Pool
            >>> with Pool(2) as pool:
            ...     list(pool.map(pow, [2, 3, 4], [5, 2, 1]))
            [32, 9, 4]
        """
        return executor_map(
            self._driver, self._max_workers, fn, iterables, timeout, chunksize, buffersize
        )

    def kill(self, future: Future[Any]) -> bool:
        """End the running task of `future` by ending its worker, and nothing else.

        The future fails with `WorkerLostError`; it is not retried.  The worker's descendants die
        with it, and a new worker takes its place.  Returns at once; wait for the future to know
        that the task is gone.  Thread-safe.

        Returns:
            Whether the task was running: False if it is done, or waits (then use its `cancel`).

        Raises:
            TypeError: it is no `concurrent.futures.Future`.
            ValueError: the future belongs to another pool, or another executor.
        """
        return kill(self._driver, future)

    def options(
        self, *, task_timeout: float | None = None, retry: Retry | int | None = None
    ) -> PoolView:
        """A light view of this pool whose tasks have these limits; itself an `Executor`.

        ``pool.options(task_timeout=5).submit(fn)``, or ``parallel_map(fn, items, pool=view)``, where
        the call's own option wins.  Views nest; closing one leaves the pool open.

        Args:
            task_timeout, retry: as in `parallel_map`.
        """
        return PoolView(self, check_limits(task_timeout, retry))

    def statistics(self) -> PoolStatistics:
        """What the pool has and has done, in numbers, as of a moment ago.  Never blocks."""
        return self._driver.statistics()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; finish what was submitted, then end the workers.

        Args:
            wait: return only when the workers are gone.
            cancel_futures: drop what has not been sent to a worker yet.
        """
        if cancel_futures:
            self._driver.cancel_waiting()
        self._driver.close(cancel=False)
        if wait:
            self._driver.join()
            hearsay.deliver()  # what tasks have printed whose futures nobody asked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.shutdown(wait=True)

    def __reduce__(self) -> str | tuple[Any, ...]:
        from parmap.errors import SerializationError

        raise SerializationError(
            "a Pool belongs to the process that made it and cannot be sent to another one:"
            " make a Pool there, or call parallel_map there without one"
        )

    def __repr__(self) -> str:
        return f"<Pool {self._name} {self._driver.describe()}, of at most {self._max_workers}>"

    def __del__(self) -> None:
        driver = getattr(self, "_driver", None)
        if driver is not None and driver.is_open:
            told = f"unclosed {self!r}, made at {self._made_at}: use `with`, or call shutdown()"
            driver.close(cancel=False)  # first: a warning that is an error may keep this object
            warnings.warn(told, ResourceWarning, stacklevel=2, source=self)


def open_call(
    pool: Pool | None,
    fn: Callable[..., Any],
    *,
    star: bool,
    cap: int,
    chunksize: int | None,
    on_failure: OnFailure,
    limits: Limits,
) -> Source:
    """Open a call on a pool, or on the shared one; nothing has been fed to it yet."""
    driver = _shared.driver() if pool is None else pool._driver
    if driver.packing:
        return InlineSource(fn, star=star, on_failure=on_failure, limits=limits)
    driver.check_open()
    call = remote_call(
        RemoteCall, driver, fn, star=star, cap=cap, chunksize=chunksize, on_failure=on_failure,
        limits=limits,
    )  # fmt: skip
    return RemoteSource(call)


def shutdown() -> None:
    """End the shared pool's workers now and wait until they are gone.

    Calls that use it in other threads raise `PoolClosedError`.  The next call without `pool` starts
    a new one.  Rarely needed: idle workers go by themselves, and all go at exit.  Does nothing when
    there is none.  Thread-safe.

    >>> import parmap
    >>> parmap.shutdown()
    """
    _shared.end()


class _Shared:
    """The process-wide pool: made at the first call, remade after `shutdown` and in forked children."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._driver: Driver | None = None

    def driver(self) -> Driver:
        with self._lock:
            if self._driver is None or not self._driver.alive:
                setup = Setup(None, (), options.usable_cpus())
                self._driver = Driver(
                    launcher_for(None), setup.frame, limit=None, idle_timeout=IDLE_SECONDS,
                    name="parmap", shared=True,
                )  # fmt: skip
            return self._driver

    def existing(self) -> Driver | None:
        return self._driver

    def end(self) -> None:
        with self._lock:
            driver, self._driver = self._driver, None
        if driver is not None:
            driver.close(cancel=True)
            driver.join()
            hearsay.deliver()

    def forget(self) -> None:
        """In a forked child: the parent's is not ours, and its lock may have been held."""
        self._lock = threading.Lock()
        self._driver = None


_shared = _Shared()


def _start_method(mp_context: BaseContext | None, start_method: object) -> str | None:
    """One of the two may say it; a context of multiprocessing says nothing else to us."""
    method = options.check_start_method(start_method)
    if mp_context is None:
        return method
    if not hasattr(mp_context, "get_start_method"):
        raise TypeError(
            f"mp_context must be a context of multiprocessing, not {type(mp_context).__name__}"
        )
    if method is not None:
        raise TypeError("give either mp_context or start_method, not both")
    return mp_context.get_start_method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)
