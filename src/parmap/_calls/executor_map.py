"""`Pool.map`: `Executor.map` as the standard library has it, over one call instead of many futures."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from parmap import options
from parmap._calls import profiling
from parmap._calls.deadline import Deadline
from parmap._calls.feeder import Feeder
from parmap._calls.news import Ended, Lost, Report
from parmap._calls.opening import remote_call
from parmap._calls.outcomes import Failed
from parmap._calls.remote import RemoteCall
from parmap._calls.run import RemoteSource, listening
from parmap._core import events as ev
from parmap._core.ordering import ReorderBuffer
from parmap._limits import NO_LIMITS, Limits, check_timeout
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from parmap._calls.engine import Engine

R = TypeVar("R")


class MapCall(RemoteCall):
    """A call whose items are run to their end whoever reads the results, as submitted ones are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.future = _WholeMap(self)

    def cancel_waiting(self) -> None:
        """Drop what has not been sent to a worker.  Never waits; any thread."""
        self.say(ev.WaitingDropped(self.id))

    def tell(self, news: Report | Lost | Ended) -> None:
        """Let whoever reads the results know, and whoever waits for the end."""
        super().tell(news)
        if isinstance(news, Ended):
            if self.record is not None:
                self.record.end()
            if not self.future.done():
                self.future.set_result(None)


class _WholeMap(Future[None]):
    """Done once nothing of the map runs any more: what a view waits for, and cancels."""

    def __init__(self, call: MapCall) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self._call = call

    def cancel(self) -> bool:
        """Drop what waits; what was sent is finished, so the map as a whole is not cancelled."""
        self._call.cancel_waiting()
        return False


def executor_map(
    engine: Engine,
    cap: int,
    fn: Callable[..., R],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
    limits: Limits = NO_LIMITS,
    opened: Callable[[Future[None]], object] | None = None,
) -> Iterator[R]:
    """`Pool.map`, also of a view, whose limits are these; `opened` gets what is done with the map."""
    options.check_callable(fn)
    options.check_iterables(iterables)
    size = options.check_count("chunksize", chunksize, least=1)
    window = options.check_executor_buffersize(buffersize)
    deadline = Deadline(check_timeout("timeout", timeout))
    if engine.packing:  # waiting for a worker in here would be waiting for ever
        return map(fn, *iterables) if iterables else iter(())
    call = remote_call(
        MapCall, engine, fn, star=True, cap=cap, chunksize=size,
        on_failure=ev.OnFailure.CONTINUE, limits=limits,
    )  # fmt: skip
    call.record = profiling.begin(fn, "workers", cap) if profiling.on else None
    results = MapResults(call, zip(*iterables, strict=False), size, deadline)
    engine.check_open()
    if opened is not None:
        opened(call.future)
    return _start(results, window and window * size)


def _start(results: MapResults, window: int | None) -> MapResults:
    """Feed an open call: everything, or a first `window` of items."""
    try:
        results.read(sys.maxsize if window is None else window)
    except BaseException:
        results.close()
        raise
    if window is None and results.input_error is not None:
        results.close()
        raise results.input_error
    return results


class MapResults:
    """The results of `Pool.map`, in the order of the items; may be closed.

    ``next`` blocks until the next result is there.  After an error the iterator is exhausted.  Then,
    and when it is closed or dropped half-way, what has not been sent to a worker is cancelled.
    Thread-safe.
    """

    def __init__(
        self, call: MapCall, inputs: Iterable[Any], chunksize: int, deadline: Deadline
    ) -> None:
        self._over = False
        self._begun = False  # somebody has asked for a result
        self._call = call
        self._source = RemoteSource(call)
        self._feeder = Feeder(inputs, self._source)
        self._chunksize = chunksize
        self._deadline = deadline
        self._ordered: ReorderBuffer[Any] = ReorderBuffer()
        self._ready = self._ordered.ready()
        self._given = 0
        self._lock = threading.RLock()

    @property
    def input_error(self) -> BaseException | None:
        """What the input has raised."""
        return self._feeder.error

    def read(self, count: int) -> None:
        """Read so many more items, or what there is, and let the workers have them at once."""
        feeder, end = self._feeder, self._feeder.fed + count
        while not feeder.ended and feeder.fed < end:
            feeder.feed(end - feeder.fed)
            self._call.engine.nudge()

    def close(self) -> None:
        """Cancel what has not been sent to a worker, and give no more results.  Does not wait."""
        with self._lock:
            self._end()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        with self._lock:
            self._begun = True
            try:
                return self._next()
            except BaseException:
                self._end()
                raise

    def __reduce__(self) -> NoReturn:
        raise SerializationError("the results of Pool.map stay in the process that made them")

    def __del__(self) -> None:
        # Never wait here: this may be any thread.  Results that nobody ever asked for leave alone what
        # was submitted: who calls `map` for its effects throws them away.
        if not hasattr(self, "_lock"):
            return  # interrupted while it was made
        self._call.is_abandoned = True
        if not self._over and self._begun:
            self._call.cancel_waiting()
        elif not self._over:
            self._source.end_input()

    def _next(self) -> Any:
        if self._over:
            raise StopIteration
        if self._given % self._chunksize == 0:
            self.read(self._chunksize)
        while not self._ready:
            if self._source.over:
                self._conclude()
            if self._deadline.passed:
                raise self._deadline.error()
            self._absorb()
        outcome = self._ready.popleft()
        self._given += 1
        if type(outcome) is Failed:
            raise outcome.failure.error
        return outcome

    def _absorb(self) -> None:
        wait = 0.0
        batch = self._source.next_batch(listening(self._deadline.cap(None)))
        while batch is not None:
            self._ordered.put(batch.first, batch.outcomes)
            batch = self._source.next_batch(wait)

    def _conclude(self) -> NoReturn:
        """Nothing will come any more."""
        if self._source.error is not None:
            raise self._source.error
        if self._given < self._feeder.fed:
            raise CancelledError("the pool was told to cancel what had not begun")
        if self._feeder.error is not None:
            raise self._feeder.error
        raise StopIteration

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._call.is_abandoned = True
        self._feeder.stop()
        self._ready.clear()
        if not self._source.over:
            self._call.cancel_waiting()
