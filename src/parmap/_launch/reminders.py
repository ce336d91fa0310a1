"""Signals that are sent once more, because one that comes a moment too early is heard too late.

Python notes a signal and runs its handler at the next instruction.  One that comes between the last
look and a system call that waits (`sleep`, a lock, a pipe) does not end that wait, and so is heard when
the wait is over, an hour later perhaps.  A second one ends it.  It need not be the same one: whatever
ends the wait lets Python run all handlers that are due.
"""

from __future__ import annotations

import heapq
import signal
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from parmap._launch.peer import Peer

# Wakes a worker that was sent SIGTERM.  Its handler of this one does nothing, while the task may have
# put one of its own in the place of that of SIGTERM, which must not run twice.
WAKING: int | None = signal.SIGINT if hasattr(signal, "pthread_sigmask") else None

_FIRST_AFTER = 0.05
_LAST_AFTER = 1.0  # each after twice the time of the one before


class Reminders:
    """What is to be sent again, and when."""

    __slots__ = ("_due", "_made")

    def __init__(self) -> None:
        self._due: list[tuple[float, int, float, Peer, int]] = []
        self._made = 0  # breaks ties

    def add(self, peer: Peer, number: int | None, after: float = _FIRST_AFTER) -> None:
        """Send this signal `after` so many seconds; None: this system has none that would help."""
        if number is not None and after <= _LAST_AFTER:
            self._made += 1
            heapq.heappush(self._due, (monotonic() + after, self._made, after, peer, number))

    def send_due(self, members: Container[int]) -> float | None:
        """Send what is due to those who are still there; the seconds until the next, if any."""
        while self._due:
            at, _, after, peer, number = self._due[0]
            left = at - monotonic()
            if left > 0:
                return left
            heapq.heappop(self._due)
            if peer.number in members:
                peer.send_signal(number)
                self.add(peer, number, 2 * after)
        return None
