"""A pipe that wakes sleepers: each byte in it is one wake-up, for whoever takes it."""

from __future__ import annotations

import os

from parmap._memory.host import LINUX, close_quietly, lift, portable_level, too_many
from parmap._memory.transit import export_fd, import_fd

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.transit import Ticket

_MANY = 4096


class Bell:
    """One pipe, both of whose ends everybody has.  Never blocks; fork-safe."""

    __slots__ = ("_read_end", "_write_end")

    def __init__(self, read_end: int, write_end: int) -> None:
        """Take the descriptors over, which may be one and the same."""
        self._read_end = read_end
        self._write_end = write_end

    @classmethod
    def create(cls) -> Bell:
        """Return a new, silent one."""
        try:
            read_end, write_end = (lift(fd) for fd in os.pipe())
        except OSError as error:
            too_many(error)
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)
        if portable_level() != LINUX:
            return cls(read_end, write_end)
        try:  # one descriptor for both directions
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            return cls.of_one(lift(os.open(f"/proc/self/fd/{read_end}", flags)))
        finally:
            os.close(read_end)
            os.close(write_end)

    @classmethod
    def of_one(cls, fd: int) -> Bell:
        """Return the bell of a descriptor that reads and writes."""
        return cls(fd, fd)

    def fileno(self) -> int:
        """Readable while a wake-up waits for its taker."""
        return self._read_end

    def ring(self) -> None:
        """Wake one sleeper."""
        try:
            os.write(self._write_end, b"!")
        except BlockingIOError:
            return  # 64 Ki wake-ups wait to be taken: nobody sleeps

    def take(self) -> bool:
        """Take one wake-up, if there is any."""
        try:
            return bool(os.read(self._read_end, 1))
        except BlockingIOError:
            return False

    def silence(self) -> None:
        """Take all wake-ups."""
        try:
            while len(os.read(self._read_end, _MANY)) == _MANY:
                continue
        except BlockingIOError:
            return

    def tickets(self) -> tuple[Ticket, ...]:
        """Pickle it: see `transit`."""
        ends = {self._read_end: None, self._write_end: None}
        return tuple([export_fd(fd, "Channel") for fd in ends])

    @classmethod
    def arrive(cls, tickets: tuple[Ticket, ...]) -> Bell:
        """Redeem what `tickets` gave."""
        fds = [import_fd(ticket) for ticket in tickets]
        return cls(fds[0], fds[-1])

    def __del__(self) -> None:
        for fd in {getattr(self, "_read_end", -1), getattr(self, "_write_end", -1)}:
            if fd >= 0:
                close_quietly(fd)
