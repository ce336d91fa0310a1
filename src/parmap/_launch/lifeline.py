"""How a worker learns that its parent is dead, also while it runs in C and reads nothing.

One pipe for each process that has workers.  The parent alone holds the writing end; the kernel
closes it when the parent dies, however it dies.  A worker asks the kernel to be killed by that
(`parmap._worker.hygiene`).  A child that the parent forks must not hold it open: hence the hook.
"""

from __future__ import annotations

import os
import threading

from parmap._memory.host import close_quietly, duplicate, lift

_lock = threading.Lock()
_ends: tuple[int, int] | None = None


def for_worker() -> int:
    """A descriptor for one worker to inherit; the caller closes it."""
    global _ends
    with _lock:
        if _ends is None:
            readable, writable = os.pipe()
            _ends = lift(readable), lift(writable)
        return duplicate(_ends[0])


def _forget() -> None:
    """In a forked child: this is the parent's lifeline, and the child must not keep it alive."""
    global _ends, _lock
    ends, _ends = _ends, None
    _lock = threading.Lock()  # another thread may have held it at the fork
    for fd in ends or ():
        close_quietly(fd)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
