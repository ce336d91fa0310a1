"""One call as its caller lives it: items in, outcomes out, an end that leaves nothing running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from parmap import _alarm
from parmap._calls.hearsay import Deliverable
from parmap._calls.news import Lost, Report
from parmap._calls.outcomes import Batch, Failed, Reader
from parmap._calls.recording import clock
from parmap._core.events import OnFailure
from parmap._words import short_repr
from parmap.errors import RemoteError, TaskErrorGroup, TaskFailure, attach_failure, failure_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._calls.recording import CallRecord
    from parmap._calls.remote import RemoteCall

# The end of a call, taken by who was interrupted just then, does not come again.
_LOOK_EVERY = 0.5


class Recorder(Protocol):
    """What a profile is told of a call by its caller's side."""

    def did(self, what: str, began: int) -> None: ...
    def end(self) -> None: ...


class Source(Protocol):
    """Where outcomes come from: workers, or this process."""

    stops: bool  # a failure ends the call
    takes_all: bool  # `feed_all` is as good as feeding by and by

    @property
    def error(self) -> BaseException | None: ...  # why the engine could not serve it to its end
    @property
    def record(self) -> Recorder | None: ...
    @property
    def appetite(self) -> int: ...
    def feed_all(self, items: Sequence[object]) -> None: ...
    def feed(self, items: Sequence[object], skipped: int = 0) -> None: ...
    def end_input(self) -> None: ...
    def next_batch(self, timeout: float | None = None) -> Batch | None: ...
    def cancel(self, *, hurry: bool = False) -> None: ...
    def abandon(self) -> None: ...
    @property
    def over(self) -> bool: ...


class Reporter(Protocol):
    """Whoever is told how far the call is."""

    def update(self, done: int, failed: int) -> None: ...
    def seconds_until_due(self) -> float | None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class RemoteSource:
    """Outcomes from workers."""

    takes_all = True

    def __init__(self, call: RemoteCall) -> None:
        self._call = call
        self.record = call.record
        self.error: BaseException | None = None
        self.stops = call.on_failure is OnFailure.STOP
        self._reader = Reader(call.codec, call.item)
        self.feed_all = call.feed_all
        self.feed = call.feed
        self.end_input = call.end_input

    def watch(self, record: CallRecord) -> None:
        """Tell a profile of it from now on."""
        self.record = self._call.record = record

    @property
    def appetite(self) -> int:
        """How many unfinished items keep the workers busy."""
        return self._call.appetite

    @property
    def over(self) -> bool:
        """Nothing will come any more, and nothing of the call runs."""
        return self._call.ended

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        """The next outcomes; None at the end, when none come within `timeout` seconds, or when
        something else came: what a worker has said, which is delivered here."""
        news = self._call.take(timeout, insist=timeout is None)
        began = clock() if self.record is not None else 0
        if isinstance(news, Report):
            batch = self._reader.read(news)
        elif isinstance(news, Lost):
            batch = self._reader.lost(news)
        elif isinstance(news, Deliverable):
            news.deliver()
            return None
        else:
            if news is not None:
                self.error = news.error
            return None
        self._call.release(batch.first, len(batch.outcomes))
        if self.record is not None:
            self.record.did("unpickling", began)
        return batch

    def cancel(self, *, hurry: bool = False) -> None:
        """Give the call up."""
        self._call.cancel(hurry=hurry)

    def abandon(self) -> None:
        """Give the call up; nobody will take anything any more."""
        self._call.is_abandoned = True
        self._call.cancel()


def next_batch(source: Source, reporter: Reporter, timeout: float | None) -> Batch | None:
    """The next outcomes, or None if none come in time; meanwhile no news is held back for long.

    None, too, every now and then in the block of a worker group, whose failure it raises.
    """
    timeout = listening(timeout)
    due = reporter.seconds_until_due()
    if due is None or (timeout is not None and timeout <= due):
        return source.next_batch(timeout)
    batch = source.next_batch(due)
    if batch is None and not source.over:
        reporter.flush()
    return batch


def listening(timeout: float | None) -> float | None:
    """How long to wait in this thread; raises if it is in the block of a worker group that failed."""
    if not _alarm.listens():
        return timeout
    _alarm.check()
    return _alarm.LOOK_EVERY if timeout is None else min(timeout, _alarm.LOOK_EVERY)


def finish(source: Source, *, hurry: bool = False) -> None:
    """End the call and wait until nothing of it runs any more: a second or so at the most.

    Ctrl-C while waiting shortens the wait.
    """
    if source.over:
        return
    try:
        source.cancel(hurry=hurry)
        drain(source)
    except KeyboardInterrupt:
        source.cancel(hurry=True)
        drain(source)
        raise


def drain(source: Source) -> None:
    """Wait for the end; what still comes interests nobody."""
    while not source.over:
        source.next_batch(_LOOK_EVERY)


def raise_lowest(failures: list[TaskFailure]) -> NoReturn:
    """Raise the failure of the lowest index; it knows of the others."""
    first, *others = sorted(failures, key=lambda failure: failure.index)
    error = first.error
    if others:
        attach_failure(error, TaskFailure(first.index, error, first.attempts, tuple(others)))
    raise error


def raise_group(results: list[Any], failures: list[TaskFailure]) -> NoReturn:
    """Raise one group with every failure; its `results` are what `on_error="return"` gives."""
    failures.sort(key=lambda failure: failure.index)
    message = f"{len(failures)} of {len(results)} items failed"
    raise TaskErrorGroup(message, [groupable(failure) for failure in failures], results)


def groupable(failure: TaskFailure) -> Exception:
    """An ExceptionGroup holds Exceptions only: a SystemExit is the cause of what stands for it."""
    error = failure.error
    if isinstance(error, Exception):
        return error
    stand_in = RemoteError(type(error).__name__, short_repr(error), "")
    stand_in.__cause__ = error
    return attach_failure(stand_in, failure_of(error) or failure)


def unwrap(outcome: Any) -> Any:
    """What stands in a list of results for this outcome."""
    return outcome.failure if type(outcome) is Failed else outcome
