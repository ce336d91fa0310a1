"""`ResultIterator`: the outcomes of a call one by one, as far ahead of the consumer as it allows."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from parmap._calls.feeder import Feeder
from parmap._calls.outcomes import Failed
from parmap._calls.recording import clock
from parmap._calls.run import Reporter, Source, finish, next_batch, raise_group, unwrap
from parmap._core.ordering import ReorderBuffer
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from parmap._calls.deadline import Deadline
    from parmap.errors import TaskFailure
    from parmap.options import OnError

R_co = TypeVar("R_co", covariant=True)

# Without a `buffersize`: results of this many items may wait for their consumer.  20,000 trivial
# ones are 1 MB or so, and a stream of them is not slowed by a window of this size (measured).
MOST_AHEAD = 20_000
# The first item of a stream runs alone for so long.
FIRST_SECONDS = 0.0003


if TYPE_CHECKING:

    class _Chained(Iterator[R_co], Generic[R_co]):
        def __next__(self) -> R_co: ...

else:
    _Chained = chain


class ResultIterator(_Chained[R_co]):
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

    # Results come in batches; `itertools.chain`, whose subclass this is, takes them apart in C: a
    # hundredth of what a `__next__` written in Python costs.
    _batches: _Batches

    def __init__(self) -> None:
        raise TypeError("a ResultIterator is made by parallel_imap")

    def close(self) -> None:
        """Stop: nothing more is read or run; what runs is ended (within about a second).

        Results that were not taken are dropped.  May be called twice, and from another thread: it
        waits for a ``next`` in progress.
        """
        self._batches.close()

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
        batches = getattr(self, "_batches", None)
        if batches is not None:
            batches.abandon()

    def __repr__(self) -> str:
        return f"<ResultIterator {self._batches.describe()}>"


class _Batches:
    """The results as iterators of some each, which whoever chains them exhausts one by one."""

    def __init__(
        self,
        source: Source,
        inputs: Iterable[Any],
        *,
        ordered: bool,
        mode: OnError,
        buffersize: int | None,
        reporter: Reporter,
        deadline: Deadline,
    ) -> None:
        self._deadline = deadline
        self._source = source
        self._feeder = Feeder(inputs, source)
        self._mode = mode
        self._buffersize = buffersize
        self._ordered: ReorderBuffer[Any] | None = ReorderBuffer() if ordered else None
        self._ready: deque[Any] = deque() if self._ordered is None else self._ordered.ready()
        self._arrived = 0  # outcomes that have come
        self._failed = 0  # failures among them
        self._given = 0  # results taken by the consumer
        self._batch: list[Any] = []  # being taken
        self._rest = iter(self._batch)
        self._failures: list[TaskFailure] = []  # for the group
        self._kept: list[Any] = []  # for the group's `results`
        self._over = self._taken = False
        self._lock = threading.RLock()
        self._reporter = reporter
        self._given_at = 0  # when the consumer got its last results, for a profile

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Iterator[Any]:
        self._taken = True
        with self._lock:
            # Two threads may have come for it, and the later one puts its iterator in the place of
            # the other's: so there is a new one only when the last one is exhausted.
            if not self._rest.__length_hint__():  # type: ignore[attr-defined]  # of a list's iterator
                self._next()
            return self._rest

    def close(self) -> None:
        """End the call, and wait for that."""
        with self._lock:
            self._end()

    def abandon(self) -> None:
        """End the call.  Never waits."""
        if not self._over:
            self._source.abandon()
        if not (self._over or self._taken):
            warnings.warn(
                "the results of parallel_imap were never asked for, so nothing has run: iterate"
                " over them, or call parallel_map, which returns a list",
                RuntimeWarning,
                stacklevel=3,
            )

    def describe(self) -> str:
        """Whether it is over, and how far it is."""
        given = self._given + len(self._batch) - self._rest.__length_hint__()  # type: ignore[attr-defined]
        state = "over" if self._over else "open"
        return f"{state}: {given} taken, {self._feeder.fed - given} ahead"

    # ------------------------------------------------------------------ the next results

    def _next(self) -> None:
        record = self._source.record
        if record is not None and self._given_at:
            record.did("consuming", self._given_at)
        try:
            self._given += len(self._batch)
            self._batch = []  # an error leaves nothing behind
            batch = self._wait()
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(hurry=isinstance(error, KeyboardInterrupt))
            raise
        self._batch, self._rest = batch, iter(batch)
        if record is not None:
            self._given_at = clock()

    def _wait(self) -> list[Any]:
        if self._over:
            raise StopIteration
        if not (self._feeder.fed or self._feeder.ended):
            self._begin()
        wait: float | None = 0.0
        while True:
            if not self._ready and (self._feeder.fed > self._arrived or self._feeder.ended):
                self._absorb(wait)
            while self._ready:
                batch = self._take()
                if batch:
                    return batch
            if self._source.over:
                self._conclude()
            if self._deadline.passed:
                raise self._deadline.error()
            room = self._room()
            wait = None if self._feeder.ended or room < 1 else self._feeder.feed(room)
            wait = self._deadline.cap(wait)

    def _begin(self) -> None:
        """The first item goes alone: to send others with it would hold up its result.

        They follow before its result is given away: the consumer may take its time.
        """
        room = self._room()
        quick = self._feeder.feed(min(room, 1)) == 0.0
        if quick and not self._feeder.ended:
            self._absorb_next(self._deadline.cap(FIRST_SECONDS))
            self._feeder.feed(room - 1)

    def _take(self) -> list[Any]:
        """What is ready, up to a failure that is to be raised."""
        if not self._failed:
            batch = list(self._ready)
            self._ready.clear()
            if self._mode == "group":
                self._kept += batch
            return batch
        return self._take_with_failures()

    def _take_with_failures(self) -> list[Any]:
        batch: list[Any] = []
        while self._ready:
            outcome = self._ready[0]
            if type(outcome) is Failed:
                if self._mode == "raise" and batch:
                    return batch  # those before it first
                self._note_failure(outcome.failure)
            self._ready.popleft()
            value = unwrap(outcome)
            if self._mode == "group":
                self._kept.append(value)
                if type(outcome) is Failed:
                    self._given += 1
                    continue  # it is raised in the group, at the end
            batch.append(value)
        return batch

    def _note_failure(self, failure: TaskFailure) -> None:
        if self._mode == "raise":
            raise failure.error
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
        self._batch.clear()  # whoever takes from it comes to its end
        try:
            finish(self._source, hurry=hurry)
        finally:
            self._reporter.close()
            if self._source.record is not None:
                self._source.record.end()

    # ------------------------------------------------------------------ input and outcomes

    def _absorb(self, wait: float | None) -> None:
        """Take in what has come; wait so long for something, None being for ever."""
        while self._absorb_next(wait):
            wait = 0.0

    def _absorb_next(self, wait: float | None) -> bool:
        batch = next_batch(self._source, self._reporter, wait)
        if batch is None:
            return False
        self._arrived += len(batch.outcomes)
        if self._ordered is None:
            self._ready.extend(batch.outcomes)
        else:
            self._ordered.put(batch.first, batch.outcomes)
        self._failed += batch.failed
        self._reporter.update(self._arrived, self._failed)
        return True

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
    batches = _Batches(
        source, inputs, ordered=ordered, mode=mode, buffersize=buffersize, reporter=reporter,
        deadline=deadline,
    )  # fmt: skip
    stream: ResultIterator[Any] = ResultIterator.from_iterable(batches)  # type: ignore[attr-defined]
    stream._batches = batches
    return stream
