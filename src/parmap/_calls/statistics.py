"""What a pool has done and is doing, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parmap._core.states import WorkerState

if TYPE_CHECKING:
    from parmap._core.scheduler import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """What a pool has, and what it has done so far: `Pool.statistics`.

    Attributes:
        workers: processes that are there, those included that start or leave.
        busy, idle: of these, those that have work, and those that wait for it.
        calls: calls in progress; each submitted task is one.
        waiting: items of them that no worker has, those included that rest before a retry.
        running: items that are at a worker.
        done: items that have an outcome, failures included.
        lost: runs that cost their worker.
        timed_out: runs that were ended because of `task_timeout`.
        retried: runs that were followed by another one of the same item.
        recycled: workers that were replaced because of their age or size.
        started: workers that were started.
    """

    workers: int
    busy: int
    idle: int
    calls: int
    waiting: int
    running: int
    done: int
    lost: int
    timed_out: int
    retried: int
    recycled: int
    started: int

    def in_words(self) -> str:
        """For the repr of a pool."""
        return (
            f"{self.workers} workers ({self.busy} busy, {self.idle} idle) | {self.calls} calls:"
            f" {self.waiting} items wait, {self.running} run, {self.done} are done"
        )


def statistics_of(core: Scheduler, started: int, away: int) -> PoolStatistics:
    """The numbers of a core that has started so many workers.  It may go on meanwhile.

    `away`: so many tasks are at workers, but not in its books.
    """
    # One C call each, so that nothing changes within a copy.
    workers, calls = list(core.workers.values()), list(core.calls.values())
    states = [worker.state for worker in workers]
    chunks = [chunk for worker in workers for chunk in list(worker.chunks)]
    tally = core.tally
    return PoolStatistics(
        workers=len(workers),
        busy=states.count(WorkerState.BUSY) + away,
        idle=max(0, states.count(WorkerState.IDLE) - away),
        calls=len(calls) + away,
        waiting=sum(call.waiting + len(call.resting) for call in calls),
        running=sum(chunk.stop - chunk.next for chunk in chunks) + away,
        done=tally.items,
        lost=tally.lost,
        timed_out=tally.late,
        retried=tally.retried,
        recycled=tally.recycled,
        started=started,
    )
