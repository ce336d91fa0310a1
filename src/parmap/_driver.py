"""The one loop: wait -> events -> core -> commands -> launcher.

    callers ──inbox──▶ ┌────────────┐ ──events──▶ ┌───────────┐
                       │   Driver   │             │ Scheduler │
    callers ◀─news──── └────────────┘ ◀─commands─ └───────────┘
                        │ link (frames) ▲ death (pidfd)
                        ▼               │
                        workers, one socket each, nothing shared between them

Only the thread that drives touches the scheduler and the crew.  Callers leave events in the inbox
and wake the loop; the news of a call is told to the call.  The loop may be entered again from
itself (user code that runs in it, pickling or a callback, may call parmap): each command is taken
from the queue before it is obeyed, and no state is half-changed while user code runs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, TypeVar, assert_never

from parmap._calls.remote import Ended, Lost, RemoteCall, Report
from parmap._calls.verdicts import closed, error_of
from parmap._core import commands as cmd
from parmap._core import events as ev
from parmap._core.scheduler import Scheduler
from parmap._launch.crew import Crew
from parmap._launch.peer import Peer
from parmap._wire import frames as fr
from parmap._wire.frames import Frame
from parmap._wire.payload import error_positions
from parmap.errors import InternalError, PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from parmap._launch.base import Launcher

T = TypeVar("T")

_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


class Driver:
    """The engine of one pool."""

    def __init__(
        self,
        launcher: Launcher,
        setup: Callable[[str], Frame],
        *,
        limit: int | None,
        idle_timeout: float | None,
        name: str,
    ) -> None:
        """`setup` gives the first frame for a worker of that name."""
        self.name = name
        self._setup = setup
        self._scheduler = Scheduler(limit=limit, idle_timeout=idle_timeout)
        self._crew = Crew(launcher)
        self._calls: dict[int, RemoteCall] = {}
        self._inbox: deque[ev.Event] = deque()
        self._awake = False
        self._commands: deque[cmd.Command] = deque()
        self._started = 0  # workers so far, for their names
        self._broken: BaseException | None = None
        self._closing = False
        self._ended = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=f"{name}-driver", daemon=True)
        self._thread.start()
        _drivers.add(self)

    # ------------------------------------------------------------------ for callers, any thread

    def open(self, call: RemoteCall) -> None:
        """Serve a call from now on."""
        if self._closing or not self.alive:
            raise PoolClosedError(self._why_closed())
        self._calls[call.id] = call
        if self._ended:  # the loop did not see it any more
            self._calls.pop(call.id, None)
            raise PoolClosedError(self._why_closed())
        self.post(ev.CallOpened(call.id, call.cap, call.chunksize, call.on_failure))

    def post(self, event: ev.Event) -> None:
        """Leave an event in the inbox.  Never waits; nothing happens once the loop has ended."""
        if not self.alive:
            return
        self._inbox.append(event)
        if not self._awake:
            self._awake = True  # a few bytes at most are ever in the pipe
            self._crew.wake()

    def wait_for(self, mailbox: SimpleQueue[T], timeout: float | None) -> T | None:
        """The next thing in a mailbox, or None if nothing comes within `timeout` seconds."""
        try:
            if timeout is not None:
                return mailbox.get(timeout=timeout) if timeout > 0 else mailbox.get_nowait()
        except Empty:
            return None
        self.drive_until(lambda: not mailbox.empty())
        return mailbox.get()

    def drive_until(self, done: Callable[[], bool]) -> None:
        """In the loop's own thread, where waiting would stop the loop: run it until `done`.

        User code that the loop runs (pickling, a future's callback) may wait for parmap itself.
        """
        if threading.current_thread() is self._thread:
            while not done() and not self._scheduler.over:
                self._turn()

    def cancel_waiting(self) -> None:
        """Cancel the submitted calls that no worker has begun."""
        for call in list(self._calls.values()):
            call.cancel_waiting()

    def close(self, *, cancel: bool) -> None:
        """Take no more calls; finish the open ones, or cancel them; then end the workers."""
        self._closing = True
        self.post(ev.ShutdownRequested(cancel))

    def join(self, timeout: float | None = None) -> bool:
        """Wait until no worker is left.  True if so."""
        if self._pid == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the loop runs, in this very process."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def describe(self) -> str:
        """State and numbers, for a repr: as they were a moment ago."""
        state = "closed" if self._closing or not self.alive else "open"
        return f"{state}: {len(self._crew.members)} workers, {len(self._calls)} calls"

    def disown(self) -> None:
        """This is a forked child: let go of the copies of the parent's descriptors."""
        self._crew.disown()

    def _why_closed(self) -> str:
        if self._pid != os.getpid():
            return f"{self.name} belongs to the process that made it; make one of your own here"
        return f"{self.name} has been shut down" + (f": {self._broken}" if self._broken else "")

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._scheduler.over:
                self._turn()
        except BaseException as error:  # our own bug: tell everybody who waits, then say so
            self._broken = error
            raise
        finally:
            self._end()

    def _turn(self) -> None:
        """One round: obey and listen to callers, then wait and listen to workers."""
        self._catch_up()
        if self._scheduler.over:
            return
        for peer, frame in self._crew.wait(self._patience()):
            if frame is not None:
                self._hear(peer, frame)
            else:
                exitcode, running = peer.bury()
                self._tell(ev.WorkerDied(peer.number, exitcode, running, peer))
        if self._patience() == 0:
            self._tell(ev.DeadlinePassed())
        self._catch_up()

    def _catch_up(self) -> None:
        """Obey what was commanded and hear what callers have said, until there is neither."""
        while True:
            while self._commands:
                self._obey(self._commands.popleft())
            self._awake = False  # from here on a caller's event ends the wait
            if not self._inbox:
                return
            while self._inbox:
                self._tell(self._inbox.popleft())

    def _tell(self, event: ev.Event) -> None:
        self._commands += self._scheduler.handle(event, now=time.monotonic())

    def _patience(self) -> float | None:
        deadline = self._scheduler.next_deadline()
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _end(self) -> None:
        """The loop is over; leave nothing behind and nobody waiting."""
        self._closing = self._ended = True
        self._crew.end()  # somebody is left only if the loop broke
        for call in list(self._calls.values()):
            call.tell(Ended(closed(self.name, self._broken)))
            call.close()

    # ------------------------------------------------------------------ what workers say

    def _hear(self, peer: Peer, frame: Frame) -> None:
        match frame.kind:
            case fr.RESULTS:
                self._hear_results(peer, frame)
            case fr.READY:
                up = frame.extra == 0
                self._tell(ev.WorkerUp(peer.number) if up else ev.WorkerReady(peer.number))
            case fr.INIT_FAILED:
                self._tell(ev.InitializerFailed(peer.number, bytes(frame.segments[0])))
            case _:
                raise InternalError(f"{peer!r} sent {frame!r}")

    def _hear_results(self, peer: Peer, frame: Frame) -> None:
        failed: tuple[int, ...] = ()
        if frame.flags & fr.FLAG_FAILURES:
            failed = tuple(frame.first + place for place in error_positions(frame.segments))
        self._tell(
            ev.ResultsArrived(
                peer.number,
                frame.chunk,
                frame.first,
                frame.count,
                failed,
                last=bool(frame.flags & fr.FLAG_LAST),
                elapsed=frame.extra * 1e-9,
                nbytes=sum(map(len, frame.segments)),
                payload=Report(frame, worker=peer.name, pid=peer.pid),
            )
        )

    # ------------------------------------------------------------------ what the core commands

    def _obey(self, command: cmd.Command) -> None:
        match command:
            case cmd.Assign():
                self._assign(command)
            case cmd.Deliver(call, _, _, payload):
                self._deliver(call, payload)
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

    def _obey_about(
        self,
        peer: Peer,
        command: cmd.DropChunks | cmd.StopWorker | cmd.TerminateWorker | cmd.KillWorker,
    ) -> None:
        match command:
            case cmd.DropChunks(_, chunk):
                peer.drop_chunks(chunk)
            case cmd.StopWorker():
                peer.post(Frame(fr.STOP))
                self._crew.flush(peer)
            case cmd.TerminateWorker():
                peer.send_signal(signal.SIGTERM)
            case cmd.KillWorker():
                peer.send_signal(signal.SIGKILL)
            case _:
                assert_never(command)

    def _start(self, worker: int) -> None:
        self._started += 1
        name = f"{self.name}-{self._started}"
        try:
            self._crew.start(worker, name, self._setup(name))
        except (
            Exception
        ) as error:  # whatever the system, or a start method of the stdlib, objects to
            self._tell(ev.WorkerNotStarted(worker, f"{type(error).__name__}: {error}"))

    def _assign(self, command: cmd.Assign) -> None:
        peer, call = self._crew.members.get(command.worker), self._calls.get(command.call)
        if peer is None or call is None:
            return  # it died meanwhile, which gives the chunk back
        if not call.begin():
            # Cancelled at the last moment: the chunk comes back unsent, and nobody waits for it.
            self._tell(ev.CallCancelled(call.id))
            self._tell(
                ev.ResultsArrived(command.worker, command.chunk, command.start, 0, last=True)
            )
            return
        if peer.surroundings is not call.surroundings:
            peer.surroundings = call.surroundings
            peer.post(Frame(fr.ADOPT, segments=[call.surroundings.data]))
        if call.id not in peer.functions:
            peer.functions.add(call.id)
            peer.post(call.function_frame(), call.give_back)
        frame, payload = call.chunk_frame(command)  # pickling: user code, which may call parmap
        peer.post(frame, payload.close)
        self._crew.flush(peer)

    def _deliver(self, call: int, report: object) -> None:
        if (known := self._calls.get(call)) is not None:
            assert isinstance(report, Report)
            known.appetite = self._scheduler.appetite(call)
            known.tell(report)

    def _settle_lost(self, command: cmd.SettleLost) -> None:
        if (call := self._calls.get(command.call)) is not None:
            peer = command.who
            assert isinstance(peer, Peer)
            call.tell(Lost(command.index, peer.name, peer.pid, command.exitcode, command.attempts))

    def _finish(self, call: int, error: BaseException | None) -> None:
        for peer in self._crew.members.values():
            if call in peer.functions:
                peer.functions.discard(call)
                peer.post(Frame(fr.FORGET, call=call))
                self._crew.flush(peer)
        if (known := self._calls.pop(call, None)) is not None:
            known.close()
            known.tell(Ended(error))


def end_all() -> None:
    """At exit: let every engine finish what was submitted, then wait until its workers are gone."""
    drivers = list(_drivers)
    for driver in drivers:
        driver.close(cancel=False)
    for driver in drivers:
        driver.join()


def _disown_all() -> None:
    """In a forked child: the engines are the parent's; only copies of their descriptors are here."""
    for driver in list(_drivers):
        driver.disown()
    _drivers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
