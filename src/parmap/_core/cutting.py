"""Chunks that are cut short: when one takes far longer than it was meant to, its rest goes to others.

A chunk is sized by what items have cost so far.  Where that changes suddenly (from a microsecond to
50 ms), a worker would sit on thousands of dear items while the others idle.  So each chunk has an
instant at which it is overdue; then its worker is told to give back what it has not begun, of this
chunk and of the one behind it.  The worker answers at once, in the middle of an item too.

A size that the caller has fixed is kept whole, and so a chunk of several items is left alone then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap._core.calls import Piece
from parmap._core.commands import CutChunks
from parmap._core.states import WorkerState
from parmap.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parmap._core.calls import Call
    from parmap._core.commands import Command
    from parmap._core.workers import Chunk, Worker


def watch(worker: Worker, book: Call, now: float) -> None:
    """The first of its chunks begins now, as far as anybody knows."""
    chunk, *later = worker.chunks
    items = chunk.stop - chunk.next
    patience = book.sizer.patience(items)
    alone = not later and items <= 1
    comes_back = chunk.id <= worker.cut_to
    worker.overdue_at = None if patience is None or alone or comes_back else now + patience
    for behind in later:
        wait_for(worker, book, behind)


def wait_for(worker: Worker, book: Call, behind: Chunk) -> None:
    """This chunk has to arrive, too: to take it back and send it again would take as long."""
    if worker.overdue_at is not None:
        worker.overdue_at += book.sizer.transit(behind.stop - behind.start)


def cut_overdue(workers: Iterable[Worker], now: float) -> list[Command]:
    """Tell those whose chunk is overdue to give the rest back; once for each chunk."""
    commands: list[Command] = []
    for worker in workers:
        if worker.overdue_at is not None and worker.overdue_at <= now:
            worker.overdue_at = None
            if worker.state is WorkerState.BUSY:
                worker.cut_to = worker.chunks[-1].id
                commands.append(CutChunks(worker.id, worker.cut_to))
    return commands


def take_back(worker: Worker, number: int, stop: int) -> list[Piece]:
    """It will not run the items from `stop` on of this chunk, nor the chunk behind it: they wait again.

    That one was there before the cut, too: a worker that is being cut is sent nothing.  And the chunk
    is its first: it answers while it runs it, and closes it afterwards.
    """
    if not worker.chunks or worker.chunks[0].id != number:
        raise InternalError(f"worker {worker.id} cut chunk {number} out of turn", worker.story())
    first, *later = worker.chunks
    stop = max(stop, first.next)
    if worker.tasks_left is not None:
        worker.tasks_left += max(0, first.stop - stop) + sum(c.stop - c.start for c in later)
    pieces = [Piece(stop, first.stop, first.solo)]
    first.stop = min(first.stop, stop)
    for chunk in later:
        pieces.append(Piece(chunk.start, chunk.stop, chunk.solo))
        chunk.stop = chunk.start
    return pieces
