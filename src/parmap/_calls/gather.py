"""All outcomes of a call, as a list: what `parallel_map` and `parallel_starmap` do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parmap._calls.feeder import Feeder
from parmap._calls.outcomes import Batch, Failed
from parmap._calls.run import (
    Reporter,
    Source,
    finish,
    next_batch,
    raise_group,
    raise_lowest,
    unwrap,
)
from parmap.errors import CallTimeoutError, TaskFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parmap._calls.deadline import Deadline
    from parmap.options import OnError

_MISSING = object()


def gather(
    source: Source,
    inputs: Iterable[Any],
    mode: OnError,
    reporter: Reporter,
    deadline: Deadline,
) -> list[Any]:
    """Feed all inputs, collect all outcomes, and end as `mode` says.

    However it ends, nothing of the call runs afterwards.
    """
    hurry = False
    collected = _Collected(reporter, deadline)
    try:
        try:
            input_error = collected.run(source, inputs)
        finally:
            reporter.close()
    except KeyboardInterrupt:
        hurry = True
        raise
    finally:
        finish(source, hurry=hurry)
        if source.record is not None:
            source.record.end()
    if collected.timed_out:
        raise deadline.error(collected.with_unfinished())
    if mode == "raise" and collected.failures:
        raise_lowest(collected.failures)
    if input_error is not None:
        raise input_error
    if mode == "group" and collected.failures:
        raise_group(collected.results, collected.failures)
    return collected.results


class _Collected:
    """Results in the order of their items, and the failures among them."""

    def __init__(self, reporter: Reporter, deadline: Deadline) -> None:
        self.results: list[Any] = []
        self.timed_out = False
        self._deadline = deadline
        self._count = 0  # items that are known of
        self.failures: list[TaskFailure] = []
        self._done = 0
        self._reporter = reporter

    def run(self, source: Source, inputs: Iterable[Any]) -> BaseException | None:
        """Until the call is over.  Returns the error of the input, if that ended it early."""
        input_error = None
        if isinstance(inputs, list | tuple | range):
            # A copy: the caller's callbacks may change the list while we go by its indexes.
            copy = inputs[:]
            self._count = len(copy)
            if source.takes_all:
                source.feed_all(copy)
            else:
                self._feed(source, copy)
        else:
            input_error = self._feed(source, inputs)
        while not source.over:
            self._mind_the_time(source)
            self._take(source, None)
        if source.error is not None:
            raise source.error
        return input_error

    def _feed(self, source: Source, inputs: Iterable[Any]) -> BaseException | None:
        """Read the input as fast as workers want it, until it ends or the call does."""
        feeder = Feeder(inputs, source)
        while not feeder.ended and not source.over and not (self.failures and source.stops):
            room = source.appetite - (feeder.fed - self._done)
            wait = feeder.feed(room)
            self._count = max(self._count, feeder.fed)
            self._take(source, None if room < 1 else wait)
            if self._mind_the_time(source):
                break
        return feeder.error

    def _mind_the_time(self, source: Source) -> bool:
        """Give the call up once its time is over; what comes until it has ended is kept, though.

        A failure that was seen before has ended it already.
        """
        ended = bool(self.failures) and source.stops
        if self._deadline.passed and not self.timed_out and not ended:
            self.timed_out = True
            source.cancel()
        return self.timed_out

    def with_unfinished(self) -> list[Any]:
        """The results, with a failure in the place of each item that has none."""
        unfinished = CallTimeoutError("the item had not finished when the call's timeout passed")
        everything = self.results + [_MISSING] * (self._count - len(self.results))
        return [
            TaskFailure(index, unfinished, 0) if value is _MISSING else value
            for index, value in enumerate(everything)
        ]

    def _take(self, source: Source, timeout: float | None) -> None:
        if not self.timed_out:
            timeout = self._deadline.cap(timeout)
        batch = next_batch(source, self._reporter, timeout)
        if batch is not None:
            self._place(batch)
            self._done += len(batch.outcomes)
            self._reporter.update(self._done, len(self.failures))

    def _place(self, batch: Batch) -> None:
        outcomes, results = batch.outcomes, self.results
        if batch.failed:
            self.failures += [each.failure for each in outcomes if type(each) is Failed]
            outcomes = [unwrap(each) for each in outcomes]
        if batch.first == len(results):
            results += outcomes
            return
        end = batch.first + len(outcomes)
        if len(results) < end:
            results.extend([_MISSING] * (end - len(results)))
        results[batch.first : end] = outcomes
