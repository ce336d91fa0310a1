"""The default way on Linux: a small helper process, the zygote, forks workers on request.

    parent ──start (link, page, stdout, stderr)──▶ zygote ──fork──▶ worker
           ◀─────── pid (pidfd, leash) ───────────       ◀─reaps───

It has imported what a worker needs and nothing else, and has one thread: the fork costs a millisecond
and nothing of the parent's state, its threads least of all, can deadlock it.  There is one for each
process, for as long as a pool or a group lives.

The parent is no parent of these workers.  The pidfd tells it of a death; the leash, one socket for
each worker, how it came: the zygote keeps the dead process (and so its number) until the parent, by
shutting its side down, has said that it knows, and answers with the exit status.

Nothing here trusts a zygote to be well.  Whether it was killed, is stopped or does not answer: that is
noticed within a bounded time, and another one, or `popen`, does the work.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select
import signal
import sys
import threading
import time
from contextlib import ExitStack
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

from parmap._launch import lifeline
from parmap._launch.base import Child, Ending, keep_from_forks, pair_for_worker, reap_child
from parmap._launch.heritage import heritage
from parmap._launch.popen import PopenLauncher, run_main
from parmap._memory.fdpass import Link
from parmap._memory.host import close_quietly
from parmap._worker.zygote import ANSWER, ENDING

if TYPE_CHECKING:
    from parmap._memory.segment import Segment
    from parmap._worker.zygote import Order

# A zygote that runs but does not answer for so long (seconds) is given up: its start on a crowded
# machine takes a second.  One that is dead or stopped is noticed long before.
PATIENCE = 10.0
_LOOK_EVERY = 0.1  # seconds without an answer until its state is looked at


class ZygoteBrokenError(Exception):
    """The zygote is dead, stopped, or does not answer.  Never leaves this module."""


class ZygoteLauncher:
    """Has workers forked by this process's zygote; by `subprocess.Popen` where that fails."""

    start_method = "zygote"

    def start(self, name: str, control: Segment) -> tuple[Child, Link]:
        """Start a worker.  Raises OSError when the system refuses."""
        return nursery.start(self, control) or PopenLauncher().start(name, control)

    def end(self) -> None:
        """The zygote goes with the last that used it."""
        nursery.leave(self)


class Nursery:
    """This process's zygote.  Thread-safe."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._users: set[ZygoteLauncher] = set()
        self._zygote: Zygote | None = None
        self._retired: list[Zygote] = []  # they start nothing more, but their workers may live
        self._hopeless: object = None  # the heritage of a zygote that never worked

    def start(self, user: ZygoteLauncher, control: Segment) -> tuple[Child, Link] | None:
        """Start a worker; None if no zygote can do it.  Raises OSError when the system refuses."""
        if not self._lock.acquire(timeout=PATIENCE):
            return None
        try:
            self._users.add(user)
            wanted = heritage()
            while wanted != self._hopeless:
                zygote = self._zygote_of(wanted)
                try:
                    return zygote.start_worker(control)
                except ZygoteBrokenError:
                    if not zygote.proven:
                        self._hopeless = wanted
        except FileNotFoundError:
            return None  # no /proc here, or no such Python
        finally:
            self._lock.release()
        return None

    def leave(self, user: ZygoteLauncher) -> None:
        """All workers of this user are dead."""
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            gone, self._retired = self._retired, []
            if self._zygote is not None:
                gone.append(self._zygote)
            self._zygote = self._hopeless = None
        for zygote in gone:
            zygote.end()

    def pid(self) -> int | None:
        """Of the zygote in use."""
        zygote = self._zygote
        return None if zygote is None else zygote.child.pid

    def belongings(self) -> tuple[set[int], set[int]]:
        """Processes and descriptors that stay as long as somebody uses the nursery: for a leak
        checker, since a zygote may be replaced while a pool that was there before lives on."""
        zygotes = [each for each in (self._zygote, *self._retired) if each is not None]
        return (
            {zygote.child.pid for zygote in zygotes},
            {fd for zygote in zygotes for fd in zygote.fds()},
        )

    def forget(self) -> None:
        """In a forked child: the zygote is the parent's, and the lock may have been held."""
        for zygote in (self._zygote, *self._retired):
            if zygote is not None:
                zygote.disown()
        self._begin()

    def _zygote_of(self, wanted: tuple[object, ...]) -> Zygote:
        zygote = self._zygote
        if zygote is None or not zygote.usable or zygote.heritage != wanted:
            if zygote is not None:
                self._retired.append(zygote)
                self._zygote = None
                zygote.retire()
            self._retired = [each for each in self._retired if not each.buried()]
            zygote = self._zygote = Zygote(wanted)
        return zygote


