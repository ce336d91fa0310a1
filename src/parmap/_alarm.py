"""What ends the waits of a thread: a failure in a worker group whose block that thread is in.

The block's own code is not interrupted.  But what it waits for (a channel, another worker, a map)
may never come once the group has failed, so whatever waits in that thread looks here: `check`
before it sleeps, and `descriptors` to sleep on beside its own, or short sleeps where it cannot.
"""

from __future__ import annotations

import os
from _thread import _local, allocate_lock

from parmap._memory.host import close_quietly, make_pipe

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_EVERY = 0.1  # seconds, where a thread waits on something that has no descriptor


class Alarm:
    """Rung once, by any thread; heard by the thread that is inside its ``with``."""

    __slots__ = ("_lock", "_pipe", "raise_failure", "rung")

    def __init__(self, raise_failure: Callable[[], object]) -> None:
        self.raise_failure = raise_failure
        self.rung = False
        self._pipe: tuple[int, int] | None = None
        self._lock = allocate_lock()

    def ring(self) -> None:
        """End what the thread waits for, now and from now on."""
        with self._lock:
            if not self.rung and self._pipe is not None:
                os.write(self._pipe[1], b"!")
            self.rung = True

    def fileno(self) -> int:
        """Readable once it has been rung."""
        with self._lock:
            if self._pipe is None:
                self._pipe = make_pipe()
                if self.rung:
                    os.write(self._pipe[1], b"!")
            return self._pipe[0]

    def close(self) -> None:
        """Nobody listens any more."""
        with self._lock:
            ends, self._pipe = self._pipe or (), None
        for fd in ends:
            close_quietly(fd)

    def __enter__(self) -> None:
        _entered.add(self)
        _this_thread.alarms = (*_this_thread.alarms, self)

    def __exit__(self, *exc_info: object) -> None:
        _this_thread.alarms = tuple([a for a in _this_thread.alarms if a is not self])
        _entered.discard(self)
        self.close()


class _Thread(_local):
    alarms: tuple[Alarm, ...] = ()  # of the blocks that it is in, the outermost first


_this_thread = _Thread()
_entered: set[Alarm] = set()


def listens() -> bool:
    """Whether this thread is in the block of any group."""
    return bool(_this_thread.alarms)


def hears(alarm: Alarm) -> bool:
    """Whether this thread is in the block of that group."""
    return alarm in _this_thread.alarms


def rings() -> bool:
    """Whether `check` would raise."""
    return any(alarm.rung for alarm in _this_thread.alarms)


def check() -> None:
    """Raise the failure of a group whose block this thread is in, if one has failed."""
    for alarm in _this_thread.alarms:
        if alarm.rung:
            alarm.raise_failure()


def descriptors() -> list[int]:
    """What becomes readable when `check` would raise.  Empty outside every block."""
    return [alarm.fileno() for alarm in _this_thread.alarms]


def _leave_to_parent() -> None:
    """In a forked child: the groups are the parent's, and so are their failures."""
    global _this_thread
    _this_thread = _Thread()
    for alarm in _entered:
        alarm._lock = allocate_lock()  # another thread may have held it
        alarm.close()
    _entered.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
