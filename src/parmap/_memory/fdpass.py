"""A stream of bytes between two processes that carries descriptors as well.

The kernel's rules, which this module hides:

* Descriptors ride on a byte. A batch is attached to the first byte of one `sendmsg`, so it is sent
  exactly once, however little of the rest was taken; and it arrives in the very `recvmsg` that
  takes that byte, never later.
* One message takes at most 253 of them, so more travel as several one-byte messages in front of
  the rest.
* What does not fit the receiver (its limit of open files) is dropped silently but for a flag: here
  an error.

`Link` is the socket; it serves a blocking user (a worker) and a non-blocking one (the driver).
`Outbox` is the queue that a non-blocking user needs in front of it. The low-level ``_socket`` is
used because ``socket`` costs each worker 5 ms.
"""

from __future__ import annotations

import _socket
import errno
import select
import sys
from collections import deque

from parmap._memory.host import close_quietly, duplicate, lift, passes_descriptors, too_many

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from typing_extensions import Buffer

MAX_FDS = 250  # in one message; the kernel's own limit is 253
_IOV_MAX = 1024
# What a link takes before its reader has read (the system doubles it): by its own 200 KB both sides
# would take turns 500 times for 100 MB.  A request: it gets no more than net.core.wmem_max.
_IN_FLIGHT = 512 << 10
_FIRST_FREE = 3  # after the standard streams
MSG_NOSIGNAL: int = getattr(_socket, "MSG_NOSIGNAL", 0)
MSG_CLOEXEC: int = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
_SCM_RIGHTS: int = getattr(_socket, "SCM_RIGHTS", 1)
ANCILLARY: int = _socket.CMSG_SPACE(253 * 4) if hasattr(_socket, "CMSG_SPACE") else 0
_GONE = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ESHUTDOWN, errno.ENOTCONN})


