"""`multiprocessing.Pool` over parmap's workers."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

from parmap import options
from parmap._calls.futures import CallFuture
from parmap.compat.results import AsyncResult, IMapIterator, is_failure
from parmap.errors import SerializationError
from parmap.mapping import parallel_imap, parallel_map, parallel_starmap
from parmap.pool import Pool as ExecutorPool

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.context import BaseContext
    from types import TracebackType

T = TypeVar("T")
R = TypeVar("R")


class Pool:
    """`multiprocessing.Pool` over parmap's workers.

    Leaving a ``with`` block terminates the pool, as multiprocessing's does.  Thread-safe.

    Args:
        processes: how many workers at the most; None: the usable CPUs.
        initializer, initargs: called once in each worker; if it fails, calls fail with its error.
        maxtasksperchild: a worker is replaced after so many items.
        context: a context of multiprocessing, which tells the start method.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> from parmap.compat import Pool
        >>> with Pool(2) as pool:
        ...     pool.apply(pow, (2, 5)), list(pool.imap(abs, [-1, -2]))
        (32, [1, 2])
    """

    _state: Literal["running", "closed", "terminated"] = "closed"  # until it stands

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None:
        asked: object = maxtasksperchild
        if asked is not None and not (isinstance(asked, int) and asked > 0):
            raise ValueError(  # multiprocessing raises it for wrong types, too
                f"maxtasksperchild must be a positive int or None, not {maxtasksperchild!r}"
            )
        if processes is not None:
            options.check_count("processes", processes, least=1, most=options.MOST_WORKERS)
        self._pool = ExecutorPool(
            processes, context, initializer, tuple(initargs), max_tasks_per_child=maxtasksperchild
        )
        self._pool._driver.dropped_at_exit = True  # as multiprocessing does
        self._jobs: set[threading.Thread] = set()
        self._state = "running"

    # ------------------------------------------------------------------ one call

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> R:
        """``func(*args, **kwds)`` in a worker; blocks until it has ended."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[R]:
        """Start ``func(*args, **kwds)`` in a worker; one of the callbacks is called at its end.

        Callbacks run in a thread of parmap's, before `AsyncResult.get` returns to nobody in
        particular: they should be short.
        """
        self._check_running()
        ended: Future[R] = CallFuture()
        running = self._pool.submit(func, *args, **(kwds or {}))
        running.add_done_callback(
            lambda future: _settle(ended, future.result, callback, error_callback)
        )
        return AsyncResult(ended)

    # ------------------------------------------------------------------ all results at once

    def map(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int | None = None
    ) -> list[R]:
        """``list(map(func, iterable))`` in workers.  All items run, then the first error is raised."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[R]]:
        """Start `map`, and return at once."""
        return self._start_map(parallel_map, func, iterable, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[R]:
        """``[func(*args) for args in iterable]`` in workers; otherwise as `map`."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[R]]:
        """Start `starmap`, and return at once."""
        return self._start_map(
            parallel_starmap, func, iterable, chunksize, callback, error_callback
        )

    # ------------------------------------------------------------------ one result after the other

    def imap(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int | None = None
    ) -> IMapIterator[R]:
        """Start a map at once, and iterate over its results in order.

        The iterable is read to its end whether results are taken or not, as by multiprocessing;
        `parmap.parallel_imap` reads only so far ahead.
        """
        return self._start_imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int | None = None
    ) -> IMapIterator[R]:
        """As `imap`, with results as they come."""
        return self._start_imap(func, iterable, chunksize, ordered=False)

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Take no more calls; those that were started run to their end."""
        if self._state == "running":
            self._state = "closed"

    def terminate(self) -> None:
        """End the workers now; calls that are open get `PoolClosedError`."""
        if self._state != "terminated":
            self._state = "terminated"
            self._pool._driver.close(cancel=True)

    def join(self) -> None:
        """Wait until every call has ended and the workers are gone.

        Raises:
            ValueError: neither `close` nor `terminate` was called before.
        """
        if self._state == "running":
            raise ValueError("Pool is still running: call close() or terminate() first")
        for job in list(self._jobs):
            job.join()
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.terminate()

    def __reduce__(self) -> NoReturn:
        raise SerializationError(
            "a Pool belongs to the process that made it and cannot be sent to another one:"
            " make a Pool there"
        )

    def __repr__(self) -> str:
        return f"<parmap.compat.Pool {self._state}, at most {self._pool.max_workers} workers>"

    # ------------------------------------------------------------------ how

    def _check_running(self) -> None:
        if self._state != "running":
            raise ValueError("Pool not running")

    def _start_map(
        self,
        run: Callable[..., list[Any]],
        func: Callable[..., R],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> AsyncResult[list[R]]:
        self._check(func, iterable, chunksize)
        ended: Future[list[R]] = CallFuture()

        def results() -> list[R]:
            outcomes = run(func, iterable, chunksize=chunksize, on_error="return", pool=self._pool)
            failure = next((each for each in outcomes if is_failure(each)), None)
            if failure is not None:
                raise failure.error
            return outcomes

        self._start(lambda: _settle(ended, results, callback, error_callback))
        return AsyncResult(ended)

    def _start_imap(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int | None, *, ordered: bool
    ) -> IMapIterator[R]:
        self._check(func, iterable, chunksize)
        iterator: IMapIterator[R] = IMapIterator()
        results = parallel_imap(
            func, iterable, ordered=ordered, chunksize=chunksize, on_error="return", pool=self._pool
        )
        self._start(lambda: iterator._pump(results))
        return iterator

    def _check(self, func: object, iterable: Iterable[object], chunksize: int | None) -> None:
        self._check_running()
        options.check_callable(func, "func")
        if not isinstance(iterable, Iterable):
            raise TypeError(f"iterable must be an iterable, not {type(iterable).__name__}")
        options.check_chunksize(chunksize)

    def _start(self, job: Callable[[], object]) -> None:
        """Run it in a thread of its own: multiprocessing's calls go on while nobody waits."""
        context = contextvars.copy_context()

        def run() -> None:
            try:
                context.run(job)
            finally:
                self._jobs.discard(threading.current_thread())

        # A daemon: at exit what is still running is dropped.
        thread = threading.Thread(target=run, name="parmap-compat-call", daemon=True)
        self._jobs.add(thread)
        thread.start()


def _settle(
    ended: Future[R],
    result: Callable[[], R],
    callback: Callable[[R], object] | None,
    error_callback: Callable[[BaseException], object] | None,
) -> None:
    """Callbacks first, then whoever waits: multiprocessing's order."""
    try:
        value = result()
    except BaseException as error:  # whatever it is, it is the call's
        try:
            if error_callback is not None:
                error_callback(error)
        finally:
            ended.set_exception(error)
        return
    try:
        if callback is not None:
            callback(value)
    finally:
        ended.set_result(value)
