"""All outcomes of a call, as a list: what `parallel_map` and `parallel_starmap` do."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from parmap._outcomes import Batch, Failed
from parmap._run import Source, finish, raise_group, raise_lowest, unwrap
from parmap.observe.progress import ProgressReporter
from parmap.options import OnError, length_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from parmap.errors import TaskFailure

_MISSING = object()


def gather(
    source: Source,
    inputs: Iterable[Any],
    mode: OnError,
    progress: bool | str | Callable[..., object],
) -> list[Any]:
    """Feed all inputs, collect all outcomes, and end as `mode` says.

    However it ends, nothing of the call runs afterwards.
    """
    hurry = False
    try:
        reporter = ProgressReporter(progress, length_of(inputs))
        try:
            collected = _Collected(reporter)
            input_error = collected.run(source, inputs)
        finally:
            reporter.close()
    except KeyboardInterrupt:
        hurry = True
        raise
    finally:
        finish(source, hurry=hurry)
    if mode == "raise" and collected.failures:
        raise_lowest(collected.failures)
    if input_error is not None:
        raise input_error
    if mode == "group" and collected.failures:
        raise_group(collected.results, collected.failures)
    return collected.results


class _Collected:
    """Results in the order of their items, and the failures among them."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self.results: list[Any] = []
        self.failures: list[TaskFailure] = []
        self._done = 0
        self._reporter = reporter

    def run(self, source: Source, inputs: Iterable[Any]) -> BaseException | None:
        """Until the call is over.  Returns the error of the input, if that ended it early."""
        if isinstance(inputs, list | tuple | range):
            # A copy: the caller's callbacks may change the list while we go by its indexes.
            source.feed_all(inputs[:])
            input_error = None
        else:
            input_error = self._feed(source, iter(inputs))
        while not source.over:
            self._take(source, block=True)
        return input_error

    def _feed(self, source: Source, inputs: Iterator[Any]) -> BaseException | None:
        """Read the input as fast as workers want it.

        As in a loop, an input that raises does not undo the items before it: they finish, and one
        of them that fails is what the loop would have raised.
        """
        fed = 0
        while not source.over and not self.failures_end(source):
            wanted = max(1, source.appetite - (fed - self._done))
            block: list[Any] = []
            try:
                block.extend(islice(inputs, wanted))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # raised in its place, after the earlier items
                source.feed(block)
                source.end_input()
                return error
            source.feed(block)
            fed += len(block)
            if len(block) < wanted:
                source.end_input()
                return None
            self._take(source, block=fed - self._done >= source.appetite)
        return None

    def failures_end(self, source: Source) -> bool:
        """Whether the call has stopped because of a failure: then no more input is wanted."""
        return bool(self.failures) and source.stops

    def _take(self, source: Source, *, block: bool) -> None:
        batch = source.next_batch(block=block)
        if batch is not None:
            self._place(batch)
            self._done += len(batch.outcomes)
            self._reporter.update(self._done, len(self.failures))

    def _place(self, batch: Batch) -> None:
        outcomes, results = batch.outcomes, self.results
        for place, outcome in enumerate(outcomes):
            if type(outcome) is Failed:
                self.failures.append(outcome.failure)
                outcomes[place] = unwrap(outcome)
        end = batch.first + len(outcomes)
        if len(results) < end:
            results.extend([_MISSING] * (end - len(results)))
        results[batch.first : end] = outcomes
