"""Who is left: a pipe whose writing ends are the ends of one side of a channel.

Nothing is ever written.  The kernel knows whether a writing end is open in any process, or on its
way in a message, and tells those who poll the reading end when the last one closes, however it
closes.  The reading end is neutral: everybody has it, and it counts for nobody.

A writing end is made from the reading end through ``/proc``.  Where there is none the pipe has a
name, in this user's private folder of lock files, which is swept there when nobody uses it.
"""

from __future__ import annotations

import os
import select

from parmap._memory.host import LINUX, close_quietly, lift, portable_level, too_many
from parmap._memory.transit import export_fd, import_fd

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._memory.transit import Ticket


class Presence:
    """The neutral handle of one side."""

    __slots__ = ("_fd", "_poller")

    def __init__(self, fd: int) -> None:
        """Take over a reading end."""
        self._fd = fd
        self._poller = select.poll()
        self._poller.register(fd, 0)  # only what cannot be left out: the hang-up

    @classmethod
    def create(cls) -> Presence:
        """Return that of a side with nobody on it."""
        if portable_level() != LINUX:
            from parmap._channel.portable import NamedPresence

            return NamedPresence.create()
        try:
            read_end, write_end = os.pipe()
        except OSError as error:
            too_many(error)
        os.close(write_end)
        return cls(lift(read_end))

    def fileno(self) -> int:
        """Polled, it reports a hang-up while nobody is present."""
        return self._fd

    def anyone(self) -> bool:
        """Whether an end is open, or on its way."""
        try:
            return not self._poller.poll(0)
        except RuntimeError:  # another thread is in it
            poller = select.poll()
            poller.register(self._fd, 0)
            return not poller.poll(0)

    def join(self) -> int:
        """Return a new writing end: an end that is present until it is closed."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return lift(os.open(f"/proc/self/fd/{self._fd}", flags))
        except OSError as error:
            too_many(error)

    def ticket(self) -> Ticket:
        """Pickle it: see `transit`."""
        return export_fd(self._fd, "Channel")

    @staticmethod
    def arrive(ticket: Any) -> Presence:
        """Redeem what `ticket` gave."""
        if isinstance(ticket, tuple):
            from parmap._channel.portable import arrive

            return arrive(ticket)
        return Presence(import_fd(ticket))

    def __del__(self) -> None:
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            close_quietly(fd)
