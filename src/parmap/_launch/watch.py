"""How the parent learns that a worker is dead.

The end of the socket is no proof: a grandchild may hold a copy of it.  Linux has the pidfd, which
also makes signals safe (a number is given away again once its process is reaped, a pidfd is not).
Elsewhere a thread waits for the process and writes a byte.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from parmap._memory.host import LINUX, close_quietly, lift, portable_level

if TYPE_CHECKING:
    from collections.abc import Callable


class WatchThread(threading.Thread):
    """Waits for a process, and does nothing else: none of the program's own."""


class DeathWatch:
    """Readable (`fileno`) once the process is dead."""

    __slots__ = ("_fd", "_is_pidfd", "_pid")

    def __init__(self, pid: int, wait: Callable[[], object], pidfd: int | None = None) -> None:
        self._pid = pid
        self._is_pidfd = pidfd is not None or has_pidfds()
        if self._is_pidfd:
            self._fd = lift(os.pidfd_open(pid)) if pidfd is None else pidfd
        else:
            self._fd = _watch_by_thread(pid, wait)

    def fileno(self) -> int:
        return self._fd

    def send_signal(self, number: int) -> None:
        """Signal the process, if it still runs."""
        try:
            if self._is_pidfd:
                signal.pidfd_send_signal(self._fd, number)
            else:
                # The exit code is collected only after this descriptor is readable and this object
                # closed, so the number still belongs to our process.
                os.kill(self._pid, number)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """The death has been seen: let go of the descriptor."""
        close_quietly(self._fd)


def has_pidfds() -> bool:
    """Whether the system has descriptors for processes."""
    return hasattr(os, "pidfd_open") and portable_level() == LINUX


def _watch_by_thread(pid: int, wait: Callable[[], object]) -> int:
    readable, writable = (lift(fd) for fd in os.pipe())

    def watch() -> None:
        try:
            wait()
        finally:
            os.close(writable)

    WatchThread(target=watch, name=f"parmap-watch-{pid}", daemon=True).start()
    return readable
