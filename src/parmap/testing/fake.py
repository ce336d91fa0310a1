"""`FakeBackend`: an Executor whose items end when, how and in what order a test says."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from parmap import options
from parmap._calls.futures import CallFuture
from parmap._foreign.chunks import Chunk, Outcomes, Raised
from parmap.errors import PoolClosedError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_RUN_IT: Any = object()  # no value was given: call the function


class FakeBackend(Executor):
    """An Executor that runs nothing by itself: the test decides how each item ends, and when.

    Give it as `pool=` to a call in another thread; then wait for its items and end them by hand, in
    any order.  At most `workers` of them run at a time; the rest waits, as it would in a pool.  Each
    item is a task of its own.  No process is started, nothing is pickled.

    Thread-safe.  `shutdown` (or the end of a `with` block) fails what has not ended with
    `PoolClosedError`, so a call that still waits for it ends.

    Args:
        workers: how many items run at the same time.

    Raises:
        TypeError, ValueError: `workers` is no int from 1 on.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from parmap import parallel_map
        >>> from parmap.testing import FakeBackend
        >>> with FakeBackend(workers=3) as backend, ThreadPoolExecutor() as threads:
        ...     call = threads.submit(
        ...         parallel_map, str.upper, ["a", "b", "c"], pool=backend, on_error="return"
        ...     )
        ...     a, b, c = backend.wait_for(3)
        ...     c.finish()
        ...     a.fail(ValueError("no"))
        ...     b.lose()
        ...     no, lost, shout = call.result()
        >>> no.error, type(lost.error).__name__, shout
        (ValueError('no'), 'WorkerLostError', 'C')
    """

    _parmap_chunksize = 1  # each item is a submission of its own

    def __init__(self, workers: int = 2) -> None:
        self._max_workers = options.check_count("workers", workers, least=1)
        self._tasks: list[FakeTask] = []  # that have not ended, in the order of submission
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Take a task; it runs once a worker is free, and ends when the test says so.

        Raises:
            PoolClosedError: the backend was shut down.
        """
        future: Future[R] = CallFuture()
        with self._changed:
            if self._closed:
                raise PoolClosedError("the FakeBackend was shut down")
            self._tasks.append(FakeTask(self, future, fn, args, kwargs))
            self._begin_more()
        return future

    @property
    def running(self) -> list[FakeTask]:
        """The tasks that run now, in the order in which they were submitted."""
        with self._changed:
            return self._running()

    def wait_for(self, count: int = 1, timeout: float = 10.0) -> list[FakeTask]:
        """Wait until at least so many tasks run; all that run then, in the order of submission.

        Raises:
            TimeoutError: there are not so many within `timeout` seconds.
            ValueError: `count` is more than there are workers.
        """
        if count > self._max_workers:
            raise ValueError(f"never more than {self._max_workers} tasks run here, so not {count}")
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._running()) >= count, timeout):
                found = len(self._running())
                raise TimeoutError(f"{found} tasks run after {timeout} seconds, not {count}")
            return self._running()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; what has not ended fails with `PoolClosedError`.  Never waits."""
        with self._changed:
            self._closed = True
            tasks = list(self._tasks)
        for task in tasks:
            task._close()

    def _running(self) -> list[FakeTask]:
        return [task for task in self._tasks if task._future.running()]

    def _begin_more(self) -> None:
        """Under the lock: let as many tasks run as there are workers."""
        self._tasks = [task for task in self._tasks if not task._future.done()]
        free = self._max_workers - len(self._running())
        for task in list(self._tasks):
            if free and not task._future.running():
                if task._future.set_running_or_notify_cancel():
                    free -= 1
                else:
                    self._tasks.remove(task)
        self._changed.notify_all()

    def _leave(self, task: FakeTask) -> bool:
        """Whether the task was there: whoever takes it out settles it."""
        with self._changed:
            if task not in self._tasks:
                return False
            self._tasks.remove(task)
            return True

    def _left(self) -> None:
        with self._changed:
            self._begin_more()

    def __repr__(self) -> str:
        with self._changed:
            running = len(self._running())
            waiting = len(self._tasks) - running
        return f"<FakeBackend of {self._max_workers} workers: {running} tasks run, {waiting} wait>"


class FakeTask:
    """An item at a `FakeBackend`.  Made by it; the test ends it, once, in one of three ways.

    Each raises `RuntimeError` if the task has ended already.
    """

    def __init__(
        self,
        backend: FakeBackend,
        future: Future[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._backend = backend
        self._future = future
        self._fn = fn
        self._args = args
        self._kwargs = kwargs

    @property
    def item(self) -> Any:
        """The item of a map; the tuple of arguments of what was submitted."""
        return self._fn._items[0] if isinstance(self._fn, Chunk) else self._args

    @property
    def index(self) -> int | None:
        """Its place in the input of the map."""
        return self._fn.first if isinstance(self._fn, Chunk) else None

    @property
    def attempt(self) -> int:
        """Which run of the item it is: 1, and more for one that is retried."""
        return self._fn.attempt if isinstance(self._fn, Chunk) else 1

    def finish(self, value: Any = _RUN_IT) -> None:
        """End it: with `value` as the result, or with what the function gives, called here and now."""
        self._leave()
        try:
            if value is _RUN_IT:
                value = self._fn(*self._args, **self._kwargs)
            elif isinstance(self._fn, Chunk):
                value = Outcomes([value], "fake", 0.0)
        except BaseException as error:  # whatever it is, it is the task's
            self._future.set_exception(error)
        else:
            self._future.set_result(value)
        self._backend._left()

    def fail(self, error: BaseException) -> None:
        """End it as if the function had raised `error`."""
        self._leave()
        if isinstance(self._fn, Chunk):
            self._future.set_result(Outcomes([Raised(error)], "fake", 0.0))
        else:
            self._future.set_exception(error)
        self._backend._left()

    def lose(self, exitcode: int | None = -9) -> None:
        """End it as if its worker had died of it (`WorkerLostError`): by SIGKILL, or as said."""
        self._leave()
        error = WorkerLostError(index=self.index, exitcode=exitcode, attempts=self.attempt)
        self._future.set_exception(error)
        self._backend._left()

    def _leave(self) -> None:
        if not self._future.running() or not self._backend._leave(self):
            raise RuntimeError(f"{self!r} does not run (any more)")

    def _close(self) -> None:
        if not self._future.cancel() and self._backend._leave(self):
            self._future.set_exception(PoolClosedError("the FakeBackend was shut down"))

    def __repr__(self) -> str:
        place = "task" if self.index is None else f"item {self.index}, attempt {self.attempt}"
        return f"<FakeTask {place}: {self.item!r}>"
