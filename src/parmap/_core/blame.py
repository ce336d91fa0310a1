"""Whom a dead worker accuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap._core.events import UNKNOWN

if TYPE_CHECKING:
    from parmap._core.calls import Call
    from parmap._core.workers import Worker

# Workers may die in a row through nobody's fault (somebody kills idle workers); if a call gets
# nowhere by it, what it sends them is the likely reason (a function that crashes on arrival).
FREE_DEATHS = 4


def guilty_item(call: Call, worker: Worker, running: int) -> int | None:
    """The index of the item that the dead worker was running, if one can be charged.

    `running` is what the worker's control page said.  None: nobody is charged; what the chunk had
    not reported waits again (item by item, if one of them is suspected).
    """
    chunk = worker.chunks[0]
    if chunk.next == chunk.stop:
        return None  # every outcome is there; only the chunk's end was still to come
    if chunk.next <= running < chunk.stop:
        return running
    if running == UNKNOWN:
        # One item alone needs no proof.  Several go alone from now on, and that finds the one.
        return chunk.next if chunk.stop - chunk.next == 1 else None
    if worker.id < call.opened:
        return None  # warm workers leave when they are stale, all of them perhaps; they are finite
    call.free_deaths += 1
    return chunk.next if call.free_deaths > max(FREE_DEATHS, 2 * call.cap) else None
