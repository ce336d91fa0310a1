"""The books of one worker: what it holds, and how long it may take over what it was told."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from parmap._core.commands import (
    Command,
    KillWorker,
    StartWorker,
    StopWorker,
    TerminateWorker,
)
from parmap._core.states import ALLOWED, WorkerState
from parmap.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._core.deadlines import ItemClock

# SIGTERM lets `finally` blocks run for this long, then comes SIGKILL (API.md, section 1).
KILL_AFTER = 1.0
# Importing a large `sitecustomize` on a loaded machine takes seconds, never minutes.
START_TIMEOUT = 120.0


@dataclass(slots=True)
class Chunk:
    """Items of one call at one worker; `reported` of them have an outcome."""

    id: int
    call: int
    start: int
    stop: int
    marked: bool
    solo: bool
    attempt: int = 1
    reported: int = 0

    @property
    def next(self) -> int:
        """The index of the first item without an outcome."""
        return self.start + self.reported


class Step(Enum):
    """What is done to a worker whose deadline passes."""

    RETIRE = "retire"  # it has been idle for long
    TERMINATE = "terminate"  # it runs on in a call that is over
    KILL = "kill"  # it did not come up, or did not go when told to


@dataclass(slots=True)
class Worker:
    """One worker.  Owned by the scheduler."""

    id: int
    story: Callable[[], tuple[str, ...]]
    state: WorkerState = WorkerState.STARTING
    chunks: deque[Chunk] = field(default_factory=deque)
    ready: bool = False  # it has been ready once: its death is no failed start
    deadline: float | None = None
    step: Step | None = None
    tasks_left: int | None = None  # how many items it may still be given; None: any number
    bloated: bool = False  # it has outgrown the memory it may have
    clock: ItemClock | None = None  # of what it runs, if its call limits that
    late: int | None = None  # the item that it was ended for (UNKNOWN: one of its chunk's)
    killed: bool = False  # the owner of what it runs has ended it
    overdue_at: float | None = None  # when its first chunk is cut short
    cut_to: int = 0  # chunks up to this number have been

    def move(self, to: WorkerState) -> None:
        """Change the state; an illegal move is our own bug and says how it came about."""
        if to not in ALLOWED[self.state]:
            raise InternalError(
                f"worker {self.id} cannot go from {self.state.value} to {to.value}", self.story()
            )
        self.state = to

    def expect(self, step: Step | None, at: float | None) -> None:
        """From `at` on, `step` is due (None: nothing is)."""
        self.step, self.deadline = step, at

    def hurry(self, at: float) -> None:
        """What is due later than `at` is due then."""
        if self.deadline is not None:
            self.deadline = min(self.deadline, at)

    @property
    def is_timed(self) -> bool:
        """Whether it runs something that is wanted and may not take for ever."""
        return self.clock is not None and self.state is WorkerState.BUSY and self.step is None

    @property
    def is_spent(self) -> bool:
        """Whether it is to be replaced, once it holds nothing."""
        return self.bloated or self.tasks_left == 0

    @property
    def present(self) -> bool:
        """Whether it serves, or soon will."""
        return self.state not in (WorkerState.LEAVING, WorkerState.DEAD)


class Staff:
    """The workers, and the steps by which one is asked, told, and at last forced to go."""

    __slots__ = ("_idle_timeout", "_max_tasks", "members")

    def __init__(self, idle_timeout: float | None, max_tasks: int | None = None) -> None:
        self.members: dict[int, Worker] = {}
        self._idle_timeout = idle_timeout
        self._max_tasks = max_tasks

    def hire(self, worker: Worker, now: float) -> list[Command]:
        """Start a worker; one that does not come up in time is killed."""
        self.members[worker.id] = worker
        worker.tasks_left = self._max_tasks
        worker.expect(Step.KILL, now + START_TIMEOUT)
        return [StartWorker(worker.id)]

    def rest(self, worker: Worker, now: float) -> None:
        """It holds nothing now; if that stays so, it is retired."""
        worker.overdue_at = None
        worker.move(WorkerState.IDLE)
        worker.clock = None
        if self._idle_timeout is None:
            worker.expect(None, None)
        else:
            worker.expect(Step.RETIRE, now + self._idle_timeout)

    def fresh(self, now: float) -> Worker | None:
        """One that is idle, and whose rest begins anew."""
        for worker in self.members.values():
            if worker.state is WorkerState.IDLE and worker.tasks_left is None:
                if self._idle_timeout is not None:
                    worker.expect(Step.RETIRE, now + self._idle_timeout)
                return worker
        return None

    def leave(self, worker: Worker, step: Step, at: float | None) -> None:
        """It has been told to go; `step` follows at that instant if it has not gone."""
        if worker.state is not WorkerState.LEAVING:
            worker.move(WorkerState.LEAVING)
        worker.expect(step, at)

    def terminate(self, worker: Worker, now: float, kill_after: float) -> list[Command]:
        """Interrupt what it runs, then kill it."""
        self.leave(worker, Step.KILL, now + kill_after)
        return [TerminateWorker(worker.id)]

    def next_step(self, worker: Worker, now: float) -> list[Command]:
        """What its deadline, which has passed, was set for."""
        match worker.step:
            case Step.RETIRE:
                return self.retire(worker, now)
            case Step.TERMINATE:
                return self.terminate(worker, now, KILL_AFTER)
            case _:
                self.leave(worker, Step.KILL, None)
                return [KillWorker(worker.id, family=worker.late is not None)]

    def retire(self, worker: Worker, now: float) -> list[Command]:
        """Ask one that holds nothing to leave."""
        self.leave(worker, Step.TERMINATE, now + KILL_AFTER)
        return [StopWorker(worker.id)]

    def stop_all(self, now: float) -> list[Command]:
        """Ask everybody who is still here to leave."""
        present = [worker for worker in self.members.values() if worker.present]
        return [command for worker in present for command in self.retire(worker, now)]

    def overdue(self, now: float) -> list[Worker]:
        """Those whose deadline has passed."""
        return [w for w in self.members.values() if w.deadline is not None and w.deadline <= now]

    def unheard(self, now: float) -> list[Worker]:
        """Those that run something for so long that it is time to look what it is."""
        return [w for w in self.members.values() if w.is_timed and w.clock.look_at <= now]  # type: ignore[union-attr]

    def next_deadline(self) -> float | None:
        """The earliest deadline, or None."""
        earliest = None
        for worker in self.members.values():
            due = worker.deadline
            if worker.clock is not None and worker.is_timed:
                due = worker.clock.look_at
            for at in (due, worker.overdue_at):
                if at is not None and (earliest is None or at < earliest):
                    earliest = at
        return earliest
