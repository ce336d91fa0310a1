"""How often an item is run again, and how long it rests in between.  A rest occupies no worker."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parmap._core.calls import Call


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What one call wants to be done about items that come to nothing.

    What an item raised is judged where it was raised (`ResultsArrived.retried`); here stands whether
    a lost worker (`lost`) or a passed deadline (`late`) is a reason to run the item once more.
    """

    attempts: int = 1  # runs in all
    first_delay: float = 0.0
    backoff: float = 2.0
    max_delay: float = 30.0
    lost: bool = False
    late: bool = False

    @property
    def is_strict(self) -> bool:
        """Whether an item that ends a worker has had its only run with that, and so has to be known."""
        return self.attempts == 1 and (self.lost or self.late)

    @property
    def of_suspects(self) -> int:
        """The runs of an item that was alone when it ended a worker, because it was suspected before:
        to have run no more often than was said, it is taken to have been the one.  Who asks for no
        retries is not told of two."""
        return 2 if self.attempts > 1 else 1

    def delay(self, failed: int) -> float:
        """Seconds to rest after so many failed attempts (at least one)."""
        try:
            delay = self.first_delay * self.backoff ** (failed - 1)
        except OverflowError:
            return self.max_delay
        return min(delay, self.max_delay)


ONCE = RetryPolicy()


class Rests:
    """When resting items are due, over all calls.  Which items rest, their calls know.

    What a call has dropped meanwhile stays in the heap until its turn comes, and is ignored then.
    """

    __slots__ = ("_calls", "_heap")

    def __init__(self, calls: Mapping[int, Call]) -> None:
        self._calls = calls
        self._heap: list[tuple[float, int, int]] = []  # due, call, index

    def add(self, book: Call, index: int, due: float) -> None:
        """This item rests until then."""
        book.resting[index] = due
        heapq.heappush(self._heap, (due, book.id, index))

    def next_due(self) -> float | None:
        """The instant at which the next rest is over."""
        while self._heap and not self._still_rests(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def wake(self, now: float) -> set[int]:
        """Let those wait for a worker again whose rest is over; the calls they belong to."""
        calls = set()
        while (due := self.next_due()) is not None and due <= now:
            _, call, index = heapq.heappop(self._heap)
            self._calls[call].wake(index)
            calls.add(call)
        return calls

    def _still_rests(self, due: float, call: int, index: int) -> bool:
        book = self._calls.get(call)
        return book is not None and book.resting.get(index) == due
