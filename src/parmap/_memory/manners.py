"""How those who wait for a mutex, and those who come back to it, treat each other.

The word WAITERS is a hint: a kill may falsify it, and what it says wrongly costs `MANNERS`.
"""

from __future__ import annotations

import time

from parmap._memory.semaphores import WAITERS

# In WAITERS: somebody sleeps until he is rung for; somebody has waited for long.
ASLEEP, HUNGRY = 1, 2

PATIENCE = 0.005  # who has waited for so long is hungry
MANNERS = 0.01  # for so long a hungry one is let go first
_GLANCE = 0.0001


def be_polite(shared: memoryview[int], deadline: float | None) -> None:
    """Let a hungry one go first, if he comes soon."""
    end = time.monotonic() + MANNERS
    if deadline is not None:
        end = min(end, deadline)
    while shared[WAITERS] == HUNGRY:
        if time.monotonic() >= end:
            shared[WAITERS] = ASLEEP  # who lives says it again
            return
        time.sleep(_GLANCE)
