"""Which of several channels has something to receive."""

from __future__ import annotations

import select as system
import time

from parmap import _alarm
from parmap._channel.waiting import PARKED_AFTER, tell_parked

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._channel.core import Core

_LONGEST = 0.5  # see `waiting`
_POLLED = 0.05


def ready(cores: Sequence[Core], timeout: float | None) -> list[int]:
    """Return the places of those that are probably ready; empty when `timeout` has passed."""
    found = [place for place, core in enumerate(cores) if core.is_ready()]
    if found or not cores:
        return found
    deadline = None if timeout is None else time.monotonic() + timeout
    poller = system.poll()
    for fd in {*[core.fileno() for core in cores], *_alarm.descriptors()}:
        poller.register(fd, system.POLLIN)
    polled = any(core.polls_blindly for core in cores)
    turn = 0
    while True:
        found = [place for place, core in enumerate(cores) if core.is_ready()]
        left = None if deadline is None else deadline - time.monotonic()
        if found or (left is not None and left <= 0):
            return found
        _alarm.check()
        if left is None and turn == PARKED_AFTER:
            tell_parked([core.claim() for core in cores])
        turn += 1
        longest = _POLLED if polled else _LONGEST
        poller.poll(1000 * (longest if left is None else min(left, longest)))
