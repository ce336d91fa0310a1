"""Where descriptors wait that must outlive their sender: in the queue of a socket.

A message in shared memory (a channel's ring, a shared dict's log) is bytes, and may be read long
after its sender is gone. The handles in it need descriptors that are open somewhere until then. So
the sender puts them, under the message's number, into a `Keeper`: a socket pair of which every
user holds both ends, and whose queue the kernel keeps while one of them lives.

All methods need the lock of what the keeper belongs to (they look at the head of a queue and then
move it), and none blocks. A kill between any two steps of one of them leaves at most an entry too
many, never one too few; entries that nobody asks for are dropped when later ones are taken.
"""

from __future__ import annotations

import _socket

from parmap._memory.fdpass import (
    ANCILLARY,
    MAX_FDS,
    MSG_CLOEXEC,
    MSG_NOSIGNAL,
    refuse_descriptors,
    rights,
    unpack_fds,
)
from parmap._memory.host import (
    LINUX,
    close_quietly,
    lift,
    passes_descriptors,
    portable_level,
    too_many,
)
from parmap._memory.transit import export_fd, import_fd

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from parmap._memory.transit import Ticket

_TAG = 8  # bytes: one packet is one tag, and descriptors
_SO_PEEK_OFF = 42  # Linux: how many queued bytes, so how many packets, MSG_PEEK looks past
_MOST = 4096  # more entries than any socket buffer holds
_LAP = 1 << 63  # tags from here on are this module's own


class _Socket(_socket.socket):
    """One that may be dropped: its owner has no last word, since in a reference cycle Python may
    finalise the socket first, which would warn that nobody closed it."""

    def __del__(self) -> None:
        self.close()


