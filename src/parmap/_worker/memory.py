"""How much memory this worker uses, if its pool sets a limit to that."""

from __future__ import annotations

import os
import sys

from parmap._memory import pages

# Bytes, as the parent has told at the start; None: any amount.
limit: int | None = None
# Whether it was more than that at the last look.
is_bloated = False


def look() -> bool:
    """Whether the worker has outgrown its limit and should be replaced.  Next to free without one."""
    global is_bloated
    if limit is not None:
        is_bloated = used() > limit
        if is_bloated and pages.tidy() is not None:
            pages.forget()  # kept only for speed
            is_bloated = used() > limit
    return is_bloated


def used() -> int:
    """Bytes of memory in use now; at most so far, where the system tells no more than that."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak()


def _peak() -> int:
    if sys.platform == "win32":
        return 0  # nothing in the standard library tells
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
