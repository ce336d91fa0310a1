"""Waiting awake for the next frame, while frames come in a row.

A CPU with nothing to do goes to sleep, and in a virtual machine takes 50 us to wake: as long as all
else that a small task costs.  So a worker that was kept waiting for a moment only looks again and
again for that long before it sleeps, and gives its CPU away between two looks to whoever can use it.
One wait that is longer ends the row: a worker that nobody needs sleeps, and one that is needed now and
then looks in vain once per row.
"""

from __future__ import annotations

import select
from time import perf_counter

from parmap._memory.host import give_way

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.fdpass import Link

# A caller takes no longer from one result to its next task, and is woken itself meanwhile; seconds.
MOMENT = 0.0003
# What was there within this had been sent ahead: no row, in which each frame answers the one before.
AT_ONCE = 0.000015


class Eager:
    """The waits of one link, one after the other: `begin`, wait, `end`."""

    __slots__ = ("_began", "_in_row", "_looks")

    def __init__(self, link: Link) -> None:
        self._in_row = False
        self._began = 0.0
        self._looks = select.poll() if hasattr(select, "poll") else None
        if self._looks is not None:
            self._looks.register(link.fileno(), select.POLLIN)

    def begin(self) -> None:
        """In a row: look for a moment whether something comes, and else sleep."""
        self._began = perf_counter()
        if not self._in_row or self._looks is None:
            return
        look, end = self._looks.poll, self._began + MOMENT
        while not look(0) and perf_counter() < end:
            give_way()

    def end(self) -> None:
        """Something has come."""
        self._in_row = AT_ONCE < perf_counter() - self._began < MOMENT