class Link:
    """One end of a stream socket that passes descriptors. Owns the socket.

    Not thread-safe: one thread may send and one other may receive. Descriptors that were sent stay
    the sender's to close (the kernel takes references of its own); those that arrive are the
    receiver's.
    """

    __slots__ = ("__weakref__", "_rights", "_sock", "_torn")

    def __init__(self, sock: _socket.socket) -> None:
        """Take over `sock`, connected, blocking or not as it is."""
        self._sock = sock
        self._rights = passes_descriptors()
        self._torn = False

    @classmethod
    def from_fd(cls, fd: int, *, blocking: bool = True) -> Link:
        """Return a link over an inherited descriptor, which it owns from now on."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, lift(fd))
        sock.setblocking(blocking)
        return cls(sock)

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        """Two connected links, blocking, not inheritable."""
        try:
            one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
        except OSError as error:
            too_many(error)
        for sock in (one, other):
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _IN_FLIGHT)
        return cls.from_fd(one.detach()), cls.from_fd(other.detach())

    def fileno(self) -> int:
        """Return the socket's number, -1 once closed."""
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` was called."""
        return self._sock.fileno() < 0

    def setblocking(self, blocking: bool) -> None:
        """Choose whether operations wait (a worker) or not (the driver)."""
        self._sock.setblocking(blocking)

    def send_some(self, buffers: deque[memoryview], fds: deque[int]) -> int:
        """Send what the socket takes now of one message; return the number of bytes.

        What was sent is removed from `buffers` and `fds`.

        `buffers` are non-empty flat views of bytes (`flatten` makes them); `fds` ride on the first
        byte. Returns 0 when the socket is full, or when nothing is left. A vanished peer raises
        BrokenPipeError or ConnectionResetError.
        """
        total = 0
        while len(fds) > MAX_FDS:
            # All but the last batch ride on one byte each; the stream keeps the order.
            if not buffers:
                raise ValueError(
                    "descriptors need at least one byte for each 250 of them to ride on"
                )
            if not self._send_message([buffers[0][:1]], [fds[i] for i in range(MAX_FDS)]):
                return total
            for _ in range(MAX_FDS):
                fds.popleft()
            total += _drop(buffers, 1)
        if buffers:
            batch = (
                [buffers[i] for i in range(_IOV_MAX)] if len(buffers) > _IOV_MAX else list(buffers)
            )
            sent = self._send_message(batch, list(fds))
            if sent:
                fds.clear()
                total += _drop(buffers, sent)
        elif fds:
            raise ValueError("descriptors need a byte to ride on")
        return total

    def send_all(self, buffers: Iterable[Buffer], fds: Sequence[int] = ()) -> None:
        """Send one whole message, waiting as long as it takes. For a blocking link.

        If it fails or is interrupted half-way, the stream is of no more use and every later send
        says so.
        """
        views = flatten(buffers)
        self._check_whole()
        self._torn = True  # first: an exception from a signal handler may hide what was sent
        if len(views) == 1 and not fds:  # nearly every message, and gone with one call
            _drop(views, self._send_message([views[0]], []))
        waiting = deque(fds)
        while views or waiting:
            if not self.send_some(views, waiting):
                raise BlockingIOError(errno.EAGAIN, "send_all needs a blocking link")
        self._torn = False

    def receive_into(self, buffer: Buffer) -> tuple[int, list[int]]:
        """Wait for bytes and put them into `buffer`; return their number and the descriptors.

        0 bytes: the peer is gone (also when it was killed with unread data, which the kernel calls
        a reset). On a non-blocking link with nothing to read: BlockingIOError. The descriptors are
        closed on exec and belong to the caller.
        """
        try:
            if not self._rights:
                return self._sock.recv_into(buffer), []
            size, ancillary, flags, _ = self._sock.recvmsg_into((buffer,), ANCILLARY, MSG_CLOEXEC)
        except OSError as error:
            if error.errno in _GONE:
                return 0, []
            raise
        if not ancillary and not flags & _socket.MSG_CTRUNC:
            return size, []
        return size, unpack_fds(ancillary, flags=flags, probe=self.fileno())

    def wait(self, seconds: float) -> bool:
        """Wait for something to receive; whether there is."""
        if not hasattr(select, "poll"):
            return bool(select.select([self._sock], [], [], seconds)[0])
        waiter = select.poll()  # takes any number, where select() stops at 1024
        waiter.register(self._sock, select.POLLIN)
        return bool(waiter.poll(seconds * 1000))

    def shutdown(self, how: int = 2) -> None:
        """End the stream for all who hold this socket: 0 receiving, 1 sending, 2 both."""
        try:
            self._sock.shutdown(how)
        except OSError:
            pass

    def detach(self) -> int:
        """Give the socket's descriptor away; the link is closed for this object."""
        return self._sock.detach()

    def close(self) -> None:
        """Close this process's descriptor. May be called twice."""
        self._sock.close()

    def __repr__(self) -> str:
        return f"<Link {'closed' if self.closed else self.fileno()}>"

    def _check_whole(self) -> None:
        if self._torn:
            from parmap.errors import InternalError

            raise InternalError(
                "an earlier message on this link was cut short, nothing can follow it"
            )

    def send_bytes(self, data: Buffer) -> int:
        """Send what the socket takes now of these; 0 when it is full."""
        try:
            return self._sock.send(data, MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def _send_message(self, views: list[memoryview], fds: list[int]) -> int:
        """One `sendmsg`; 0 when the socket is full."""
        try:
            if not fds:
                if len(views) == 1:
                    return self.send_bytes(views[0])
                return self._sock.sendmsg(views, (), MSG_NOSIGNAL)
            if not self._rights:
                refuse_descriptors()
            return self._sock.sendmsg(views, rights(fds), MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:
                text = "too many descriptors on their way between processes: raise ulimit -n"
                raise OSError(errno.ETOOMANYREFS, text) from error
            raise


def flatten(buffers: Iterable[Buffer]) -> deque[memoryview]:
    """Return flat byte views of `buffers`, without the empty ones: what `send_some` eats."""
    views: deque[memoryview] = deque()
    for buffer in buffers:
        view = memoryview(buffer)
        if view.nbytes:  # a view with a zero in its shape cannot even be cast
            views.append(
                view
                if view.ndim == 1 and view.itemsize == 1 and view.c_contiguous
                else view.cast("B")
            )
    return views


def rights(fds: Iterable[int]) -> list[tuple[int, int, bytes]]:
    """Return descriptors as the ancillary data that passes them."""
    packed = b"".join([fd.to_bytes(4, sys.byteorder) for fd in fds])
    return [(_socket.SOL_SOCKET, _SCM_RIGHTS, packed)]


def unpack_fds(ancillary: Sequence[tuple[int, int, bytes]], *, flags: int, probe: int) -> list[int]:
    """Return the descriptors of one received message, above the standard streams; all or none.

    `probe` is any open descriptor: if some were lost, duplicating it tells whether this process's
    limit is the reason.
    """
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _SCM_RIGHTS:
            fds += memoryview(data)[: len(data) // 4 * 4].cast("i").tolist()
    try:
        if flags & _socket.MSG_CTRUNC:
            close_quietly(duplicate(probe))
            _report_loss()
        for place, fd in enumerate(fds):
            if fd < _FIRST_FREE:
                fds[place] = lift(fd)
    except BaseException:
        for fd in fds:
            close_quietly(fd)
        raise
    return fds


def _drop(views: deque[memoryview], size: int) -> int:
    """Remove the first `size` bytes; return `size`."""
    left = size
    while left:
        first = views.popleft()
        if first.nbytes > left:
            views.appendleft(first[left:])
            break
        left -= first.nbytes
    return size


def _report_loss() -> None:
    from parmap.errors import InternalError

    raise InternalError("descriptors were lost on their way: more than 253 in one message")


def refuse_descriptors() -> NoReturn:
    """Raise: this system cannot do what descriptors are passed for."""
    from parmap.errors import SerializationError

    raise SerializationError(
        "this system cannot pass file descriptors to a running process:"
        " no shared memory, channel or lock can be sent there"
    )
