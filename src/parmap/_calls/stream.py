"""`ResultIterator`: the outcomes of a call one by one, as far ahead of the consumer as it allows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from parmap._calls.feeder import Feeder
from parmap._calls.outcomes import Failed
from parmap._calls.run import Reporter, Source, finish, next_batch, raise_group, unwrap
from parmap._core.ordering import ReorderBuffer
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from types import TracebackType

    from parmap._calls.deadline import Deadline
    from parmap.errors import TaskFailure
    from parmap.options import OnError

R_co = TypeVar("R_co", covariant=True)

# Without a `buffersize`: results of this many items may wait for their consumer.  20,000 trivial
# ones are 1 MB or so, and a stream of them is not slowed by a window of this size (measured).
MOST_AHEAD = 20_000


class ResultIterator(Iterator[R_co], Generic[R_co]):
    """The results of `parallel_imap`: an iterator to take from, to close early, to use with `with`.

    ``next`` blocks until the next result is there.  Several threads may take from one iterator;
    each result goes to one of them.  It cannot be pickled.

    Example:
        >>> from parmap import parallel_imap
        >>> results = parallel_imap(abs, [-1, -2, -3], max_workers=2)
        >>> next(results)
        1
        >>> results.close()
        >>> list(results)
        []
    """

    _source: Source
    _feeder: Feeder
    _mode: OnError
    _buffersize: int | None
    _ordered: ReorderBuffer[Any] | None
    _ready: deque[Any]
    _reporter: Reporter
    _deadline: Deadline
    _arrived: int
    _failed: int
    _given: int
    _failures: list[TaskFailure]
    _kept: list[Any]
    _over: bool
    _lock: threading.RLock

    def __init__(self) -> None:
        raise TypeError("a ResultIterator is made by parallel_imap")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R_co:
        with self._lock:
            try:
                return self._next()
            except StopIteration:
                self._end()
                raise
            except BaseException as error:
                self._end(hurry=isinstance(error, KeyboardInterrupt))
                raise

    def close(self) -> None:
        """Stop: nothing more is read or run; what runs is ended (within about a second).

        Results that were not taken are dropped.  May be called twice, and from another thread: it
        waits for a ``next`` in progress.
        """
        with self._lock:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise SerializationError("a ResultIterator stays in the process that made it")

    def __del__(self) -> None:
        # Dropped half-way.  Never wait here: this may be any thread, or the interpreter's end.
        if not getattr(self, "_over", True):
            self._source.cancel()

    def __repr__(self) -> str:
        state = "over" if self._over else "open"
        return (
            f"<ResultIterator {state}: {self._given} taken, {self._feeder.fed - self._given} ahead>"
        )

    # ------------------------------------------------------------------ one result

    def _next(self) -> R_co:
        if self._over:
            raise StopIteration
        wait: float | None = 0.0
        while True:
            self._absorb(wait)
            if self._ready:
                return self._give()
            if self._source.over:
                self._conclude()
            if self._deadline.passed:
                raise self._deadline.error()
            room = self._room()
            wait = None if self._feeder.ended or room < 1 else self._feeder.feed(room)
            wait = self._deadline.cap(wait)

    def _give(self) -> R_co:
        outcome = self._ready.popleft()
        self._given += 1
        if type(outcome) is Failed:
            if self._mode == "raise":
                raise outcome.failure.error
            self._failures_seen(outcome.failure)
        value: R_co = unwrap(outcome)
        if self._mode == "group":
            self._kept.append(value)
            if type(outcome) is Failed:
                return self._next()  # it is raised in the group, at the end
        return value

    def _failures_seen(self, failure: TaskFailure) -> None:
        if self._mode == "group":
            self._failures.append(failure)

    def _conclude(self) -> NoReturn:
        """Every outcome has been given."""
        if self._source.error is not None:
            raise self._source.error
        if self._feeder.error is not None:
            raise self._feeder.error
        if self._failures:
            raise_group(self._kept, self._failures)
        raise StopIteration

    def _end(self, *, hurry: bool = False) -> None:
        if self._over:
            return
        self._over = True
        self._feeder.stop()
        self._ready.clear()
        try:
            finish(self._source, hurry=hurry)
        finally:
            self._reporter.close()

    # ------------------------------------------------------------------ input and outcomes

    def _absorb(self, wait: float | None) -> None:
        """Take in what has come; wait so long for something, None being for ever."""
        while (batch := next_batch(self._source, self._reporter, wait)) is not None:
            wait = 0.0
            self._arrived += len(batch.outcomes)
            if self._ordered is None:
                self._ready.extend(batch.outcomes)
            else:
                self._ordered.put(batch.first, batch.outcomes)
            self._failed += batch.failed
            self._reporter.update(self._arrived, self._failed)

    def _room(self) -> int:
        """How many items may be read now."""
        hungry = self._source.appetite - (self._feeder.fed - self._arrived)
        ahead = self._buffersize or min(MOST_AHEAD, 2 * self._source.appetite)
        return max(0, min(hungry, ahead - (self._feeder.fed - self._given)))


def open_stream(
    source: Source,
    inputs: Iterable[Any],
    *,
    ordered: bool,
    mode: OnError,
    buffersize: int | None,
    reporter: Reporter,
    deadline: Deadline,
) -> ResultIterator[Any]:
    """Make the iterator over the outcomes of an open call; nothing is read before its first `next`."""
    stream: ResultIterator[Any] = ResultIterator.__new__(ResultIterator)
    stream._source = source
    stream._feeder = Feeder(inputs, source)
    stream._mode = mode
    stream._buffersize = buffersize
    stream._ordered = ReorderBuffer() if ordered else None
    stream._ready = deque() if stream._ordered is None else stream._ordered.ready()
    stream._arrived = 0  # outcomes that have come
    stream._failed = 0  # failures among them
    stream._given = 0  # results taken by the consumer
    stream._failures = []  # for the group
    stream._kept = []  # for the group's `results`
    stream._over = False
    stream._lock = threading.RLock()
    stream._reporter = reporter
    stream._deadline = deadline
    return stream