class Zygote:
    """The helper process as the parent holds it.  Used under the nursery's lock, but for `ending`."""

    def __init__(self, heritage: tuple[object, ...]) -> None:
        """Start it; whether it works is seen by its first answer.  Raises OSError."""
        self.heritage = heritage
        self.usable = True  # nothing is known against it
        self._ill = False  # dead, stopped, or silent
        self.proven = False  # it has answered
        pair = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)  # keeps messages apart
        self._link, theirs = (Link.from_fd(end.detach()) for end in pair)
        keep_from_forks(self._link)
        line = lifeline.for_worker()
        try:
            # Its standard streams lead nowhere: whoever waits for the end of the parent's must not
            # wait for it.  A worker is given those that the parent has then.
            process = run_main("parmap._worker.zygote", [theirs.fileno(), line], output=DEVNULL)
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()
            os.close(line)
        process.returncode = 0  # reaped here, not by its finaliser
        self.child = Child(process.pid, lambda: reap_child(process.pid), _never)

    def fds(self) -> tuple[int, int]:
        """Its descriptors in this process."""
        return self._link.fileno(), self.child.fileno()

    def start_worker(self, control: Segment) -> tuple[Child, Link]:
        """Have one forked.  Raises ZygoteBrokenError, or OSError when the system refuses the worker."""
        with ExitStack() as undo:
            ours, theirs = pair_for_worker()
            undo.callback(ours.close)
            self.usable = False  # until the whole exchange is over, whatever interrupts it
            try:
                pid, pidfd, leash = self._exchange([theirs.fileno(), control.fileno()])
            finally:
                theirs.close()
            child = Child(pid, lambda: self.ending(leash), _never, pidfd=pidfd)
            undo.pop_all()
        return child, ours

    def ending(self, leash: Link) -> Ending:
        """How a dead worker ended; unknown if the zygote cannot tell any more."""
        leash.shutdown(1)  # its number may be given away from now on
        answer = bytearray(ENDING.size)
        try:
            self._wait_for(leash)
            size, _ = leash.receive_into(answer)
        except ZygoteBrokenError:
            return Ending(None)
        finally:
            leash.close()
        if not size:
            return Ending(None)
        status, peak_rss = ENDING.unpack(answer)
        return Ending(os.waitstatus_to_exitcode(status), peak_rss)

    def retire(self) -> None:
        """It takes no more orders, and goes after the last of its workers; at once if it is ill."""
        self._link.close()
        if self._ill:
            self.child.send_signal(signal.SIGKILL)

    def buried(self) -> bool:
        """Whether it is dead, and then nothing of it is left."""
        if not _readable(self.child.fileno(), timeout=0):
            return False
        self.child.bury()
        return True

    def end(self) -> None:
        """It is of no more use to anybody."""
        self._link.close()
        self.child.send_signal(signal.SIGKILL)
        _readable(self.child.fileno(), timeout=None)
        self.child.bury()

    def disown(self) -> None:
        """In a forked child: close our copies (that of the link goes with all others)."""
        close_quietly(self.child.fileno())

    def _exchange(self, fds: list[int]) -> tuple[int, int, Link]:
        """Send an order; what it has started: pid, pidfd and leash."""
        streams, order = _order()
        answer = bytearray(ANSWER.size)
        try:
            self._link.send_all([marshal.dumps(dict[str, Any](order))], [*fds, *streams])
            self._wait_for(self._link)
            size, received = self._link.receive_into(answer)
        except ConnectionError as error:
            raise ZygoteBrokenError from error  # it is dead
        if size == 0:
            raise ZygoteBrokenError
        self.usable = self.proven = True
        pid, number = ANSWER.unpack(answer)
        if number:
            raise OSError(number, f"the system refuses another process: {os.strerror(number)}")
        pidfd, leash = received
        link = Link.from_fd(leash)
        keep_from_forks(link)
        return pid, pidfd, link

    def _wait_for(self, link: Link) -> None:
        """Until something can be read; a forked process may hold the other end open, so the zygote
        itself is watched, too."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ready = _readable(link.fileno(), self.child.fileno(), timeout=_LOOK_EVERY)
            if link.fileno() in ready:
                return
            if ready or _is_stopped(self.child.pid):
                break
        self.usable, self._ill = False, True
        raise ZygoteBrokenError


def _order() -> tuple[list[int], Order]:
    """What the zygote must know of this moment, and the descriptors that go with it."""
    streams = [number for number in (1, 2) if _is_passed_on(number)]
    byvalue = None
    if "parmap._wire.byvalue" in sys.modules:
        # Relative entries mean another folder there.
        entries: list[Any] = sys.path  # programs put in more than the strings that belong there
        byvalue = [each for each in entries if isinstance(each, str) and os.path.isabs(each)]
    mask = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    return streams, {"mask": mask, "streams": streams, "byvalue": byvalue}


def _is_passed_on(stream: int) -> bool:
    """Not where the program has closed it, and the number is another file's by now."""
    try:
        return os.get_inheritable(stream)
    except OSError:
        return False


def _readable(*fds: int, timeout: float | None) -> list[int]:
    """Which of them can be read, or are at their end."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)]


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"T"
    except OSError:
        return True  # dead, and reaped by a stranger


def _never() -> None:
    raise AssertionError("there are pidfds wherever there is a zygote")


nursery = Nursery()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=nursery.forget)
