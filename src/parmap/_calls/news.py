"""What a driver tells the caller of a call."""

from __future__ import annotations

from queue import Empty
from typing import TYPE_CHECKING, Protocol, TypeVar

from parmap._memory.host import close_quietly
from parmap._wire import frames as fr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from queue import SimpleQueue

    from parmap._core.commands import SettleLost
    from parmap._wire.frames import Frame

T = TypeVar("T")


class Report:
    """Outcomes of the items `first .. first + count - 1`, still encoded."""

    __slots__ = ("attempt", "block", "count", "fds", "first", "pid", "segments", "worker")

    def __init__(self, frame: Frame, *, worker: str, pid: int) -> None:
        """Take a RESULTS frame over, its descriptors included."""
        self.first = frame.first
        self.count = frame.count
        self.segments = frame.segments
        self.block = bool(frame.flags & fr.FLAG_BLOCK)
        self.fds: Sequence[int] = frame.fds
        self.worker = worker
        self.pid = pid
        self.attempt = 1  # how often these items have been run

    def take_fds(self) -> Sequence[int]:
        """The descriptors, which are the taker's from now on."""
        fds, self.fds = self.fds, ()
        return fds

    def __del__(self) -> None:
        for fd in self.fds:  # nobody wanted the results
            close_quietly(fd)


class Lost:
    """The item's worker died while it ran it, or the item was ended between two attempts."""

    __slots__ = ("attempts", "dead", "exitcode", "index", "why")

    def __init__(self, command: SettleLost, dead: Dead | None) -> None:
        self.index = command.index
        self.exitcode = command.exitcode
        self.attempts = command.attempts
        self.why = command.why
        self.dead = dead


class Dead(Protocol):
    """What is known of a dead worker."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def stack(self) -> str | None: ...
    @property
    def peak_rss(self) -> int | None: ...
    @property
    def oom_kills(self) -> int | None: ...


class Ended:
    """Nothing of the call runs any more.  `error` is set if the engine could not serve it."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def next_in(mailbox: SimpleQueue[T], timeout: float | None) -> T | None:
    """The next thing in a mailbox; None if there is none within `timeout` seconds."""
    try:
        if timeout is not None and timeout <= 0:
            return mailbox.get_nowait()
        return mailbox.get(timeout=timeout)
    except Empty:
        return None
