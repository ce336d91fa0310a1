"""The engine of a pool: the loop that serves calls, as its scheduler decides."""

from __future__ import annotations

import time
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, TypeVar, assert_never

from parmap._alone import send_alone
from parmap._calls import profiling, surroundings
from parmap._calls.hearsay import hearsay
from parmap._calls.news import Ended, Lost, Report, next_in
from parmap._calls.references import References
from parmap._calls.statistics import PoolStatistics, statistics_of
from parmap._calls.verdicts import closed, error_of, refused
from parmap._core import commands as cmd
from parmap._core import events as ev
from parmap._launch.peer import Peer
from parmap._loop import Loop
from parmap._watching import dump_stacks_on_request, new_scheduler
from parmap._wire import frames as fr
from parmap._wire.frames import Frame
from parmap._wire.payload import error_positions
from parmap.errors import InternalError, PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from parmap._alone import Away
    from parmap._calls.hearsay import Said
    from parmap._calls.remote import RemoteCall
    from parmap._calls.submit import SubmittedCall
    from parmap._launch.base import Launcher
    from parmap._loop import Claims

T = TypeVar("T")


class Driver(Loop[ev.Event, cmd.Command]):
    """The engine of one pool."""

    def __init__(
        self,
        launcher: Launcher,
        setup: Callable[[str], Frame],
        *,
        limit: int | None,
        idle_timeout: float | None,
        name: str,
        shared: bool = False,
        max_tasks: int | None = None,
    ) -> None:
        """`setup` gives the first frame for a worker of that name; `shared`: nobody owns it; a
        worker that has run `max_tasks` items is replaced."""
        self.dropped_at_exit = shared
        self._setup: Callable[[str], Frame] | None = setup
        dump_stacks_on_request()
        self._scheduler = new_scheduler(
            name, limit=limit, idle_timeout=idle_timeout, max_tasks=max_tasks
        )
        self._calls: dict[int, RemoteCall] = {}
        self.away: Away | None = None  # a task that was sent and is not in the core's books
        self._references = References()
        self._started = 0  # workers so far, for their names
        self._closing = self._exiting = self._packing = False
        super().__init__(self._scheduler, launcher, name, overdue=ev.DeadlinePassed())

    # ------------------------------------------------------------------ for callers, any thread

    def check_open(self) -> None:
        """Raise if no call is taken any more, or not in this process."""
        if not self.is_open:
            raise refused(self.name, self._broken, self._pid)

    def open(self, call: RemoteCall) -> None:
        """Serve a call from now on; one that comes too late is told so."""
        if self.is_open:
            self._calls[call.id] = call
            if not self._over.is_set() or self._calls.pop(call.id, None) is None:
                return  # else the loop did not see it any more
        call.tell(Ended(refused(self.name, self._broken, self._pid)))
        call.close()

    def send_alone(self, call: SubmittedCall) -> bool:
        """Send a task beside the books, if there is nothing else; if not, nothing has happened."""
        return send_alone(self, call)

    def wait_for(
        self, mailbox: SimpleQueue[T], timeout: float | None, own: int, *, insist: bool
    ) -> T | None:
        """The next thing in a mailbox, or None if none comes in time.  Whoever waits, drives."""
        end = None if timeout is None else time.monotonic() + timeout
        left = timeout
        while mailbox.empty():
            drives = self.drive_until(lambda: not mailbox.empty(), left, insist=insist, own=own)
            if end is not None:
                left = max(0.0, end - time.monotonic())
            if not drives:
                return next_in(mailbox, left)
            if left == 0.0 and mailbox.empty():
                return None
        return mailbox.get()

    @property
    def is_serving(self) -> bool:
        """Whether a call is open, or none can be."""
        return bool(self._calls) or self._closing or not self.alive

    @property
    def packing(self) -> bool:
        """Whether this very thread is pickling items for a worker, by user code that calls us.

        That worker has the chunk already as far as the core knows; to wait for it here would be to
        wait for ever.
        """
        return self._packing and self._wheel.mine

    def parked(self) -> Claims | None:
        """Workers without a call do nothing."""
        return None if self._calls else []

    def cancel_waiting(self) -> None:
        """Cancel the submitted calls that no worker has begun."""
        for call in list(self._calls.values()):
            call.cancel_waiting()

    def close(self, *, cancel: bool, exiting: bool = False) -> None:
        """Take no more calls; finish the open ones, or cancel them; then end the workers.

        `exiting`: the interpreter is.  Who still waits then is a daemon thread, which is about to
        be frozen; it would be noise to raise in it first.
        """
        self._closing = True
        self._exiting = exiting
        self.post(ev.ShutdownRequested(cancel))

    def finish(self) -> None:
        """At exit Pools finish what was submitted, as Executors do; the shared one is ended."""
        self.close(cancel=self.dropped_at_exit, exiting=True)

    @property
    def is_open(self) -> bool:
        """Whether it takes calls, in this very process."""
        return self.alive and not self._closing

    def describe(self) -> str:
        """State and numbers, for a repr: as they were a moment ago."""
        return f"{'open' if self.is_open else 'closed'}: {self.statistics().in_words()}"

    def statistics(self) -> PoolStatistics:
        """What there is and what has been, in numbers, as of a moment ago."""
        return statistics_of(self._scheduler, self._started, self.away is not None)

    def _catch_up(self) -> None:
        if self.away is not None:
            self.away.write_down()
        super()._catch_up()

    def _open_calls(self) -> int:
        return len(self._calls)

    def _others_wait(self, own: int | None) -> bool:
        return len(self._calls) > (own in self._calls)

    def _ended(self) -> None:
        self._closing = True
        self._setup = None  # what it keeps open for the initializer goes now, not with the garbage
        while self._calls:
            _, call = self._calls.popitem()
            call.tell(Ended(closed(self.name, self._broken)))
            call.close()

    # ------------------------------------------------------------------ what workers say

    def _hear(self, peer: Peer, frame: Frame) -> None:
        match frame.kind:
            case fr.RESULTS:
                self._hear_results(peer, frame)
            case fr.CUT:
                self._tell(ev.ChunkCut(peer.number, frame.chunk, frame.first))
            case fr.READY:
                up = frame.extra == 0
                peer.ready_at = None if up else clock()
                self._tell(ev.WorkerUp(peer.number) if up else ev.WorkerReady(peer.number))
            case fr.INIT_FAILED:
                self._tell(ev.InitializerFailed(peer.number, bytes(frame.segments[0])))
            case _:
                raise InternalError(f"{peer!r} sent {frame!r}")

    def _bury(self, peer: Peer, exitcode: int | None, running: int) -> None:
        self._tell(ev.WorkerDied(peer.number, exitcode, running, peer))

    def _pass_on(self, said: Said) -> None:
        call = self._scheduler.call_of(said.worker, said.chunk)
        if call not in self._calls or not self._calls[call].overhear(said):
            hearsay.serve()

    def _ask_to_deliver(self) -> None:
        for call in self._calls.values():
            call.overhear(hearsay)

    def _hear_results(self, peer: Peer, frame: Frame) -> None:
        failed: tuple[int, ...] = ()
        flags, count = frame.flags, frame.count
        if profiling.on or flags & fr.FLAG_TIMES:
            self._tell_profile(peer, frame)
        if flags & fr.FLAG_FAILURES:
            failed = tuple(frame.first + place for place in error_positions(frame.segments))
        last = bool(flags & fr.FLAG_LAST)
        weight = (peer.weights.pop if last else peer.weights.get)(frame.chunk, 0.0)
        self._tell(
            ev.ResultsArrived(
                peer.number,
                frame.chunk,
                frame.first,
                count,
                failed,
                bool(flags & fr.FLAG_RETRIED),
                last,
                bool(flags & fr.FLAG_BLOATED),
                frame.extra * 1e-9,
                max(sum(map(len, frame.segments)), int(weight * count)),
                Report(frame, worker=peer.name, pid=peer.pid),
            )
        )

    def _tell_profile(self, peer: Peer, frame: Frame) -> None:
        """What a worker has measured goes to the record of the call."""
        times = frame.segments.pop() if frame.flags & fr.FLAG_TIMES else None
        worker = self._scheduler.workers.get(peer.number)
        call = self._calls.get(worker.chunks[0].call) if worker and worker.chunks else None
        if call is not None and call.record is not None:
            call.record.came(peer, frame, times)

    # ------------------------------------------------------------------ what the core commands

    def _obey(self, command: cmd.Command) -> None:
        match command:
            case cmd.Assign():
                self._assign(command)
            case cmd.Deliver(call, _, _, payload, attempt):
                self._deliver(call, payload, attempt)
            case cmd.SettleLost():
                self._settle_lost(command)
            case cmd.FinishCall(call):
                self._finish(call, None)
            case cmd.FailCall(call):
                self._finish(call, error_of(command, self.name))
            case cmd.StartWorker(worker):
                self._start(worker)
            case _:
                if (peer := self._crew.members.get(command.worker)) is not None:
                    self._obey_about(peer, command)

    def _obey_about(self, peer: Peer, command: cmd.AboutWorker) -> None:
        match command:
            case cmd.DropChunks(_, chunk) | cmd.CutChunks(_, chunk):
                self._crew.cut(peer, chunk)
            case cmd.StopWorker():
                peer.post(Frame(fr.STOP))
                self._crew.flush(peer)
            case cmd.TerminateWorker():
                self._crew.terminate(peer)
            case cmd.LookAt():
                self._tell(ev.Looked(peer.number, *peer.look()))
            case cmd.EndLateWorker():
                peer.end_late()
            case cmd.KillWorker(_, family):
                peer.kill_family() if family else peer.kill()
            case _:
                assert_never(command)

    def _start(self, worker: int) -> None:
        self._started += 1
        name = f"{self.name}-{self._started}"
        assert self._setup is not None
        now = surroundings.encoded()  # its initializer, too, finds what the caller could import
        adopt = surroundings.frame_of(now)
        try:
            self._crew.start(worker, name, adopt, self._setup(name)).surroundings = now
        # Whatever the system, or a start method of the stdlib, objects to.
        except Exception as error:
            self._tell(ev.WorkerNotStarted(worker, f"{type(error).__name__}: {error}"))

    def _assign(self, command: cmd.Assign) -> None:
        peer, call = self._crew.members.get(command.worker), self._calls.get(command.call)
        if peer is None:
            return  # it died meanwhile, which gives the chunk back
        if call is None or not call.begin():
            # Cancelled at the last moment: the chunk comes back unsent, and nobody waits for it.
            self._tell(ev.CallCancelled(command.call))
            back = ev.ResultsArrived(command.worker, command.chunk, command.start, 0, last=True)
            self._tell(back)
            return
        if peer.surroundings is not call.surroundings:
            peer.surroundings = call.surroundings
            peer.post(surroundings.frame_of(call.surroundings, peer.number))
        peer.allow(call.cpus)
        record, began = call.record, clock()
        before, self._packing = self._packing, True
        try:
            frame, done = call.chunk_frame(command)  # pickling: user code
        finally:
            self._packing = before
        if not call.is_alone:
            self._forget(self._references.lend(peer, call, frame))
        if record is not None and record.is_asked:
            frame.flags |= fr.FLAG_TIMED
            record.sends(peer, call, frame, began)
        peer.weights[frame.chunk] = frame.nbytes / frame.count
        peer.post(frame, done)
        self._crew.flush(peer)

    def _deliver(self, call: int, report: object, attempt: int) -> None:
        if (known := self._calls.get(call)) is not None:
            assert isinstance(report, Report)
            report.attempt = attempt
            known.appetite = self._scheduler.appetite(call)
            known.tell(report)

    def _settle_lost(self, command: cmd.SettleLost) -> None:
        if (call := self._calls.get(command.call)) is not None:
            peer = command.who
            assert peer is None or isinstance(peer, Peer)
            call.tell(Lost(command, peer))

    def _finish(self, call: int, error: BaseException | None) -> None:
        known = self._calls.pop(call, None)
        if known is not None:
            if not self._references.give_back(known):
                self._forget(known.key)
            known.close()
            if not (self._exiting and isinstance(error, PoolClosedError)):
                known.tell(Ended(error))

    def _forget(self, key: int | None) -> None:
        """The workers need the function of this key no more."""
        if key is None:
            return
        for peer in self._crew.members.values():
            if peer.functions.pop(key, None) is not None:
                peer.post(Frame(fr.FORGET, call=key))
                self._crew.flush(peer)
