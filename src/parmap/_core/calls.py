"""The books of one call: which of its items wait, who serves it, and where it ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parmap._core.chunking import ChunkSizer

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from parmap._core.commands import FailCall
    from parmap._core.events import OnFailure


@dataclass(frozen=True, slots=True)
class Piece:
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
        "sizer",
        "stop_at",
        "turn",
        "waiting",
        "workers",
    )

    def __init__(self, number: int, cap: int, chunksize: int | None, on_failure: OnFailure) -> None:
        self.id = number
        self.cap = cap
        self.on_failure = on_failure
        self.sizer = ChunkSizer(chunksize)
        self.pieces: deque[Piece] = deque()  # what waits, re-queued pieces in front
        self.waiting = 0  # the number of items in them
        self.fed = 0  # items that have been added so far
        self.input_ended = False
        self.stop_at: int | None = None  # items from this index on are no longer wanted
        self.workers: set[int] = set()  # who holds chunks of it
        self.attempts: dict[int, int] = {}  # index -> workers lost while they ran it
        self.free_deaths = 0  # workers lost in a row without anybody's fault and without progress
        self.opened = 0  # workers with a lower number are older than the call
        self.turn = 0  # when it was last served, for fairness
        self.name: Hashable = None  # under which its cost is remembered
        self.failure: FailCall | None = None  # how it ends, if the engine cannot serve it

    def add(self, count: int) -> None:
        """`count` more items wait (unless the call has already stopped)."""
        start, self.fed = self.fed, self.fed + count
        if count and self.stop_at is None:
            self._append(Piece(start, self.fed))

    def requeue(self, pieces: Iterable[Piece]) -> None:
        """Put pieces back in front, lowest index first, but for what is no longer wanted."""
        wanted = [clipped for piece in pieces if (clipped := self._clip(piece)) is not None]
        for piece in sorted(wanted, key=lambda piece: piece.start, reverse=True):
            self.pieces.appendleft(piece)
            self.waiting += piece.stop - piece.start

    def take(self, workers: int) -> Piece:
        """The next chunk, to be run by one of `workers` that share what waits."""
        head = self.pieces.popleft()
        more = not self.input_ended
        size = 1 if head.solo else self.sizer.size(self.waiting, more_to_come=more, workers=workers)
        cut = min(head.stop, head.start + size)
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

    def withdraw(self, index: int) -> None:
        """Drop one item, if it still waits."""
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
        """Nothing waits, nothing runs, and nothing can come."""
        over = self.input_ended or self.stop_at is not None
        return over and not self.pieces and not self.workers

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
