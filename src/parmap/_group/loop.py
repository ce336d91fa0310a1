"""The loop of a worker group: one function per process, supervised."""

from __future__ import annotations

import logging
import marshal
import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING, assert_never

from parmap import _alarm
from parmap._alarm import LOOK_EVERY, Alarm
from parmap._calls.hearsay import hearsay
from parmap._calls.news import Report
from parmap._calls.surroundings import frame_of
from parmap._calls.verdicts import closed
from parmap._core import supervision as sup
from parmap._core.supervision import End, Settle
from parmap._cpus import share
from parmap._group.outcomes import value_of
from parmap._group.stuck import deadlock
from parmap._launch.setup import introduction
from parmap._loop import Loop
from parmap._wire import frames as fr
from parmap._wire.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from parmap._group.seat import Seat
    from parmap._launch.base import Launcher
    from parmap._launch.peer import Peer
    from parmap._loop import Claims
    from parmap.errors import ChannelError
    from parmap.options import Restart

log = logging.getLogger("parmap")


class GroupLoop(Loop[sup.Event, sup.Command]):
    """Starts, listens to, and ends the processes of one group."""

    def __init__(self, launcher: Launcher, name: str, *, grace: float) -> None:
        # In the order in which their failing was seen; how they ended, once they have.
        self._failing: dict[int, Settle | None] = {}
        self._seats: dict[int, Seat] = {}
        self._peers: dict[int, Peer] = {}  # seat -> its present process
        self._processes = 0
        self._gate = threading.Lock()  # so that nobody is added behind the last one
        self._parent = multiprocessing.current_process().name, os.getpid()
        self.alarm = Alarm(self._raise_failure)  # of the thread that is in the group's block
        self.stuck: ChannelError | None = None  # why waiting for the workers would take for ever
        super().__init__(sup.Supervisor(grace=grace), launcher, name, overdue=sup.DeadlinePassed())

    def add(self, seat: Seat, restart: Restart) -> bool:
        """Run the seat's function in a process of its own.  False: the group has ended."""
        with self._gate:
            if not self.alive:
                return False
            self._seats[seat.number] = seat
            self.post(
                sup.MemberAdded(seat.number, restart.max_restarts, restart.within, restart.delay)
            )
            return True

    @property
    def failures(self) -> list[Settle]:
        """The failures, the one that was seen first in front."""
        return [settled for settled in self._failing.values() if settled is not None]

    def end(self, seat: Seat, *, kill: bool) -> None:
        """The owner ends this worker."""
        self.post(sup.EndRequested(seat.number, kill))

    def wait(self, seat: Seat, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait for news of this seat until `done`, at most `timeout` seconds; whether it is.

        False, too, when there is a reason to wait no longer: `raise_reason` tells.
        """
        if self._pid != os.getpid():
            return done()  # a forked child's copy: no news will ever come
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            is_done = seat.wait(done, LOOK_EVERY if left is None else min(left, LOOK_EVERY))
            if hearsay:
                hearsay.deliver()
            if is_done:
                return True
            if left == 0 or _alarm.rings() or (left is None and self._is_stuck()):
                return False

    def raise_reason(self) -> None:
        """Raise why `wait` gave up before its time, if it did."""
        _alarm.check()
        if self.stuck is not None:
            raise self.stuck

    def raise_what_stopped(self, seat: Seat) -> None:
        """In the group's block: raise the failure for which a worker was stopped."""
        if seat.was_stopped and _alarm.hears(self.alarm):
            for number in list(self._failing):  # those are about to end, too
                self._seats[number].wait(self._seats[number].is_settled, None)
            self._raise_failure()

    def _raise_failure(self) -> None:
        for settled in self.failures:
            value_of(self._seats[settled.member])

    def _is_stuck(self) -> bool:
        self.stuck = self.stuck or deadlock(self.name)
        return self.stuck is not None

    def parked(self) -> Claims | None:
        """What the living workers wait for, if that is all they do; else None."""
        claims: Claims = []
        for seat in list(self._seats.values()):
            if seat.settled is None:
                if seat.parked is None:
                    return None
                claims += seat.parked
        return claims

    def wait_settled(self, seats: Sequence[Seat], timeout: float | None) -> bool:
        """Wait until all have ended; whether they have within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for seat in seats:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.wait(seat, seat.is_settled, left):
                self.raise_reason()
                return False
        return True

    def leave(self, *, failed: bool) -> None:
        """The block is over: wait until nobody is left.

        `failed`: tell them to go.  So does what `raise_reason` raises, and whatever else interrupts
        the wait (Ctrl-C, SIGTERM in a worker, what a signal handler raises), and a second time it
        kills.
        """
        try:
            self.post(sup.StopRequested() if failed else sup.Closed())
            while not self.join(None if failed else LOOK_EVERY):
                hearsay.deliver()
                _alarm.check()
                if self._is_stuck():
                    self.raise_reason()
            hearsay.deliver()
        except BaseException:
            self._leave_now()
            raise

    def raise_if_broken(self) -> None:
        """Raise our own bug, if that is how it ended."""
        if self._broken is not None:
            raise closed(self.name, self._broken)

    def _leave_now(self) -> None:
        try:
            self.post(sup.StopRequested())
            self.join()
        except BaseException:
            for number in list(self._seats):
                self.post(sup.EndRequested(number, kill=True))
            self.join()
            raise

    def finish(self) -> None:
        """At exit an open group is ended."""
        self.post(sup.StopRequested())

    # ------------------------------------------------------------------ what workers say

    def _hear(self, peer: Peer, frame: Frame) -> None:
        if frame.kind not in (fr.RESULTS, fr.NOTICE, fr.PARKED):
            return  # READY: it got its function together with its name
        seat = self._seats[frame.call]
        if frame.kind == fr.PARKED:
            seat.parked = marshal.loads(frame.segments[0])  # noqa: S302 - from our own worker
            return
        report = Report(frame, worker=seat.name, pid=peer.pid)
        if frame.kind == fr.NOTICE:
            seat.update(notice=report)
        else:
            failed = bool(frame.flags & fr.FLAG_FAILURES)
            if failed:
                self._note_failing(seat.number)
            self._tell(sup.Reported(seat.number, failed, report, obeying=bool(frame.extra)))

    def _bury(self, peer: Peer, exitcode: int | None, running: int) -> None:
        seat = next(number for number, known in self._peers.items() if known is peer)
        del self._peers[seat]
        self._seats[seat].dead = peer
        self._tell(sup.Died(seat, exitcode))

    # ------------------------------------------------------------------ what the core commands

    def _obey(self, command: sup.Command) -> None:
        match command:
            case sup.Start(member):
                self._start(self._seats[member])
            case sup.Terminate(member):
                if (peer := self._peers.get(member)) is not None:
                    self._crew.terminate(peer)
            case sup.Kill(member):
                if (peer := self._peers.get(member)) is not None:
                    peer.kill()
            case sup.Settle():
                self._settle(command)
            case sup.Restarting(member, end, exitcode, _, delay):
                # That was of the process that is gone.
                self._seats[member].update(notice=None, parked=None)
                log.warning(
                    "worker %s: %s (exit code %s), starting it again in %.3g s",
                    self._seats[member].name, end.value, exitcode, delay,
                )  # fmt: skip
            case _:
                assert_never(command)

    def _start(self, seat: Seat) -> None:
        self._processes += 1
        head = introduction(seat.name, share(len(self._seats)), parent=self._parent)
        try:
            self._crew.start(self._processes, seat.name, Frame(fr.SETUP, segments=[head]))
        except (
            Exception
        ) as error:  # whatever the system, or a start method of the stdlib, objects to
            self._tell(sup.StartRefused(seat.number, f"{type(error).__name__}: {error}"))
            return
        peer = self._peers[seat.number] = self._crew.members[self._processes]
        seat.update(pid=peer.pid)
        function = seat.function
        peer.post(frame_of(seat.surroundings))
        sent = Frame(fr.FUNCTION, call=seat.number, segments=function.segments, fds=function.fds)
        # Ends of channels among the arguments are open until they have arrived, or for as long as
        # another process may still need them.
        peer.post(sent, None if seat.may_restart else function.close)
        peer.post(Frame(fr.MEMBER, call=seat.number, extra=seat.starts))
        seat.starts += 1
        self._crew.flush(peer)

    def _settle(self, settled: Settle) -> None:
        seat = self._seats[settled.member]
        if settled.end in sup.FAILURES:
            if settled.end is not End.RAISED:
                self._note_failing(settled.member)
            self._failing[settled.member] = settled
        seat.function.close()
        seat.update(settled=settled)
        if settled.end in sup.FAILURES:
            self.alarm.ring()

    def _note_failing(self, member: int) -> None:
        # Not when it ends: a sibling that was stopped for it may be gone before it.
        self._failing.pop(member, None)
        self._failing[member] = None

    def _ended(self) -> None:
        with (
            self._gate
        ):  # whoever is adding a seat has done so, or will be told that it is too late
            seats = list(self._seats.values())
        for seat in seats:
            if seat.settled is None:  # the loop broke, or it was added at the last moment
                seat.function.close()
                seat.update(settled=Settle(seat.number, End.STOPPED, None, None, 1))
