"""Reads the input of a call: lazily, in the caller's thread, never for long while somebody waits."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from parmap._calls.recording import clock as clock_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from parmap._calls.run import Source

# What there is goes to the workers at the latest after this long, however slow the input is.
FLUSH_SECONDS = 0.001
# After reading from a slow input, results are waited for this share of the time that it took: those
# of quick tasks are not held up by the next read, and the input loses a tenth at the most.
WAIT_SHARE = 0.1
# So many items are read between two looks at the clock, if it takes no longer than this for each.
MOST_AT_ONCE = 32
QUICK_SECONDS = 2e-6


class Feeder:
    """Moves items from an input to a source.

    As in a loop, an input that raises does not undo the items before it: they finish, and one of
    them that fails is what the loop would have raised.  So its error is kept until then.
    """

    __slots__ = ("_inputs", "_source", "error", "fed")

    def __init__(self, inputs: Iterable[Any], source: Source) -> None:
        self._inputs: Iterator[Any] | None = iter(inputs)
        self._source = source
        self.fed = 0
        self.error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """No more items will be read."""
        return self._inputs is None

    def feed(self, room: int) -> float:
        """Read at most `room` items; returns how many seconds to wait for results before the next.

        The wait is 0 for an input that is quicker than its messages.
        """
        if self._inputs is None or room < 1:
            return 0.0
        batch: list[Any] = []
        record = self._source.record
        since = clock_ns() if record is not None else 0
        began = now = time.monotonic()
        end, part = began + FLUSH_SECONDS, 1
        try:
            while len(batch) < room and now < end:
                part = min(part, room - len(batch))
                read = len(batch) + part
                batch += islice(self._inputs, part)  # those before an error stay in the list
                if len(batch) < read:
                    self._inputs = None
                    break
                now = time.monotonic()
                part = MOST_AT_ONCE if now - began < QUICK_SECONDS * read else 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._inputs, self.error = None, error
        if record is not None:
            record.did("reading input", since)
        if batch:
            self.fed += len(batch)
            self._source.feed(batch)
        if self._inputs is None:
            self._source.end_input()
        return (now - began) * WAIT_SHARE if now - began > FLUSH_SECONDS else 0.0

    def stop(self) -> None:
        """Read no more."""
        self._inputs = None
