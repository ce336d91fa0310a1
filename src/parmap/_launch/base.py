"""What every way to start a worker gives."""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol

from parmap._launch.watch import DeathWatch
from parmap._memory.fdpass import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._memory.segment import Segment


class Ending(NamedTuple):
    """How a process ended.  None: nobody knows."""

    exitcode: int | None  # negative for a signal
    peak_rss: int | None = None  # bytes


class Child:
    """A started process: its death can be waited for, and no stranger is ever signalled in its place.

    Not thread-safe: the driver that started it owns it.
    """

    __slots__ = ("_exitcode", "_gone", "_reap", "_watch", "peak_rss", "pid")

    def __init__(
        self,
        pid: int,
        reap: Callable[[], Ending],
        wait: Callable[[], object],
        *,
        pidfd: int | None = None,
    ) -> None:
        """`reap` tells how it ended once it has and never waits; `wait` blocks until the process is
        dead and leaves its exit code in place (used where there is no pidfd).

        `pidfd` is for who has one already, which it takes over."""
        self.pid = pid
        self._reap = reap
        self._watch = DeathWatch(pid, wait, pidfd)
        self._exitcode: int | None = None
        self.peak_rss: int | None = None  # bytes, once it is buried, where that is known
        self._gone = False

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process is dead."""
        return self._watch.fileno()

    def bury(self) -> int | None:
        """Collect the exit code of the dead process: negative for a signal, None if somebody else
        (a SIGCHLD handler that reaps every child) has taken it."""
        if not self._gone:
            self._exitcode, self.peak_rss = self._reap()
            self._gone = True
            self._watch.close()
        return self._exitcode

    def send_signal(self, number: int) -> None:
        """Signal the process, unless it is dead."""
        if not self._gone:
            self._watch.send_signal(number)


class Launcher(Protocol):
    """A way to start workers."""

    start_method: str

    def start(self, name: str, control: Segment) -> tuple[Child, Link]:
        """Start a worker process; its end of the link is its own.

        Raises OSError when the system refuses.
        """
        ...

    def end(self) -> None:
        """All that it has started is dead, and it will start nothing more."""
        ...


# The parent's ends of all links.  A child that the parent forks, by whatever library, must not keep
# them: its copies would hide the parent's death from the workers, and ours from the kernel.
_parents_ends: weakref.WeakSet[Link] = weakref.WeakSet()


def pair_for_worker() -> tuple[Link, Link]:
    """The parent's end (non-blocking, never inherited by a forked child) and the worker's."""
    ours, theirs = Link.pair()
    ours.setblocking(False)
    keep_from_forks(ours)
    return ours, theirs


def keep_from_forks(link: Link) -> None:
    """Have the copy closed in a child that this process forks."""
    _parents_ends.add(link)


def _close_parents_ends() -> None:
    for link in list(_parents_ends):
        link.close()
    _parents_ends.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_parents_ends)


def reap_child(pid: int) -> Ending:
    """How a dead child of this process ended; unknown if somebody else has reaped it."""
    try:
        found, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return Ending(None)
    if not found:
        return Ending(None)
    unit = 1 if sys.platform == "darwin" else 1024
    return Ending(os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit)
