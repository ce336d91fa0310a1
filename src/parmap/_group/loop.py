"""The loop of a worker group: one function per process, supervised."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from typing import TYPE_CHECKING, assert_never

from parmap._calls.remote import Report
from parmap._calls.verdicts import closed
from parmap._core import supervision as sup
from parmap._core.supervision import End, Settle
from parmap._launch.setup import budget, introduction
from parmap._loop import Loop
from parmap._wire import frames as fr
from parmap._wire.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._group.seat import Seat
    from parmap._launch.base import Launcher
    from parmap._launch.peer import Peer

log = logging.getLogger("parmap")


class GroupLoop(Loop[sup.Event, sup.Command]):
    """Starts, listens to, and ends the processes of one group."""

    def __init__(self, launcher: Launcher, name: str, *, grace: float) -> None:
        self.failures: list[Settle] = []  # in the order in which they were seen
        self._seats: dict[int, Seat] = {}
        self._peers: dict[int, Peer] = {}  # seat -> its present process
        self._processes = 0
        self._parent = multiprocessing.current_process().name, os.getpid()
        super().__init__(sup.Supervisor(grace=grace), launcher, name, overdue=sup.DeadlinePassed())

    def add(self, seat: Seat, max_restarts: int, within: float, delay: float) -> None:
        """Run the seat's function in a process of its own."""
        self._seats[seat.number] = seat
        self.post(sup.MemberAdded(seat.number, max_restarts, within, delay))

    def end(self, seat: Seat, *, kill: bool) -> None:
        """The owner ends this worker."""
        self.post(sup.EndRequested(seat.number, kill))

    def wait_settled(self, seats: Sequence[Seat], timeout: float | None) -> bool:
        """Wait until all have ended; whether they have within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for seat in seats:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not seat.wait(seat.is_settled, left):
                return False
        return True

    def leave(self, *, failed: bool) -> None:
        """The block is over: wait until nobody is left.

        `failed`: tell them to go.  Ctrl-C does that, too, and a second one kills.
        """
        try:
            self.post(sup.StopRequested() if failed else sup.Closed())
            self.join()
        except KeyboardInterrupt:
            self._leave_now()
            raise
        if self._broken is not None:
            raise closed(self.name, self._broken)

    def _leave_now(self) -> None:
        try:
            self.post(sup.StopRequested())
            self.join()
        except KeyboardInterrupt:
            for number in list(self._seats):
                self.post(sup.EndRequested(number, kill=True))
            self.join()
            raise

    def finish(self) -> None:
        """At exit an open group is ended."""
        self.post(sup.StopRequested())

    # ------------------------------------------------------------------ what workers say

    def _hear(self, peer: Peer, frame: Frame) -> None:
        seat = self._seats[frame.call] if frame.kind in (fr.RESULTS, fr.NOTICE) else None
        if seat is None:
            return  # READY: it got its function together with its name
        report = Report(frame, worker=seat.name, pid=peer.pid)
        if frame.kind == fr.NOTICE:
            seat.update(notice=report)
        else:
            failed = bool(frame.flags & fr.FLAG_FAILURES)
            self._tell(sup.Reported(seat.number, failed, report))

    def _bury(self, peer: Peer, exitcode: int | None, running: int) -> None:
        seat = next(number for number, known in self._peers.items() if known is peer)
        del self._peers[seat]
        self._tell(sup.Died(seat, exitcode))

    # ------------------------------------------------------------------ what the core commands

    def _obey(self, command: sup.Command) -> None:
        match command:
            case sup.Start(member):
                self._start(self._seats[member])
            case sup.Terminate(member):
                if (peer := self._peers.get(member)) is not None:
                    peer.terminate()
            case sup.Kill(member):
                if (peer := self._peers.get(member)) is not None:
                    peer.kill()
            case sup.Settle():
                self._settle(command)
            case sup.Restarting(member, end, exitcode, _, delay):
                log.warning(
                    "worker %s: %s (exit code %s), starting it again in %.3g s",
                    self._seats[member].name, end.value, exitcode, delay,
                )  # fmt: skip
            case _:
                assert_never(command)

    def _start(self, seat: Seat) -> None:
        self._processes += 1
        head = introduction(seat.name, budget(len(self._seats)), parent=self._parent)
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
        peer.post(Frame(fr.ADOPT, segments=[seat.surroundings.data]))
        sent = Frame(fr.FUNCTION, call=seat.number, segments=function.segments, fds=function.fds)
        # Ends of channels among the arguments are open until they have arrived, or for as long as
        # another process may still need them.
        peer.post(sent, None if seat.may_restart else function.close)
        peer.post(Frame(fr.MEMBER, call=seat.number))
        self._crew.flush(peer)

    def _settle(self, settled: Settle) -> None:
        seat = self._seats[settled.member]
        if settled.end in sup.FAILURES:
            self.failures.append(settled)
        seat.function.close()
        seat.update(settled=settled)

    def _ended(self) -> None:
        for seat in self._seats.values():
            if seat.settled is None:  # the loop broke
                seat.update(settled=Settle(seat.number, End.STOPPED, None, None, 1))
