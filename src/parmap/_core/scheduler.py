"""The decisions.  `handle(event, now=...)` validates, then changes the books, then says what to do.

Rules that everything here keeps:

1. A worker holds chunks of one call at a time, at most two, and answers them in order.
2. An item is settled once: delivered, or lost with its worker.  It runs a second time only when the
   worker that held it died, or gave it back unrun, or when its call wants it to be retried.
3. A worker's death charges the item that was being run and no other; one that we ended, the item
   that we ended it for.
4. A call is finished only when none of its items runs any more, however it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from parmap._core import events as ev
from parmap._core.calls import Call, Piece
from parmap._core.commands import Assign, Command, Deliver, FailCall, FinishCall
from parmap._core.cutting import cut_overdue, take_back, watch
from parmap._core.deadlines import ItemClock
from parmap._core.dispatch import give, next_assignment, workers_wanted
from parmap._core.events import Event, OnFailure, told
from parmap._core.losses import Losses
from parmap._core.states import WorkerState
from parmap._core.workers import KILL_AFTER, Chunk, Step, Worker
from parmap.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Hashable

# After Ctrl-C a person is waiting: all is over within a second.
HURRIED_KILL_AFTER = 0.4
# What all items together cost, where they are not worth a second message.
SHORT_SECONDS = 0.0001
# Two failed starts can be chance (memory was short for a moment), a row of them is not.
START_BUDGET = 3


class Scheduler(Losses):
    """The decisions about calls and workers; those about items that come to nothing are inherited."""

    # ------------------------------------------------------------------ the door

    def handle(self, event: Event, *, now: float) -> list[Command]:
        """Take one event in; give the commands out, in the order in which to obey them."""
        self._story.append((now, told(event)))
        self._now, self._out = now, []
        self._dispatch(event)
        self._fill()
        self._finish_calls()
        return self._out

    def next_deadline(self) -> float | None:
        """The instant at which `DeadlinePassed` is due, or None."""
        staff, rest = self._staff.next_deadline(), self.rests.next_due()
        return staff if rest is None else rest if staff is None else min(staff, rest)

    def send_ahead(self, name: Hashable, items: int, *, now: float) -> tuple[int, int] | None:
        """A worker, and the number of the chunk, if so many items shall go there at once, all of them.

        Then nobody else is open, and a message costs more than the items.  If nothing unusual comes
        in between, there is nothing to tell afterwards; else `SentAhead` comes first.
        """
        if self.calls or self._closing:
            return None
        cost = self._costs.of(name)
        if items > 1 and (cost is None or items * cost.seconds > SHORT_SECONDS):
            return None
        worker = self._staff.fresh(now)
        return None if worker is None else (worker.id, next(self._ids))

    def came_ahead(self, items: int) -> None:
        """What was sent ahead has come back, and nothing else has happened."""
        self.tally.items += items

    def appetite(self, call: int) -> int:
        """How many unfinished items keep this call's workers busy."""
        book = self.calls.get(call)
        return 0 if book is None else book.sizer.appetite(self._share(book))

    def call_of(self, worker: int, chunk: int) -> int | None:
        """The call of a chunk that this worker holds; None if it holds no such."""
        chunks = self.workers[worker].chunks if worker in self.workers else ()
        return next((each.call for each in chunks if each.id == chunk), None)

    def _dispatch(self, event: Event) -> None:  # noqa: C901, PLR0912 - one branch each, read downwards
        match event:
            case ev.ResultsArrived():  # first, for there are most of these
                self._results(event)
            case ev.CallOpened():
                self._open_call(event)
            case ev.SentAhead(opened):
                self._open_call(opened)
                self._sent_ahead(self.calls[opened.call], event)
            case (
                ev.ItemsAdded()
                | ev.InputEnded()
                | ev.ItemCancelled()
                | ev.CallCancelled()
                | ev.WaitingDropped()
                | ev.TaskKilled()
            ):
                # The caller could not yet know that its call has ended; or it was interrupted before
                # it could open it.
                if (book := self.calls.get(event.call)) is not None:
                    self._caller_said(book, event)
                else:
                    self._out.append(FinishCall(event.call))
            case ev.WorkerUp(number):
                self._worker_up(number)
            case ev.WorkerReady(number):
                self._worker_ready(number)
            case ev.InitializerFailed(number, payload):
                self._initializer_failed(number, payload)
            case ev.ChunkCut(number, chunk, stop):
                worker = self._known(number)
                pieces = take_back(worker, chunk, stop)
                self._open(worker.chunks[0].call).cut(pieces)
            case ev.WorkerDied():
                self._worker_died(event)
            case ev.Looked():
                self._looked(event)
            case ev.WorkerNotStarted(number, reason):
                del self.workers[self._known(number).id]
                self._start_failed(reason, None)
            case ev.DeadlinePassed():
                self._deadline_passed()
            case ev.ShutdownRequested(cancel):
                self._shut_down(cancel=cancel)
            case _:
                assert_never(event)

    # ------------------------------------------------------------------ calls

    def _open_call(self, event: ev.CallOpened) -> None:
        if self._closing:
            self._out.append(FailCall(event.call, "closed"))
            return
        self._failed_starts = 0  # times may be better now
        book = Call(
            event.call,
            event.cap,
            event.chunksize,
            event.on_failure,
            event.task_timeout,
            event.retry,
        )
        book.opened = next(self._ids)
        book.name = event.name
        book.sizer.recall(self._costs.of(event.name))
        self.calls[book.id] = book
        if event.items is not None:
            self._touched.add(book.id)
            book.add(event.items)
            book.input_ended = True

    def _sent_ahead(self, book: Call, event: ev.SentAhead) -> None:
        book.pieces.clear()
        chunk = Chunk(event.chunk, book.id, 0, book.waiting, marked=True, solo=False)
        book.waiting = 0
        give(self._known(event.worker), book, chunk, self._now)

    def _caller_said(
        self,
        book: Call,
        event: (
            ev.ItemsAdded
            | ev.InputEnded
            | ev.ItemCancelled
            | ev.CallCancelled
            | ev.WaitingDropped
            | ev.TaskKilled
        ),
    ) -> None:
        self._touched.add(book.id)
        match event:
            case ev.ItemsAdded(_, count, skipped):
                book.add(count, skipped)
            case ev.InputEnded():
                book.input_ended = True
            case ev.ItemCancelled(_, index):
                book.withdraw(index)
            case ev.CallCancelled(_, hurry):
                book.stop(0)
                self._drop_unwanted(book, kill_after=HURRIED_KILL_AFTER if hurry else None)
            case ev.WaitingDropped():
                book.drop_waiting()
            case ev.TaskKilled():
                self._task_killed(book)
            case _:
                assert_never(event)

    # ------------------------------------------------------------------ workers

    def _worker_up(self, worker_id: int) -> None:
        worker = self._known(worker_id)
        if worker.state is WorkerState.STARTING:
            worker.expect(None, None)  # its initializer may take as long as it likes

    def _worker_ready(self, worker_id: int) -> None:
        worker = self._known(worker_id)
        worker.ready = True
        self._failed_starts = 0
        if worker.state is WorkerState.STARTING:
            self._staff.rest(worker, self._now)

    def _initializer_failed(self, worker_id: int, payload: object) -> None:
        worker = self._known(worker_id)
        worker.ready = True  # its death, which follows, is accounted for here
        if worker.state is WorkerState.STARTING:
            self._staff.leave(worker, Step.KILL, self._now + KILL_AFTER)
        self._fail_calls("initializer", payload=payload)

    def _results(self, event: ev.ResultsArrived) -> None:
        worker = self._known(event.worker)
        chunk = worker.chunks[0] if worker.chunks else None
        if chunk is None or chunk.id != event.chunk or chunk.next != event.first:
            raise InternalError(f"worker {worker.id} answered out of turn: {event}", self.story())
        if event.first + event.count > chunk.stop:
            raise InternalError(f"worker {worker.id} answered too much: {event}", self.story())
        chunk.reported += event.count
        worker.bloated |= event.bloated
        book = self._open(chunk.call)
        book.free_deaths = 0
        book.sizer.measured(event.count, event.elapsed, event.nbytes)
        # What was killed while it failed is not wanted again.
        again = event.retried and not worker.killed and self._run_again(book, event.first)
        if event.count and not again:
            self._deliver(book, chunk, event)
        if event.last:
            self._close_chunk(worker, book)
        if worker.chunks:
            self._start_clock(worker)
        if event.failed and not again:
            self._failed(book, event.failed[0])
        elif book.stop_at is not None:
            self._drop_unwanted(book)

    def _deliver(self, book: Call, chunk: Chunk, event: ev.ResultsArrived) -> None:
        if chunk.attempt > 1:
            book.attempts.pop(event.first, None)
        self.tally.items += event.count
        self._out.append(Deliver(book.id, event.first, event.count, event.payload, chunk.attempt))

    def _run_again(self, book: Call, index: int) -> bool:
        """Whether an item that raised what its call retries is run once more."""
        return book.wants(index) and self._count_attempt(book, index, retried=True)

    def _close_chunk(self, worker: Worker, book: Call) -> None:
        chunk = worker.chunks.popleft()
        book.requeue([Piece(chunk.next, chunk.stop, chunk.solo)])
        if worker.tasks_left is not None:
            worker.tasks_left += chunk.stop - chunk.next
        if worker.chunks:
            watch(worker, book, self._now)
            return
        book.workers.discard(worker.id)
        if worker.state is WorkerState.BUSY:
            self._staff.rest(worker, self._now)
            if worker.is_spent:
                self.tally.recycled += 1
                self._out += self._staff.retire(worker, self._now)

    def _worker_died(self, event: ev.WorkerDied) -> None:
        worker = self._known(event.worker)
        was_ready, told_to_go = worker.ready, worker.state is WorkerState.LEAVING
        worker.move(WorkerState.DEAD)
        del self.workers[worker.id]
        if not was_ready and not told_to_go:
            self._start_failed("died", event.exitcode)
        if worker.chunks:
            self._bury_chunks(worker, event)

    def _start_failed(self, reason: str, exitcode: int | None) -> None:
        self._failed_starts += 1
        if self._failed_starts >= START_BUDGET and not any(
            w.present for w in self.workers.values()
        ):
            self._failed_starts = 0
            self._fail_calls(reason, exitcode)

    def _deadline_passed(self) -> None:
        self._out += cut_overdue(self.workers.values(), self._now)
        self._touched |= self.rests.wake(self._now)
        self._look_at_clocks()
        for worker in self._staff.overdue(self._now):
            late = worker.state is WorkerState.STARTING
            self._out += self._staff.next_step(worker, self._now)
            if late:  # counted once it is leaving: while it was present there was still hope
                self._start_failed("timeout", None)

    def _shut_down(self, *, cancel: bool) -> None:
        self._closing = True
        if cancel:
            self._fail_calls("closed")
            return
        for book in self.calls.values():
            self._touched.add(book.id)
            if not book.input_ended:  # what was fed is finished; more cannot come, so it fails then
                book.input_ended = True
                book.failure = FailCall(book.id, "closed")

    # ------------------------------------------------------------------ who does what

    def _fill(self) -> None:
        """Give every free hand work, and call for more hands where that is not enough."""
        while (choice := next_assignment(self.calls, self.workers)) is not None:
            self._assign(*choice)
        present = sum(worker.present for worker in self.workers.values())
        if present == self._limit or (self._failed_starts and present):
            return  # no more may be, or starting fails just now: those that are there do the work
        for _ in range(present, workers_wanted(self.calls.values(), self.workers, self._limit)):
            worker = Worker(next(self._ids), self.story)
            self._out += self._staff.hire(worker, self._now)

    def _assign(self, book: Call, worker: Worker) -> None:
        piece = book.take(self._share(book), worker.tasks_left)
        size = piece.stop - piece.start
        marked = piece.solo or book.retry.is_strict or book.sizer.marks(size)
        attempt = book.attempts.get(piece.start, 0) + 1 if piece.solo else 1
        chunk = Chunk(
            next(self._ids), book.id, piece.start, piece.stop, marked, piece.solo, attempt
        )
        begins = worker.state is WorkerState.IDLE
        give(worker, book, chunk, self._now)
        if worker.tasks_left is not None:
            worker.tasks_left -= piece.stop - piece.start
        if begins and book.task_timeout is not None:
            worker.clock = ItemClock(book.task_timeout)
            self._start_clock(worker)
        book.turn = next(self._turns)
        self._out.append(
            Assign(
                worker.id,
                chunk.id,
                book.id,
                chunk.start,
                chunk.stop,
                marked,
                book.on_failure is not OnFailure.CONTINUE,
                attempt,
            )
        )

    def _share(self, book: Call) -> int:
        """How many workers this call may count on."""
        return max(1, min(book.cap, self._limit or book.cap))
