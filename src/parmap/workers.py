"""`run_workers`, `WorkerGroup`, `Worker`: processes that work together, and end together."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from parmap import options
from parmap._group.loop import GroupLoop
from parmap._group.outcomes import (
    failures_of,
    outcome_of,
    own_error,
    raise_first,
    raise_group,
    results_of,
    value_of,
)
from parmap._group.seat import Seat, stay_here
from parmap._group.worker import Worker as Worker
from parmap._group.worker import new_worker
from parmap._launch import launcher_for
from parmap._wire.pickling import Codec
from parmap._worker.bound import Bound
from parmap.errors import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from parmap.options import Restart

R = TypeVar("R")
_groups = itertools.count(1)
_NO_RESTART = options.Restart(max_restarts=0)
_OUTSIDE = "start workers inside the `with` block of their WorkerGroup, where it was entered"


class WorkerGroup:
    """A nursery for processes: none of them outlives the `with` block, however that ends.

    * The block ends well: it waits until every worker has ended.
    * A worker fails: the others are stopped (SIGTERM, and SIGKILL after `grace` seconds), and the
      block raises a `TaskErrorGroup` with every failure.  The block's own code is not interrupted,
      but whatever it makes parmap wait for (a channel, `select`, `Worker.result`, `ready`, a map)
      raises that failure then, in the block's thread.  `Worker.join` returns.
    * All workers wait for messages, and this process is the only sender left: the block raises
      (a `TaskErrorGroup` with a `ChannelError` that names the channel) instead of waiting for ever,
      if no other thread of this process could still send.
    * The block raises, or Ctrl-C: the workers are stopped likewise; an `Exception` comes out as
      part of a `TaskErrorGroup`, Ctrl-C as itself.
    * This process is killed: the kernel ends the workers.

    Enter and leave it in one thread; in between every method may be called from any thread.  A group
    is used once.

    Args:
        start_method: None, a clean start (never an implicit fork); or ``"spawn"``,
            ``"forkserver"``, ``"fork"``, multiprocessing's own.
        grace: seconds between SIGTERM and SIGKILL for workers that are stopped.

    Raises:
        TaskErrorGroup: on leaving the block: a worker failed, or the block raised an `Exception`.

    Example:
        >>> from parmap import WorkerGroup
        >>> with WorkerGroup() as group:
        ...     workers = [group.start(pow, 2, n) for n in range(3)]
        >>> [worker.result() for worker in workers]
        [1, 2, 4]
    """

    def __init__(self, *, start_method: str | None = None, grace: float = 5.0) -> None:
        self._start_method = options.check_start_method(start_method)
        self._grace = options.check_seconds("grace", grace)
        self._name = f"group-{next(_groups)}"
        self._loop: GroupLoop | None = None
        self._seats: list[Seat] = []
        self._numbers = itertools.count(1)  # any thread may start workers

    def start(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart | None = None,
        **kwargs: Any,
    ) -> Worker[R]:
        """Start a process that runs ``fn(*args, **kwargs)``; returns at once.

        Args:
            fn: any callable; lambdas and closures, too.  It needs no ``__main__`` guard.
            *args: its arguments.
            name: the worker's name; default: the function's, and a number.
            restart: a `Restart` budget, within which the worker is started again when it fails.
            **kwargs: its keyword arguments.

        Raises:
            RuntimeError: outside the ``with`` block.
            SerializationError: the function or an argument cannot be pickled.
            TypeError: `fn` is not callable, or has a parameter named ``name`` or ``restart``.
        """
        options.check_callable(fn)
        options.check_clash(fn, ("name", "restart"))
        options.check_restart(restart)
        options.check_name(name)
        if self._loop is None or not self._loop.alive:
            raise RuntimeError(_OUTSIDE)
        return self._start(self._seat(fn, args, kwargs, name, restart), restart)

    def ready(self, worker: Worker[Any], timeout: float | None = None) -> Any:
        """Wait until `worker` has called `report_ready`, and return the value that it gave.

        Raises:
            TimeoutError: it has not within `timeout` seconds.
            Exception: it ended first; what `Worker.result` raises then.
            RuntimeError: it returned without having called `report_ready`.
            TypeError: `worker` is not a `Worker`, or `timeout` is no number.
        """
        given: object = worker
        if not isinstance(given, Worker):
            raise TypeError(f"worker must be what start() returned, not {type(given).__name__}")
        options.check_wait(timeout)
        seat = worker._seat

        notice = None

        def heard() -> bool:
            nonlocal notice
            notice = seat.notice  # a restart takes it back
            return notice is not None or seat.settled is not None

        if not worker._group.wait(seat, heard, timeout):
            worker._group.raise_reason()
            raise TimeoutError(f"worker {seat.name} was not ready within {timeout} seconds")
        if notice is None:
            worker._group.raise_what_stopped(seat)
            value_of(seat)
            raise RuntimeError(f"worker {seat.name} returned without calling parmap.report_ready()")
        return outcome_of(seat, notice)

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a WorkerGroup is used once: make a new one")
        self._open().alarm.__enter__()
        return self

    def _open(self) -> GroupLoop:
        self._loop = GroupLoop(launcher_for(self._start_method), self._name, grace=self._grace)
        return self._loop

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        self._loop.alarm.__exit__()
        try:
            self._loop.leave(failed=exc is not None)
        except Exception as reason:  # why it did not wait any longer
            exc = reason
        self._loop.raise_if_broken()
        failures = failures_of(self._loop, self._seats)
        own = own_error(exc, failures, self._seats)
        if own is not None and not isinstance(own, Exception):
            return  # Ctrl-C and sys.exit() come out as themselves
        if failures or own is not None:
            raise_group(self._name, failures, own)

    def __reduce__(self) -> NoReturn:
        stay_here(self)

    def __repr__(self) -> str:
        alive = sum(seat.settled is None for seat in self._seats)
        return f"<WorkerGroup {self._name}: {alive} of {len(self._seats)} workers alive>"

    def _seat(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        name: str | None,
        restart: Restart | None,
    ) -> Seat:
        """Pickle what the worker shall run; nothing has started yet."""
        number = next(self._numbers)
        codec = Codec("to worker")
        function = codec.dumps(Bound(fn, tuple(args), kwargs), "")
        title = name or f"{getattr(fn, '__name__', type(fn).__name__)}-{number}"
        return Seat(number, title, function, codec, may_restart=restart is not None)

    def _start(self, seat: Seat, restart: Restart | None) -> Worker[Any]:
        assert self._loop is not None
        if not self._loop.add(seat, restart or _NO_RESTART):
            seat.function.close()
            raise RuntimeError(_OUTSIDE)
        self._seats.append(seat)
        return new_worker(seat, self._loop)


def run_workers(
    target: Callable[..., R],
    count: int,
    /,
    *args: Any,
    names: Sequence[str] | None = None,
    timeout: float | None = None,
    **kwargs: Any,
) -> list[R]:
    """Run ``target(rank, *args, **kwargs)`` in `count` processes, all at the same time.

    Blocks until all have ended.  When one fails the others are stopped (SIGTERM, then SIGKILL), and
    the failure itself is raised, with the worker's own traceback.  On return, on an exception and
    on Ctrl-C no process is left.  May be called from any thread.

    Args:
        target: called with its rank, 0 to ``count - 1``, first.
        count: the number of processes.
        *args: the further arguments, the same for each.
        names: one name per worker; default: the target's name and the rank.
        timeout: seconds for the whole of it.
        **kwargs: keyword arguments, the same for each.

    Returns:
        The results, by rank.

    Raises:
        Exception: the first failure of a worker; ``failure_of(exc).others`` has the further ones.
        WorkerLostError: a worker's process died.
        CallTimeoutError: it took longer than `timeout`; its `results` has what was there.
        SerializationError: the target or an argument cannot be pickled.
        TypeError, ValueError: an argument is not what it must be; nothing has started then.

    Example:
        >>> from parmap import run_workers
        >>> run_workers(lambda rank, base: base + rank, 3, 10)
        [10, 11, 12]
    """
    options.check_callable(target, "target")
    options.check_clash(target, ("names", "timeout"))
    count = options.check_worker_count(count)
    titles = options.check_names(names, count, target)
    limit = None if timeout is None else options.check_seconds("timeout", timeout)
    group = WorkerGroup()
    seats = [
        group._seat(target, (rank, *args), kwargs, titles[rank], None) for rank in range(count)
    ]
    loop = group._open()
    failed = True
    try:
        for seat in seats:
            group._start(seat, None)
        in_time = loop.wait_settled(seats, limit)
        failed = not in_time
    finally:
        loop.leave(failed=failed)
    loop.raise_if_broken()
    failures = failures_of(loop, seats)
    if failures:
        raise_first(failures)
    if not in_time:
        raise CallTimeoutError(
            f"the workers were not done within {timeout} seconds", results=results_of(seats)
        )
    return [value_of(seat) for seat in seats]
