"""The errors whose bases are slow to import; :mod:`parmap.errors` looks them up at first use."""

from __future__ import annotations

import queue
from concurrent.futures import BrokenExecutor

from parmap._words import death_in_words, printable, signal_name
from parmap.errors import ChannelError, ParmapError


class WorkerLostError(ParmapError, BrokenExecutor):
    """Raised for an item whose worker process died while running it; other items go on.

    It is also a :class:`concurrent.futures.BrokenExecutor`, so that handlers written for
    ``ProcessPoolExecutor`` catch it.

    Attributes:
        index: the item's position in the input, or None.
        exitcode: what the process ended with, minus the signal's number if a signal ended it;
            None if nobody saw it.
        signal: the signal's name, such as ``"SIGKILL"``, or None.
        attempts: how many times the item was run.
        stack: the worker's last Python stack as text, where it could be had.
        peak_rss: the most memory it had used, in bytes, where it could be had.
        oom_kills: by how much the cgroup's count of out-of-memory kills rose meanwhile, where it
            could be read.

    Example:
        >>> error = WorkerLostError(index=3, exitcode=-9)
        >>> print(error)
        the worker running item 3 was killed by SIGKILL, probably out of memory
        >>> error.signal
        'SIGKILL'
    """

    __module__ = "parmap.errors"

    def __init__(
        self,
        message: str = "",
        *,
        index: int | None = None,
        exitcode: int | None = None,
        signal: str | None = None,
        attempts: int = 1,
        stack: str | None = None,
        peak_rss: int | None = None,
        oom_kills: int | None = None,
    ) -> None:
        super().__init__(message or _in_words(index, exitcode, attempts, oom_kills))
        self.index = index
        self.exitcode = exitcode
        self.signal: str | None = signal or signal_name(exitcode)
        self.attempts = attempts
        self.stack = stack
        self.peak_rss = peak_rss
        self.oom_kills = oom_kills

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nIts last Python stack:\n{printable(self.stack)}" if self.stack else text


def _in_words(index: int | None, exitcode: int | None, attempts: int, oom_kills: int | None) -> str:
    who = "a worker" if index is None else f"the worker running item {index}"
    tries = "" if attempts == 1 else f" (attempt {attempts})"
    return f"{who} {death_in_words(exitcode, oom_kills=oom_kills)}{tries}"


class ChannelFull(ChannelError, queue.Full):
    """Raised by ``try_send`` when the channel has no room; also a :class:`queue.Full`."""

    __module__ = "parmap.errors"


class ChannelEmpty(ChannelError, queue.Empty):
    """Raised by ``try_receive`` when nothing is waiting; also a :class:`queue.Empty`."""

    __module__ = "parmap.errors"
