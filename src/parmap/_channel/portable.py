"""Presence where a pipe cannot be opened a second time through its descriptor (no ``/proc``).

There the pipe has a name, in this user's private folder of lock files.  Whoever has the reading end
holds a shared lock on it; the last to go removes the name, and what SIGKILL of all leaves behind is
swept by the next process that makes a lock.

What this cannot promise: the hang-up of the last end is not an event that can be waited for, so
those who sleep look 20 times a second (for `fileno` a thread does), and when all are killed an empty
name stays behind until then.
"""

from __future__ import annotations

import errno
import os
import sys

from parmap._channel.presence import Presence
from parmap._memory.host import close_quietly, lift, too_many
from parmap._memory.transit import export_fd, import_fd

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.transit import Ticket

if sys.platform != "win32":
    import fcntl


class NamedPresence(Presence):
    """The neutral handle of one side, with a name to open it by."""

    __slots__ = ("_path",)

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd)
        self._path = path

    @classmethod
    def create(cls) -> Presence:
        """Return that of a side with nobody on it."""
        while (made := cls._made()) is None:
            continue  # a sweeper was faster: until the pipe is locked, it looks like one left behind
        return made

    @classmethod
    def _made(cls) -> Presence | None:
        """A new one; None if its name was swept away meanwhile."""
        from parmap._memory.namedlock import is_named, private_folder

        path = f"{private_folder()}/ends-{os.getpid()}-{os.urandom(8).hex()}"
        try:
            os.mkfifo(path, 0o600)
            fd = _open_to_look(path)
        except OSError as error:
            too_many(error)
        if fd is None:
            return None
        # Of the open file, so all who get the descriptor hold it.
        fcntl.flock(fd, fcntl.LOCK_SH)
        made = cls(fd, path)
        return made if is_named(path, fd) else None

    def anyone(self) -> bool:
        """Whether an end is open, or on its way."""
        try:
            return os.read(self._fd, 1) != b""
        except BlockingIOError:
            return True  # nothing to read, and somebody who could write

    def join(self) -> int:
        """Return a new writing end: an end that is present until it is closed."""
        try:
            return lift(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise FileNotFoundError(
                    error.errno, "the name of this channel was removed"
                ) from error
            too_many(error)

    def ticket(self) -> tuple[Ticket, str]:  # type: ignore[override]  # goes back into `arrive`
        """Pickle it: see `transit`."""
        return export_fd(self._fd, "Channel"), self._path

    def __del__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            close_quietly(fd)
            _remove_unused(self._path)


def arrive(ticket: tuple[Ticket, str]) -> NamedPresence:
    """Redeem what `ticket` gave."""
    return NamedPresence(import_fd(ticket[0]), ticket[1])


def _open_to_look(path: str) -> int | None:
    """Open the reading end of a pipe; None if there is no such name."""
    try:
        return lift(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        return None


def _remove_unused(path: str) -> None:
    """Remove the name if nobody has the pipe open."""
    try:
        fd = _open_to_look(path)
    except OSError:
        return
    if fd is None:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        pass
    finally:
        close_quietly(fd)
