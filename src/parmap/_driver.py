"""The one loop: wait -> events -> core -> commands -> launcher.

    callers ──inbox──▶ ┌────────────┐ ──events──▶ ┌───────────┐
                       │   Driver   │             │ Scheduler │
    callers ◀─mailbox─ └────────────┘ ◀─commands─ └───────────┘
                        │ link (frames) ▲ death (pidfd)
                        ▼               │
                        workers, one socket each, nothing shared between them

Only the thread that drives touches the scheduler and the peers.  Callers leave events in the inbox
and wake the loop; the news of a call goes into its own mailbox.  The loop may be entered again from
itself (user code that runs in it, pickling or a callback, may call parmap): each command is taken
from the queue before it is obeyed, and no state is half-changed while user code runs.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, assert_never

from parmap._engine_errors import closed, error_of
from parmap._call import Ended, Lost, RemoteCall, Report
from parmap._core import commands as cmd
from parmap._core import events as ev
from parmap._core.scheduler import Scheduler
from parmap._launch.base import Launcher
from parmap._launch.peer import Peer
from parmap._memory.host import close_quietly, lift
from parmap._wire import frames as fr
from parmap._wire.frames import Frame
from parmap._wire.payload import error_positions
from parmap.errors import InternalError, PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from queue import SimpleQueue

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
        self._launcher = launcher
        self._setup = setup
        self._scheduler = Scheduler(limit=limit, idle_timeout=idle_timeout)
        self._peers: dict[int, Peer] = {}
        self._calls: dict[int, RemoteCall] = {}
        self._inbox: deque[ev.Event] = deque()
        self._commands: deque[cmd.Command] = deque()
        self._started = 0  # workers so far, for their names
        self._broken: BaseException | None = None
        self._closing = False
        self._ended = False
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._wake_fds = tuple(lift(fd) for fd in os.pipe())
        self._awake = False
        for fd in self._wake_fds:
            os.set_blocking(fd, False)
        self._selector.register(self._wake_fds[0], selectors.EVENT_READ)
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
        self._post(ev.CallOpened(call.id, call.cap, call.chunksize, call.on_failure))

    def items_added(self, call: RemoteCall, count: int) -> None:
        """The call has `count` more items."""
        if count:
            self._post(ev.ItemsAdded(call.id, count))

    def input_ended(self, call: RemoteCall) -> None:
        """The call gets no more items."""
        self._post(ev.InputEnded(call.id))

    def cancel(self, call: RemoteCall, *, hurry: bool) -> None:
        """Give a call up.  Never waits; may be called from a finaliser, and by a forked child."""
        if self.alive:
            self._post(ev.CallCancelled(call.id, hurry))

    def wait_for(self, mailbox: SimpleQueue[Any], *, block: bool) -> Any:
        """The next thing in a mailbox, or None if there is nothing and `block` is False."""
        if not block:
            return None if mailbox.empty() else mailbox.get()
        if threading.current_thread() is self._thread:
            # User code that the loop runs has called parmap.  Whoever waits here must drive.
            while mailbox.empty():
                self._turn()
        return mailbox.get()

    def cancel_waiting(self) -> None:
        """Cancel the submitted calls that no worker has begun."""
        for call in list(self._calls.values()):
            call.cancel_waiting()

    def describe(self) -> str:
        """State and numbers, for a repr: as they were a moment ago."""
        state = "closed" if self._closing or not self.alive else "open"
        return f"{state}: {len(self._peers)} workers, {len(self._calls)} calls"

    def close(self, *, cancel: bool) -> None:
        """Take no more calls; finish the open ones, or cancel them; then end the workers."""
        self._closing = True
        if self.alive:
            self._post(ev.ShutdownRequested(cancel))

    def join(self, timeout: float | None = None) -> bool:
        """Wait until no worker is left.  True if so."""
        if self._pid == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the loop runs, in this very process."""
        return self._pid == os.getpid() and self._thread.is_alive()

    @property
    def workers(self) -> list[int]:
        """The pids of the workers, as they were a moment ago."""
        return [peer.pid for peer in list(self._peers.values())]

    def disown(self) -> None:
        """This is a forked child: let go of the copies of the parent's descriptors."""
        self._selector.close()
        for fd in self._wake_fds:
            close_quietly(fd)

    def _post(self, event: ev.Event) -> None:
        self._inbox.append(event)
        if not self._awake:
            self._awake = True  # at most a few bytes are ever in the pipe
            try:
                os.write(self._wake_fds[1], b"x")
            except OSError:
                return  # full: it is awake; closed: the loop has ended, and nobody listens

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
        """One round: obey and listen to callers, wait, listen to workers, bury the dead."""
        self._catch_up()
        if self._scheduler.over:
            return
        dead = []
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._drain_wake_pipe()
            elif key.fd == key.data.death_fileno():
                dead.append(key.data)
            else:
                self._serve(key.data)
        for peer in dead:  # after all pipes are drained: last words count
            self._bury(peer)
        deadline = self._scheduler.next_deadline()
        if deadline is not None and deadline <= time.monotonic():
            self._tell(ev.DeadlinePassed())
        self._catch_up()

    def _catch_up(self) -> None:
        """Obey what was commanded and hear what callers have said, until there is neither."""
        while True:
            while self._commands:
                self._obey(self._commands.popleft())
            self._awake = False  # from here on a caller's event wakes the selector
            if not self._inbox:
                return
            while self._inbox:
                self._tell(self._inbox.popleft())

    def _drain_wake_pipe(self) -> None:
        try:
            os.read(self._wake_fds[0], 4096)
        except BlockingIOError:
            return  # a nested turn has done it

    def _tell(self, event: ev.Event) -> None:
        self._commands += self._scheduler.handle(event, now=time.monotonic())

    def _patience(self) -> float | None:
        deadline = self._scheduler.next_deadline()
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _end(self) -> None:
        """The loop is over; leave nothing behind and nobody waiting."""
        self._closing = self._ended = True
        for peer in list(self._peers.values()):  # there are some only if the loop broke
            peer.send_signal(signal.SIGKILL)
            select.select([peer.death_fileno()], [], [])
            peer.bury()
        self._peers.clear()
        for call in list(self._calls.values()):
            call.tell(Ended(closed(self.name, self._broken)))
        self._selector.close()
        for fd in self._wake_fds:
            close_quietly(fd)

    # ------------------------------------------------------------------ what workers say

    def _serve(self, peer: Peer) -> None:
        """The link is readable or writable."""
        if peer.number not in self._peers or not peer.open:
            return  # seen to in a nested turn
        if peer.backlog:
            peer.flush()
        for frame in peer.read():
            self._hear(peer, frame)
        if peer.open:
            self._watch(peer)
        else:
            # It said goodbye or lost its socket: either way nobody can talk to it any more.
            self._selector.unregister(peer.fileno())
            peer.send_signal(signal.SIGKILL)

    def _bury(self, peer: Peer) -> None:
        """The process is dead: what it had said counts, then its death does."""
        if self._peers.pop(peer.number, None) is None:
            return
        self._selector.unregister(peer.death_fileno())
        if peer.open:
            self._selector.unregister(peer.fileno())
        for frame in peer.last_words():
            self._hear(peer, frame)
        exitcode, running = peer.bury()
        self._tell(ev.WorkerDied(peer.number, exitcode, running, peer))

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
        report = Report(
            frame.first,
            frame.count,
            frame.segments,
            frame.fds,
            block=bool(frame.flags & fr.FLAG_BLOCK),
            failures=bool(failed),
            worker=peer.name,
            pid=peer.pid,
        )
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
                payload=report,
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
            case cmd.FailCall():
                self._finish(command.call, error_of(command, self.name))
            case cmd.StartWorker(worker):
                self._start(worker)
            case cmd.DropChunks(worker, chunk):
                if (peer := self._peers.get(worker)) is not None:
                    peer.drop_chunks(chunk)
            case cmd.StopWorker(worker):
                if (peer := self._peers.get(worker)) is not None:
                    peer.post(Frame(fr.STOP))
                    self._flush(peer)
            case cmd.TerminateWorker(worker):
                self._signal(worker, signal.SIGTERM)
            case cmd.KillWorker(worker):
                self._signal(worker, signal.SIGKILL)
            case _:
                assert_never(command)

    def _start(self, worker: int) -> None:
        self._started += 1
        name = f"{self.name}-{self._started}"
        try:
            with _signals_held():
                peer = Peer(worker, name, self._launcher.start)
        except Exception as error:  # whatever the system or the stdlib's start method objects to
            self._tell(ev.WorkerNotStarted(worker, f"{type(error).__name__}: {error}"))
            return
        self._peers[worker] = peer
        self._selector.register(peer.death_fileno(), selectors.EVENT_READ, peer)
        self._selector.register(peer.fileno(), selectors.EVENT_READ, peer)
        peer.post(self._setup(name))
        self._flush(peer)

    def _assign(self, command: cmd.Assign) -> None:
        peer, call = self._peers.get(command.worker), self._calls.get(command.call)
        if peer is None or call is None:
            return  # it died meanwhile, which gives the chunk back
        if not call.begin():
            # Cancelled at the last moment: the chunk comes back unsent, and nobody waits for it.
            self._tell(ev.CallCancelled(call.id))
            unsent = ev.ResultsArrived(
                command.worker, command.chunk, command.start, 0, last=True
            )
            self._tell(unsent)
            return
        if peer.surroundings is not call.surroundings:
            peer.surroundings = call.surroundings
            peer.post(Frame(fr.ADOPT, segments=[call.surroundings.data]))
        if call.id not in peer.functions:
            peer.functions.add(call.id)
            peer.post(call.function_frame(), call.give_back)
        frame, payload = call.chunk_frame(command)  # pickling: user code, which may call parmap
        peer.post(frame, payload.close)
        self._flush(peer)

    def _deliver(self, call: int, report: object) -> None:
        if (known := self._calls.get(call)) is not None and isinstance(report, Report):
            known.appetite = self._scheduler.appetite(call)
            known.tell(report)

    def _settle_lost(self, command: cmd.SettleLost) -> None:
        if (call := self._calls.get(command.call)) is not None:
            assert isinstance(command.who, Peer)
            call.tell(
                Lost(
                    command.index,
                    command.who.name,
                    command.who.pid,
                    command.exitcode,
                    command.attempts,
                )
            )

    def _finish(self, call: int, error: BaseException | None) -> None:
        if (known := self._calls.pop(call, None)) is not None:
            known.tell(Ended(error))
            known.close()
        for peer in self._peers.values():
            if call in peer.functions:
                peer.functions.discard(call)
                peer.post(Frame(fr.FORGET, call=call))
                self._flush(peer)

    def _signal(self, worker: int, number: signal.Signals) -> None:
        if (peer := self._peers.get(worker)) is not None:
            peer.send_signal(number)

    def _flush(self, peer: Peer) -> None:
        peer.flush()
        self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        """Wait for room to write only while something is to be written."""
        if peer.open and peer.number in self._peers:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.backlog else 0)
            if self._selector.get_key(peer.fileno()).events != wanted:
                self._selector.modify(peer.fileno(), wanted, peer)


_HELD = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process started in here holds Ctrl-C and SIGTERM back until it has handlers for them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_all(*, cancel: bool) -> None:
    """End every engine of this process and wait for it: at exit, Pools finish submitted work."""
    drivers = list(_drivers)
    for driver in drivers:
        driver.close(cancel=cancel)
    for driver in drivers:
        driver.join()


def _leave_behind() -> None:
    """In a forked child: the engines are the parent's; only their descriptors are here, too."""
    for driver in list(_drivers):
        driver.disown()
    _drivers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind)
