"""Short words for tests that tell the scheduler events and look at its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap._core import events as ev
from parmap._core.commands import Assign, Command, StartWorker
from parmap._core.events import OnFailure
from parmap._core.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

CHEAP = 1e-6  # seconds per item: far below what marking costs
DEAR = 1.0


class Desk:
    """A scheduler, a clock, and the workers that have been asked for and not yet come."""

    def __init__(self, *, limit: int | None = None, idle_timeout: float | None = None) -> None:
        self.scheduler = Scheduler(limit=limit, idle_timeout=idle_timeout)
        self.now = 0.0
        self.asked: list[int] = []

    def tell(self, *events: ev.Event) -> list[Command]:
        commands: list[Command] = []
        for event in events:
            commands += self.scheduler.handle(event, now=self.now)
        self.asked += [command.worker for command in commands if isinstance(command, StartWorker)]
        return commands

    def open(
        self,
        call: int,
        items: int,
        *,
        cap: int = 1,
        chunksize: int | None = 1,
        on_failure: OnFailure = OnFailure.CONTINUE,
        ended: bool = True,
    ) -> list[Command]:
        commands = self.tell(
            ev.CallOpened(call, cap, chunksize, on_failure), ev.ItemsAdded(call, items)
        )
        return commands + (self.tell(ev.InputEnded(call)) if ended else [])

    def come(self) -> list[Assign]:
        """Everybody who was asked for gets ready; their first chunks."""
        commands: list[Command] = []
        while self.asked:
            worker = self.asked.pop(0)
            commands += self.tell(ev.WorkerUp(worker), ev.WorkerReady(worker))
        return orders(commands)

    def later(self, seconds: float) -> list[Command]:
        """Time passes; what is due is told."""
        self.now += seconds
        deadline = self.scheduler.next_deadline()
        if deadline is None or deadline > self.now:
            return []
        return self.tell(ev.DeadlinePassed())

    def done(self, order: Assign, *, seconds: float = 0.0) -> list[Command]:
        """The worker reports the whole chunk."""
        return self.tell(results(order, order.stop - order.start, last=True, seconds=seconds))

    def dies(self, worker: int, running: int = ev.IDLE) -> list[Command]:
        return self.tell(ev.WorkerDied(worker, -9, running, "who"))


def results(
    order: Assign,
    count: int,
    *,
    skip: int = 0,
    failed: tuple[int, ...] = (),
    last: bool = False,
    seconds: float = 0.0,
) -> ev.ResultsArrived:
    """A report on `count` items of a chunk, behind the first `skip`."""
    return ev.ResultsArrived(
        order.worker,
        order.chunk,
        order.start + skip,
        count,
        failed,
        last=last,
        elapsed=seconds,
        payload="payload",
    )


def orders(commands: Sequence[Command]) -> list[Assign]:
    return [command for command in commands if isinstance(command, Assign)]


def spans(commands: Sequence[Command]) -> list[tuple[int, int, int]]:
    """Worker, start and stop of each chunk that is sent."""
    return [(order.worker, order.start, order.stop) for order in orders(commands)]
