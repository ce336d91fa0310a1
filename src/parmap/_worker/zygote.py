"""The zygote: it has imported what a worker needs, and forks one whenever its parent says so.

One thread, no handlers of signals, no state but the list of its living children.  It leaves with its
parent, as workers do; or when the parent has hung up and the last of its children is reaped.

It takes its children along, too.  They notice by themselves (`hygiene.die_with_parent`), unless a
process that a C library has forked in the parent, behind Python's back, holds the lifeline open.
"""

from __future__ import annotations

import errno
import gc
import marshal
import os
import select
import signal
import struct
import sys
from importlib import import_module

from parmap._memory.fdpass import Link
from parmap._memory.host import close_quietly
from parmap._memory.segment import Segment
from parmap._worker import hygiene
from parmap._worker.main import serve

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Order(TypedDict):
        """What is told with each order for a worker, beside its descriptors."""

        mask: list[int]  # the signals that are held back in the starting thread
        streams: list[int]  # which of the standard streams come along; the others are closed
        byvalue: list[str] | None  # `sys.path`, if what goes by value shall be imported at once


ANSWER = struct.Struct("=ii")  # pid, or 0 and the number of the error; beside it pidfd and leash
ENDING = struct.Struct("=iq")  # wait status, peak memory in bytes
_ORDER_BYTES = 256 * 1024  # more than a socket takes by default


def main(link: int, lifeline: int) -> NoReturn:
    """Start of the zygote, with these inherited descriptors."""
    # Whatever signal the group or the terminal gets: the parent's workers are told of it themselves.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    # A program that ignores this one is not told how its children end, but we must be.
    of_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    hygiene.die_with_parent(lifeline)
    gc.freeze()  # a collection in a worker shall not touch, and so copy, what all of them share
    theirs, page = _Zygote(Link.from_fd(link)).run()
    # From here on this is a worker, and nothing of the zygote is left.
    signal.signal(signal.SIGCHLD, of_children)
    serve(theirs, lifeline, page)


class _Zygote:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._buffer = bytearray(_ORDER_BYTES)
        self._poll = select.poll()
        self._poll.register(link.fileno(), select.POLLIN)
        self._parent = os.pidfd_open(os.getppid())
        self._poll.register(self._parent, select.POLLIN)
        self._leashes: dict[int, tuple[int, int]] = {}  # leash -> pid, pidfd
        # Those that the parent has let go of: pidfd -> pid, leash
        self._dying: dict[int, tuple[int, int]] = {}

    def run(self) -> tuple[Link, Segment]:
        """Do what the parent says; returns in each worker, and only there."""
        while not self._link.closed or self._leashes or self._dying:
            for fd, _ in self._poll.poll():
                if fd == self._parent:
                    self._end_all()
                elif fd in self._leashes:
                    self._expect_death(fd)
                elif fd in self._dying:
                    self._reap(fd)
                elif (born := self._obey()) is not None:
                    return born
        os._exit(0)

    def _obey(self) -> tuple[Link, Segment] | None:
        """Fork a worker and tell the parent; returns something in the worker."""
        try:
            size, fds = self._link.receive_into(self._buffer)
        except OSError as error:  # no room for the descriptors
            self._refuse(error)
            return None
        if size == 0:  # no more orders
            self._poll.unregister(self._link.fileno())
            self._link.close()
            return None
        order: Order = marshal.loads(self._buffer[:size])  # noqa: S302 - from our own parent
        if order["byvalue"] is not None:
            _import_byvalue(order["byvalue"])
        try:
            is_worker = self._fork()
        except OSError as error:
            is_worker = False
            self._refuse(error)
        if is_worker:
            return _prepare(order, fds)
        for fd in fds:
            close_quietly(fd)
        return None

    def _fork(self) -> bool:
        """Fork a worker and tell the parent; True in the worker.  Raises OSError if there is none."""
        ours, theirs = Link.pair()
        try:
            pid = os.fork()
            if pid == 0:
                self._leave(ours)
                return True
            # Nobody but this thread reaps it: the number cannot be another's yet.
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            leash = ours.detach()
            self._leashes[leash] = pid, pidfd
            self._poll.register(leash, select.POLLIN)
            self._answer([pidfd, theirs.fileno()], pid, 0)
        finally:
            ours.close()
            theirs.close()
        return False

    def _refuse(self, error: OSError) -> None:
        self._answer([], 0, error.errno or errno.EAGAIN)

    def _answer(self, fds: list[int], pid: int, number: int) -> None:
        try:
            self._link.send_all([ANSWER.pack(pid, number)], fds)
        except ConnectionError:
            return  # nobody waits for it any more, and the leash says so

    def _expect_death(self, leash: int) -> None:
        """The parent knows that this worker is dead, or wants to know nothing more of it."""
        pid, pidfd = self._leashes.pop(leash)
        self._poll.unregister(leash)
        self._dying[pidfd] = pid, leash
        self._poll.register(pidfd, select.POLLIN)

    def _reap(self, pidfd: int) -> None:
        pid, leash = self._dying.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        link = Link.from_fd(leash)
        try:
            link.send_all([ENDING.pack(status, usage.ru_maxrss * 1024)])
        except ConnectionError:
            pass  # the parent has not waited for it
        finally:
            link.close()

    def _end_all(self) -> NoReturn:
        """The parent is dead."""
        for pidfd in (*(pidfd for _, pidfd in self._leashes.values()), *self._dying):
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                continue
        os._exit(0)

    def _leave(self, leash: Link) -> None:
        """In a worker: close what is the zygote's.  A copy of a leash would hide the zygote's death."""
        leash.close()
        self._link.close()
        os.close(self._parent)
        for pair in (*self._leashes.items(), *self._dying.items()):
            os.close(pair[0])
            os.close(pair[1][1])


def _import_byvalue(path: list[str]) -> None:
    """Import, once, what functions by value need: that takes longer than a worker's start."""
    if "parmap._wire.byvalue" in sys.modules:
        return
    before = sys.path[:]
    sys.path[:] = path
    try:
        import_module("parmap._wire.byvalue")
    except Exception:
        return  # the worker will try as well, and say why it cannot
    finally:
        sys.path[:] = before
    gc.freeze()


def _prepare(order: Order, fds: list[int]) -> tuple[Link, Segment]:
    """In a worker: take over what its parent has sent."""
    link, page, *streams = fds
    for number, name in ((1, "stdout"), (2, "stderr")):
        if number in order["streams"]:
            stream = streams.pop(0)
            os.dup2(stream, number)
            os.close(stream)
        else:
            os.close(number)
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
    if sys.stdout is not None:
        # Python chooses this at its start, when the stream led nowhere.
        sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    signal.pthread_sigmask(signal.SIG_SETMASK, order["mask"])
    return Link.from_fd(link), Segment.from_fd(page)