class Keeper:
    """A queue of (tag, descriptors), shared by all who have it. Costs two descriptors.

    Either a queue (`take`, with rising tags) or a shelf (`copy`, `drop` and `keep_only`, in any
    order), not both.
    """

    __slots__ = ("_in", "_out")

    def __init__(self, into: _Socket, out: _Socket) -> None:
        into.setblocking(False)
        out.setblocking(False)
        self._in = into
        self._out = out

    @classmethod
    def create(cls) -> Keeper:
        """Return a new, empty one, for about 270 entries (fewer where socket buffers are small)."""
        if not passes_descriptors():
            refuse_descriptors()
        try:
            # Datagrams: an entry is one packet, and so its descriptors are its own.
            one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0)
        except OSError as error:
            too_many(error)
        return cls.from_fds(one.detach(), other.detach())

    @classmethod
    def from_fds(cls, into: int, out: int) -> Keeper:
        """Return the keeper with these two ends, which it takes over."""
        return cls(_adopt(into), _adopt(out))

    def put(self, tag: int, fds: Sequence[int]) -> bool:
        """Keep the files behind `fds` under `tag`; False if the queue is full.

        The caller's descriptors stay open, and his to close.
        """
        if not 0 <= tag < _LAP:
            raise ValueError("a tag is a number below 2**63")
        if not 0 < len(fds) <= MAX_FDS:
            raise ValueError(f"an entry holds 1 to {MAX_FDS} descriptors, not {len(fds)}")
        return self._send(tag, fds)

    def take(self, tag: int) -> list[int] | None:
        """Take out the entry `tag`; its descriptors are the caller's. None if it is not there.

        For queues whose tags only rise: what is older than `tag` was left behind by somebody who
        was killed, and is dropped.
        """
        while (head := self._tag_at(0)) is not None and (head <= tag or head >= _LAP):
            fds = self._receive(0)
            if head == tag:
                return fds
            _close_all(fds)
        return None

    def copy(self, tag: int) -> list[int] | None:
        """Return descriptors of the caller's own for the entry `tag`, which stays, or None."""
        place = self._find(tag)
        if place is None:
            return None
        self._look_past(place)
        return self._receive(_socket.MSG_PEEK)

    def drop(self, tag: int) -> bool:
        """Remove the entry `tag`; whether it was there."""
        found = False
        while (place := self._find(tag)) is not None:  # twice, if somebody was killed in `_turn`
            for _ in range(place):
                self._turn()
            _close_all(self._receive(0))
            found = True
        return found

    def keep_only(self, tags: Container[int]) -> None:
        """Remove each entry with another tag, which somebody who was killed has left behind."""
        first: int | None = None
        while (head := self._tag_at(0)) is not None and head != first:
            if head in tags:
                first = head if first is None else first
                self._turn()
            else:
                _close_all(self._receive(0))

    def close(self) -> None:
        """Close this process's ends. May be called twice."""
        self._in.close()
        self._out.close()

    def __reduce__(self) -> tuple[Callable[[Ticket, Ticket], Keeper], tuple[Ticket, Ticket]]:
        ends = (self._in.fileno(), self._out.fileno())
        return _arrive, (export_fd(ends[0], "keeper"), export_fd(ends[1], "keeper"))

    def __repr__(self) -> str:
        return f"<Keeper {self._in.fileno()}>"

    def _send(self, tag: int, fds: Sequence[int]) -> bool:
        ancillary = rights(fds) if fds else []
        try:
            self._in.sendmsg([tag.to_bytes(_TAG, "little")], ancillary, MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        return True

    def _receive(self, flags: int) -> list[int]:
        """Receive the packet at the place set, or at the head, and return its descriptors."""
        data, ancillary, flags, _ = self._out.recvmsg(_TAG, ANCILLARY, flags | MSG_CLOEXEC)
        del data
        return unpack_fds(ancillary, flags=flags, probe=self._out.fileno())

    def _look_past(self, packets: int) -> None:
        """Let MSG_PEEK see the packet at that place. Set anew each time: others use this socket."""
        if portable_level() == LINUX:
            self._out.setsockopt(_socket.SOL_SOCKET, _SO_PEEK_OFF, packets * _TAG)

    def _tag_at(self, place: int) -> int | None:
        """Return the tag at that place of the queue. Looking opens no descriptor."""
        self._look_past(place)
        try:
            data = self._out.recv(_TAG, _socket.MSG_PEEK)
        except BlockingIOError:
            return None
        return int.from_bytes(data, "little")

    def _find(self, tag: int) -> int | None:
        """Return the place of `tag`, which is 0 where the queue had to be turned to find it."""
        if portable_level() != LINUX:
            return self._turn_to(tag)
        place = 0
        while (found := self._tag_at(place)) is not None:
            if found == tag:
                return place
            place += 1
        return None

    def _turn_to(self, tag: int) -> int | None:
        """Turn the queue until `tag` is at its head. A packet of its own tells when it is round."""
        from os import urandom

        lap = _LAP | int.from_bytes(urandom(7), "little")
        self._send(lap, ())
        for _ in range(_MOST):  # ends the search when the queue was too full for the lap's packet
            head = self._tag_at(0)
            if head is None:
                return None
            if head >= _LAP:
                self._receive(0)  # this lap's, or one left behind by somebody who was killed
                if head == lap:
                    return None
            elif head == tag:
                return 0
            else:
                self._turn()
        return None

    def _turn(self) -> None:
        """Move the first entry to the end. For a moment it is there twice: no kill can lose it."""
        head = self._tag_at(0)
        self._look_past(0)
        fds = self._receive(_socket.MSG_PEEK)
        try:
            if head is not None and not self._send(head, fds):
                # Full: the other order. A kill between these two lines loses the entry.
                _close_all(self._receive(0))
                self._send(head, fds)
            else:
                _close_all(self._receive(0))
        finally:
            _close_all(fds)


def _adopt(fd: int) -> _Socket:
    return _Socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, lift(fd))


def _arrive(into: Ticket, out: Ticket) -> Keeper:
    return Keeper.from_fds(import_fd(into), import_fd(out))


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        close_quietly(fd)
