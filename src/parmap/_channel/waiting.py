"""Sleeping until a bell rings or the other side is gone.

On Linux one epoll per process and side: the bell wakes ONE of all sleepers in all processes
(EPOLLEXCLUSIVE), and the hang-up of the other side's presence, which is also there before anybody
ever came, is reported only when it happens (EPOLLET).  Elsewhere `poll`, bounded.

A thread inside the block of a worker group sleeps on that group's alarm, too.

No sleep is longer than `_LONGEST`.  A sleeper that was killed between being rung and taking the
message has taken the wake-up with it, and the message must not lie there until the next one.
"""

from __future__ import annotations

import os
import select
import sys

from parmap import _alarm
from parmap._memory.host import LINUX, portable_level, too_many

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._channel.bell import Bell
    from parmap._channel.presence import Presence

_FIRST, _LONGEST = 0.1, 0.5
POLLED = 0.05  # where the hang-up is not polled for
# Who has slept so often in one wait is parked: his group may want to know.
PARKED_AFTER = 2
_YIELDS = 20  # about 10 us: on a busy channel the other side is often just about to act

_yields = [os.sched_yield] * _YIELDS if hasattr(os, "sched_yield") else []


class Waiter:
    """What one process waits on for one direction of one channel.  Thread-safe."""

    __slots__ = ("_bell", "_epoll", "_presence", "asleep")

    def __init__(self, bell: Bell, presence: Presence) -> None:
        self._bell = bell
        self._presence = presence
        self._epoll: select.epoll | None = None
        self.asleep = 0  # threads of this process

    def prepare(self) -> None:
        """From here on nothing is missed: look once more before sleeping."""
        if self._epoll is None and portable_level() == LINUX:
            epoll = _new_epoll()
            epoll.register(self._bell.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
            epoll.register(self._presence.fileno(), select.EPOLLHUP | select.EPOLLET)
            epoll.poll(0)  # takes the hang-up that has been there all the time
            self._epoll = epoll

    def sleep(self, seconds: float | None, turn: int) -> bool:
        """Sleep until rung, at most `seconds`; `turn` counts the sleeps of one wait.

        Whether the other side has hung up meanwhile.  Raises what `_alarm.check` raises.
        """
        _alarm.check()
        alarms = _alarm.descriptors()
        longest = min(_FIRST * 2**turn, _LONGEST) if turn < 8 else _LONGEST
        if self._epoll is None:
            longest = min(longest, POLLED)
        if seconds is not None:
            longest = max(0.0, min(seconds, longest))
        if self._epoll is None:
            _poll(self._bell.fileno(), alarms, longest)
            return True
        self.asleep += 1
        try:
            if alarms:
                _poll(self._epoll.fileno(), alarms, longest)
                longest = 0.0
            events = self._epoll.poll(longest, 2)
        finally:
            self.asleep -= 1
        presence = self._presence.fileno()
        return any(fd == presence for fd, _ in events)

    def close(self) -> None:
        """Forget the epoll: in a forked child it would share the parent's events."""
        self.asleep = 0
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None


def _new_epoll() -> select.epoll:
    try:
        return select.epoll()
    except OSError as error:
        too_many(error)


def _poll(fd: int, alarms: list[int], seconds: float) -> None:
    """Sleep until one of the descriptors is readable."""
    poller = select.poll()
    for each in (fd, *alarms):
        poller.register(each, select.POLLIN)
    poller.poll(seconds * 1000)


def yields() -> list[Callable[[], None]]:
    """What to call, one after the other, before sleeping: each lets another process or thread run."""
    return _yields


def tell_parked(claims: list[tuple[int, int, int]]) -> None:
    """In a worker of a group: tell it what this thread has been waiting for, for long."""
    member = sys.modules.get("parmap._worker.member")
    if member is not None and member.current is not None:
        member.current.tell_parked(claims)


def watch(bell: Bell, presence: Presence) -> select.epoll | None:
    """Return what a program can poll for itself: readable when there is something to receive."""
    if portable_level() != LINUX:
        return None
    epoll = _new_epoll()
    epoll.register(bell.fileno(), select.EPOLLIN)
    epoll.register(presence.fileno(), select.EPOLLHUP | select.EPOLLET)
    epoll.poll(0)
    return epoll
