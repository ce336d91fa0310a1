"""The states of a worker and its legal moves, as a table.

The table is the documentation: the docs draw their diagram from it, and an illegal move is an
`InternalError` that carries the story of the last events.
"""

from __future__ import annotations

from enum import Enum


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"  # asked for, not yet ready
    IDLE = "idle"  # ready, holds nothing
    BUSY = "busy"  # holds one or two chunks, all of one call
    LEAVING = "leaving"  # told to go; its last words still count
    DEAD = "dead"  # gone, and buried


ALLOWED: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.IDLE, WorkerState.LEAVING, WorkerState.DEAD}),
    WorkerState.IDLE: frozenset({WorkerState.BUSY, WorkerState.LEAVING, WorkerState.DEAD}),
    WorkerState.BUSY: frozenset({WorkerState.IDLE, WorkerState.LEAVING, WorkerState.DEAD}),
    WorkerState.LEAVING: frozenset({WorkerState.DEAD}),
    WorkerState.DEAD: frozenset(),
}
