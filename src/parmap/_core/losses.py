"""Items that come to nothing: their worker died, they ran too long, they raised what is retried.

Each such run is charged to its item as an attempt, and to no other; what was with it waits again at
no charge.  An item that has been charged goes alone from then on: it may do it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap._core import events as ev
from parmap._core.blame import guilty_item
from parmap._core.books import Books
from parmap._core.calls import Piece
from parmap._core.commands import EndLateWorker, KillWorker, LookAt, Loss, SettleLost
from parmap._core.states import WorkerState
from parmap._core.workers import Step, Worker

if TYPE_CHECKING:
    from parmap._core.calls import Call

# A late worker writes its stack down as soon as it gets a CPU, and is gone with that.  One that is
# not gone after this long blocks the signal.
DUMP_PATIENCE = 0.5


class Losses(Books):
    """The books, and what becomes of items that come to nothing."""

    # ------------------------------------------------------------------ runs that are charged

    def _bury_chunks(self, worker: Worker, event: ev.WorkerDied) -> None:
        """Charge the item that was being run; everything else of the worker waits again."""
        first, *later = worker.chunks
        book = self._open(first.call)
        book.workers.discard(worker.id)
        pieces = [Piece(chunk.start, chunk.stop, chunk.solo) for chunk in later]
        guilty = self._guilty(book, worker, event.running)
        if guilty is not None:
            pieces += [
                Piece(first.next, guilty, first.solo),
                Piece(guilty + 1, first.stop, first.solo),
            ]
        else:
            at = event.running if worker.late is None else worker.late
            suspected = at == ev.UNKNOWN
            pieces.append(Piece(first.next, first.stop, first.solo or suspected))
        book.requeue(pieces)
        if guilty is not None and book.wants(guilty):
            self._charge(book, guilty, worker, event)

    def _guilty(self, book: Call, worker: Worker, running: int) -> int | None:
        """The item that the worker's death is charged to, if there is one."""
        if worker.late is None and not worker.killed:
            return guilty_item(book, worker, running)
        # We have ended it, so only what we have ended it for is charged: whatever it was at when
        # the signal came, if it had finished that item, is nobody's fault.
        first = worker.chunks[0]
        culprit = first.start if worker.killed else worker.late
        return culprit if culprit is not None and first.next <= culprit < first.stop else None

    def _charge(self, book: Call, index: int, worker: Worker, event: ev.WorkerDied) -> None:
        late = worker.late is not None
        self.tally.late += late
        self.tally.lost += not late
        retried = not worker.killed and (book.retry.late if late else book.retry.lost)
        suspected = worker.chunks[0].solo and index not in book.attempts
        runs = book.retry.of_suspects if suspected else 1
        if self._count_attempt(book, index, retried=retried, runs=runs):
            return
        why = Loss.KILLED if worker.killed else Loss.LATE if late else Loss.DIED
        self._settle_lost(book, index, event.who, event.exitcode, why)

    def _count_attempt(self, book: Call, index: int, *, retried: bool, runs: int = 1) -> bool:
        """This item has come to nothing once more.  True if it is run again; it rests until then."""
        failed = book.attempts[index] = book.attempts.get(index, 0) + runs
        if not retried or failed >= book.retry.attempts:
            return False
        self.tally.retried += 1
        self._touched.add(book.id)
        self.rests.add(book, index, self._now + book.retry.delay(failed))
        return True

    def _settle_lost(
        self, book: Call, index: int, who: object, exitcode: int | None, why: Loss
    ) -> None:
        attempts = book.attempts.pop(index, 0)
        self.tally.items += 1
        self._out.append(SettleLost(book.id, index, who, exitcode, attempts, why))
        self._failed(book, index)

    # ------------------------------------------------------------------ runs that take too long

    def _start_clock(self, worker: Worker) -> None:
        """The worker was heard, or got its first chunk: its next item begins now at the earliest."""
        if worker.clock is not None:
            worker.clock.restart(self._now, marked=worker.chunks[0].marked)

    def _looked(self, event: ev.Looked) -> None:
        """The answer to `LookAt`; a worker that had to leave meanwhile is of no interest."""
        worker = self.workers.get(event.worker)
        if worker is None or not worker.is_timed:
            return
        clock, first = worker.clock, worker.chunks[0]
        assert clock is not None
        clock.saw(event.running, event.began, self._now)
        late = clock.late(self._now)
        if clock.is_broken(self._now):
            # It never began, so nobody is charged, unless that becomes a habit (`guilty_item`).
            self._staff.leave(worker, Step.KILL, None)
            self._out.append(KillWorker(worker.id, family=True))
        elif late is None:
            return
        elif late == ev.UNKNOWN or first.next <= late < first.stop:
            worker.late = first.next if first.stop - first.next == 1 else late
            self._staff.leave(worker, Step.KILL, self._now + DUMP_PATIENCE)
            self._out.append(EndLateWorker(worker.id))
        else:
            # It is at its second chunk: the report on the first has come, and was not heard yet.
            self._start_clock(worker)

    def _look_at_clocks(self) -> None:
        """Look at those workers that have not been heard for long."""
        for worker in self._staff.unheard(self._now):
            self._out.append(LookAt(worker.id))

    # ------------------------------------------------------------------ runs that are unwanted

    def _task_killed(self, book: Call) -> None:
        """The owner of this call of one item ends it."""
        for worker in [self.workers[number] for number in book.workers]:
            first = worker.chunks[0]
            if first.next == first.stop:
                continue  # its attempt is over, and only the chunk's end still to come
            if worker.state is WorkerState.BUSY:
                self._staff.leave(worker, Step.KILL, None)
                self._out.append(KillWorker(worker.id, family=True))
            worker.killed = True
        if book.turn and (book.waiting or book.resting):
            # Between two attempts there is no worker to end, but still a task.
            book.withdraw(0)
            self._settle_lost(book, 0, None, None, Loss.KILLED)
