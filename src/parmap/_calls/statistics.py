"""What a pool has done and is doing, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


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
