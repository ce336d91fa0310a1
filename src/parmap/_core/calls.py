"""The books of one call: which of its items wait, who serves it, and where it ends."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from parmap._core.chunking import ChunkSizer
from parmap._core.deadlines import LOOKS
from parmap._core.retry import ONCE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from parmap._core.commands import FailCall
    from parmap._core.events import OnFailure
    from parmap._core.retry import RetryPolicy


class Piece(NamedTuple):
    """Items `start .. stop - 1` that wait.  `solo`: each goes alone, because one of them is
    suspected of having ended a worker and must not take its neighbours along.
    """

    start: int
    stop: int
    solo: bool = False


class Call:
    """One call.  Owned by the scheduler; nobody else writes it."""

    __slots__ = (
        "attempts",
        "cap",
        "failure",
        "fed",
        "free_deaths",
        "id",
        "input_ended",
        "name",
        "on_failure",
        "opened",
        "pieces",
        "resting",
        "retry",
        "sated",
        "sizer",
        "stop_at",
        "task_timeout",
        "turn",
        "waiting",
        "workers",
    )

    def __init__(
        self,
        number: int,
        cap: int,
        chunksize: int | None,
        on_failure: OnFailure,
        task_timeout: float | None = None,
        retry: RetryPolicy = ONCE,
    ) -> None:
        self.id = number
        self.cap = cap
        self.on_failure = on_failure
        self.task_timeout = task_timeout
        self.retry = retry
        # A chunk that lasts no longer than it takes to look at it need not be looked at.
        self.sizer = ChunkSizer(
            chunksize, math.inf if task_timeout is None else task_timeout / LOOKS
        )
        self.pieces: deque[Piece] = deque()  # what waits, re-queued pieces in front
        self.waiting = 0  # the number of items in them
        self.fed = 0  # items that have been added so far, skipped ones included
        self.input_ended = False
        self.sated = False  # what may still be added is not wanted
        self.stop_at: int | None = None  # items from this index on are no longer wanted
        self.workers: set[int] = set()  # who holds chunks of it
        self.attempts: dict[int, int] = {}  # index -> runs that came to nothing, for open items
        self.resting: dict[int, float] = {}  # index -> when its rest before the next run is over
        self.free_deaths = 0  # workers lost in a row without anybody's fault and without progress
        self.opened = 0  # workers with a lower number are older than the call
        self.turn = 0  # when it was last served, for fairness
        self.name: Hashable = None  # under which its cost is remembered
        self.failure: FailCall | None = None  # how it ends, if the engine cannot serve it

    def add(self, count: int, skipped: int = 0) -> None:
        """`count` more items wait (unless the call wants no more), behind the skipped ones."""
        start = self.fed + skipped
        self.fed = start + count
        if count and self.stop_at is None and not self.sated:
            self._append(Piece(start, self.fed))

    def requeue(self, pieces: Iterable[Piece]) -> None:
        """Put pieces back in front, lowest index first, but for what is no longer wanted."""
        wanted = [clipped for piece in pieces if (clipped := self._clip(piece)) is not None]
        for piece in sorted(wanted, key=lambda piece: piece.start, reverse=True):
            self.pieces.appendleft(piece)
            self.waiting += piece.stop - piece.start

    def cut(self, pieces: list[Piece]) -> None:
        """A chunk was cut short; these have come back."""
        self.sizer.was_cut()
        self.requeue(pieces)

    def take(self, workers: int, most: int | None = None) -> Piece:
        """The next chunk, to be run by one of `workers` that share what waits: `most` items."""
        head = self.pieces.popleft()
        more = not self.input_ended
        size = 1 if head.solo else self.sizer.size(self.waiting, more_to_come=more, workers=workers)
        cut = min(head.stop, head.start + (size if most is None else min(size, most)))
        if cut < head.stop:
            self.pieces.appendleft(Piece(cut, head.stop, head.solo))
        self.waiting -= cut - head.start
        return Piece(head.start, cut, head.solo)

    def stop(self, index: int) -> None:
        """Items from `index` on are no longer wanted."""
        if self.stop_at is not None and self.stop_at <= index:
            return
        self.stop_at = index
        pieces, self.pieces, self.waiting = self.pieces, deque(), 0
        self.requeue(pieces)
        self.resting = {item: due for item, due in self.resting.items() if item < index}

    def drop_waiting(self) -> None:
        """What waits or rests is no longer wanted, nor is what may still come."""
        self.input_ended = self.sated = True
        self.pieces.clear()
        self.waiting = 0
        self.resting.clear()

    def wake(self, index: int) -> None:
        """This item has rested.  It goes alone: it has cost something before."""
        del self.resting[index]
        self.requeue([Piece(index, index + 1, solo=True)])

    def withdraw(self, index: int) -> None:
        """Drop one item, if it still waits or rests."""
        self.resting.pop(index, None)
        for place, piece in enumerate(self.pieces):
            if piece.start <= index < piece.stop:
                del self.pieces[place]
                self.waiting -= piece.stop - piece.start
                rest = (
                    Piece(piece.start, index, piece.solo),
                    Piece(index + 1, piece.stop, piece.solo),
                )
                for part in reversed([part for part in rest if part.start < part.stop]):
                    self.pieces.insert(place, part)
                    self.waiting += part.stop - part.start
                return

    def wants(self, index: int) -> bool:
        """Whether the outcome of this item still matters."""
        return self.stop_at is None or index < self.stop_at

    def demand(self, serving: int) -> int:
        """How many workers it could use now, those included that serve it."""
        return min(self.cap, serving + self.sizer.chunks(self.waiting))

    @property
    def finished(self) -> bool:
        """Nothing waits, nothing rests, nothing runs, and nothing can come."""
        over = self.input_ended or self.stop_at is not None
        return over and not self.pieces and not self.resting and not self.workers

    def _append(self, piece: Piece) -> None:
        self.waiting += piece.stop - piece.start
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.stop == piece.start and not last.solo:
            self.pieces[-1] = Piece(last.start, piece.stop)  # one long piece, not many short ones
        else:
            self.pieces.append(piece)

    def _clip(self, piece: Piece) -> Piece | None:
        stop = piece.stop if self.stop_at is None else min(piece.stop, self.stop_at)
        return Piece(piece.start, stop, piece.solo) if piece.start < stop else None
