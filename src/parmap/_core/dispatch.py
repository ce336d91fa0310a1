"""Who does what: which call gets the next free hand, and how many hands are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap._core.cutting import wait_for, watch
from parmap._core.states import WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from parmap._core.calls import Call
    from parmap._core.workers import Chunk, Worker


def next_assignment(
    calls: Mapping[int, Call], workers: Mapping[int, Worker]
) -> tuple[Call, Worker] | None:
    """The next chunk's call and worker, or None while nobody can be given anything.

    The call with the fewest workers comes first, then the one that was served longest ago; an idle
    worker is better than a second chunk at a busy one.  Costs next to nothing while nobody is free,
    however many calls wait.
    """
    idle = next((w for w in workers.values() if w.state is WorkerState.IDLE), None)
    if len(calls) == 1:  # nearly always: there is nobody to be fair to
        (only,) = calls.values()
        if not only.waiting:
            return None
        worker = idle if len(only.workers) < only.cap else None
        worker = worker or _with_room(only, workers)
        return None if worker is None else (only, worker)
    if idle is not None:
        call = _neediest(call for call in calls.values() if len(call.workers) < call.cap)
        if call is not None:
            return call, idle
    serving = {w.chunks[0].call for w in workers.values() if w.chunks}
    hungry = [calls[number] for number in serving if calls[number].waiting]
    for call in sorted(hungry, key=_need):
        worker = _with_room(call, workers)
        if worker is not None and not _others_deserve(call, calls.values()):
            return call, worker
    return None


def give(worker: Worker, call: Call, chunk: Chunk, now: float) -> None:
    """Note that the worker holds this chunk, behind what it may hold already."""
    worker.chunks.append(chunk)
    if len(worker.chunks) == 1 or worker.overdue_at is None:
        watch(worker, call, now)
    else:
        wait_for(worker, call, chunk)
    if worker.state is WorkerState.IDLE:
        worker.move(WorkerState.BUSY)
        worker.expect(None, None)
    call.workers.add(worker.id)


def _need(call: Call) -> tuple[int, int]:
    return len(call.workers), call.turn


def _neediest(calls: Iterable[Call]) -> Call | None:
    """The waiting call to be served first; nothing comes before one that never was."""
    best: Call | None = None
    for call in calls:
        if not call.waiting:
            continue
        if not call.turn and not call.workers:
            return call
        if best is None or _need(call) < _need(best):
            best = call
    return best


def workers_wanted(calls: Iterable[Call], workers: Mapping[int, Worker], limit: int | None) -> int:
    """As many workers as the open calls can use, within the limit; never one that none needs.

    Without a limit it is the largest cap in use, never the sum of them.
    """
    demand, largest = 0, 0
    for call in calls:
        # Who leaves serves nobody: what it still holds needs no successor unless something waits.
        serving = sum(workers[worker].present for worker in call.workers)
        demand += call.demand(serving)
        largest = max(largest, call.cap)
        if limit is not None and demand >= limit:
            return limit
    return min(demand, limit or largest)


def _others_deserve(call: Call, calls: Iterable[Call]) -> bool:
    """Whether another call has fewer workers: then this one's workers must come free between two
    chunks, or a second chunk that always waits there would starve the other call for ever.
    """
    return any(
        other.waiting and len(other.workers) < min(other.cap, len(call.workers))
        for other in calls
        if other is not call
    )


def _with_room(call: Call, workers: Mapping[int, Worker]) -> Worker | None:
    """A worker of this call that may have a second chunk waiting while it runs the first."""
    if not call.sizer.prefetches(call.waiting, len(call.workers)) or call.pieces[0].solo:
        return None
    for worker_id in call.workers:
        worker = workers[worker_id]
        spare = len(worker.chunks) == 1 and worker.tasks_left != 0
        if worker.state is WorkerState.BUSY and worker.step is None and spare:
            first = worker.chunks[0]
            # What waits behind a later item would go with it when that is no longer wanted.
            in_order = first.start < call.pieces[0].start
            is_cut = first.id <= worker.cut_to  # it is known to be dear
            if in_order and not first.solo and not is_cut and call.wants(first.next):
                return worker
    return None
