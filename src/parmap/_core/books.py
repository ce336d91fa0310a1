"""The books of the scheduler, the ways to look things up in them, and how calls come to their ends."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from parmap._core.chunking import Costs
from parmap._core.commands import Command, DropChunks, FailCall, FinishCall
from parmap._core.events import OnFailure
from parmap._core.retry import Rests
from parmap._core.states import WorkerState
from parmap._core.workers import Staff, Step, Worker
from parmap.errors import InternalError

if TYPE_CHECKING:
    from parmap._core.calls import Call

# A call that is over leaves its running items this long to end by themselves (API.md, section 1).
GRACE = 0.1


@dataclass(slots=True)
class Tally:
    """What has happened so far, in numbers."""

    items: int = 0  # outcomes that were given to callers, lost ones included
    lost: int = 0  # runs that cost their worker
    late: int = 0  # runs that were ended because they took too long
    retried: int = 0  # runs that were not the last of their item
    recycled: int = 0  # workers that were replaced because of their age or size


class Books:
    """The one owner of all state: calls, chunks, workers."""

    def __init__(
        self,
        *,
        limit: int | None = None,
        idle_timeout: float | None = None,
        max_tasks: int | None = None,
    ) -> None:
        """At most `limit` workers (None: the largest cap among the open calls); a worker that has
        been idle for `idle_timeout` seconds, or has run `max_tasks` items, is retired (None: never).
        """
        # Ordered by links: the first of a plain dict is found by walking over all that went before.
        self.calls: OrderedDict[int, Call] = OrderedDict()
        self.rests = Rests(self.calls)
        self.tally = Tally()
        self._staff = Staff(idle_timeout, max_tasks)
        self.workers = self._staff.members
        self._limit = limit
        self._closing = False
        self._failed_starts = 0
        self._ids = count(1)
        self._turns = count(1)
        self._costs = Costs()
        self._story: deque[tuple[float, object]] = deque(maxlen=40)
        self._touched: set[int] = set()  # calls that this event may have finished
        self._out: list[Command] = []
        self._now = 0.0

    def story(self) -> tuple[str, ...]:
        """The last events, oldest first: what an `InternalError` carries."""
        return tuple(f"{at:.3f} {event}" for at, event in self._story)

    @property
    def over(self) -> bool:
        """Shut down: no call is open and no worker is left."""
        return self._closing and not self.calls and not self.workers

    def _open(self, call: int) -> Call:
        book = self.calls[call]  # nobody holds a chunk of a call that is over: see `trace.check`
        self._touched.add(call)
        return book

    def _known(self, worker: int) -> Worker:
        book = self.workers.get(worker)
        if book is None:
            raise InternalError(f"worker {worker} is not known", self.story())
        return book

    # ------------------------------------------------------------------ how calls end

    def _failed(self, book: Call, index: int) -> None:
        """An item of this call has failed: stop as far as the call wishes."""
        if book.on_failure is OnFailure.CONTINUE:
            return
        book.stop(index if book.on_failure is OnFailure.FINISH_EARLIER else 0)
        self._drop_unwanted(book)

    def _drop_unwanted(self, book: Call, *, kill_after: float | None = None) -> None:
        """Make the workers give back what this call no longer wants; be patient, but not for ever."""
        for worker_id in sorted(book.workers):
            worker = self.workers[worker_id]
            if kill_after is not None and worker.state is WorkerState.LEAVING:
                worker.hurry(self._now + kill_after)
            if worker.state is not WorkerState.BUSY or book.wants(worker.chunks[0].next):
                continue
            if worker.step is Step.TERMINATE and kill_after is None:
                continue  # it has been told before
            self._out.append(DropChunks(worker_id, worker.chunks[-1].id))
            if kill_after is None:
                worker.expect(Step.TERMINATE, self._now + GRACE)
            else:
                self._out += self._staff.terminate(worker, self._now, kill_after)

    def _finish_calls(self) -> None:
        for number in sorted(self._touched):
            book = self.calls.get(number)
            if book is not None and book.finished:
                del self.calls[number]
                self._costs.remember(book.name, book.sizer.cost)
                self._out.append(book.failure or FinishCall(number))
        self._touched.clear()
        if self._closing and not self.calls:
            self._out += self._staff.stop_all(self._now)

    def _fail_calls(self, reason: str, exitcode: int | None = None, payload: object = None) -> None:
        """The engine cannot serve: every open call ends with this, once nothing of it runs."""
        for book in self.calls.values():
            self._touched.add(book.id)
            if book.failure is None or book.stop_at is None:  # else it is ending: why, is known
                book.failure = FailCall(book.id, reason, exitcode, payload)
            book.stop(0)
            self._drop_unwanted(book)
