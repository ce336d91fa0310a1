"""A loop of its own thread: events in, decisions by a pure core, commands out.

    callers ──inbox──▶ ┌──────┐ ──events──▶ ┌──────┐
                       │ Loop │             │ core │
    callers ◀─news──── └──────┘ ◀─commands─ └──────┘
                        │ link (frames) ▲ death (pidfd)
                        ▼               │
                        workers, one socket each, nothing shared between them

Only the thread that drives touches the core and the crew (`_wheel`: a thread of the loop's own, or a
caller that waits).  Others leave events in the inbox and wake whoever drives.  The loop may be entered
again from itself (user code that runs in it, pickling or a callback, may call parmap): each command is
taken from the queue before it is obeyed, and no state is half-changed while user code runs.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from parmap import _living
from parmap._calls.hearsay import hearsay
from parmap._hold import Hold
from parmap._launch.crew import Crew
from parmap._memory import pages
from parmap._overhearing import Overhearing, follows_words
from parmap._wheel import Wheel, release
from parmap.errors import start_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._calls.hearsay import Said
    from parmap._launch.base import Launcher
    from parmap._launch.peer import Peer
    from parmap._wire.frames import Frame

E = TypeVar("E")
C = TypeVar("C")
E_contra = TypeVar("E_contra", contravariant=True)

# Per channel: its identity (two numbers), and how many messages had been sent through it.
Claims = list[tuple[int, int, int]]


class Core(Protocol[E_contra, C]):
    """What decides.  Pure."""

    def handle(self, event: E_contra, *, now: float) -> list[C]: ...
    def next_deadline(self) -> float | None: ...
    @property
    def over(self) -> bool: ...


class Loop(Generic[E, C]):
    """Runs until its core is over.  A subclass hears what workers say, and obeys the core."""

    def __init__(self, core: Core[E, C], launcher: Launcher, name: str, *, overdue: E) -> None:
        """`overdue` is the event that says that a deadline has passed."""
        self.name = name
        self._core = core
        self._overdue = overdue
        self._crew = Crew(launcher)
        self._overhearing = Overhearing(
            self._crew, self._pass_on, self._ask_to_deliver, self._wake_for_words
        )
        self._inbox: deque[E] = deque()
        self._awake = False
        self._commands: deque[C] = deque()
        self._broken: BaseException | None = None
        self._pid = os.getpid()
        self._over = threading.Event()
        self._wheel = Wheel()
        self._thread = threading.Thread(target=self._run, name=f"{name}-driver", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # at the limit of threads
            self._crew.end()
            raise start_refused(f"the system has no room for workers: {error}") from error
        _living.register(self)

    # ------------------------------------------------------------------ for any thread

    def post(self, event: E, *, ring: bool = True) -> None:
        """Leave an event in the inbox.  Never waits; nothing happens once the loop has ended.

        `ring`: if nobody drives, somebody shall; False for whoever will do so themselves right away.
        """
        if not self.alive:
            return
        self._inbox.append(event)
        wheel = self._wheel
        if wheel.holder is None:
            if ring:
                wheel.ring()
        elif not self._awake and not wheel.mine:
            self._awake = True  # a few bytes at most are ever in the pipe
            self._crew.wake()

    def drive_until(
        self,
        done: Callable[[], bool],
        timeout: float | None = None,
        *,
        insist: bool = False,
        own: int | None = None,
    ) -> bool:
        """Run the loop in this thread until `done`, or for `timeout` seconds.  False: others run it.

        Then news come by themselves.  `insist`: the loop's own thread is asked to step back.  `own`:
        a call of this thread, which will soon drive again if the call is still open.  May end early,
        when a signal has come whose handler has been run by then.

        Where this thread drives already, user code that the loop runs (pickling, a future's
        callback) waits for parmap itself: waiting would stop the loop, so it is run from in here.
        """
        if self._wheel.mine and self.alive:
            while not done() and not self._core.over:
                self._turn()
            return True
        free = insist or self._wheel.holder is None
        if not free or self._is_ending or not self.alive:
            return False
        hold = Hold(self._crew.interrupt)
        hold.begin()
        try:
            if not self._take_wheel(hold, insist=insist):
                return bool(hold.noted)
            try:
                self._drive(done, timeout, hold)
            finally:
                self._leave_wheel(own)
        finally:
            hold.end()
        return True

    def nudge(self) -> None:
        """Let what was posted take its effect at once: if nobody drives, in this thread."""
        if self._wheel.holder is None:
            self.drive_until(lambda: True)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until no worker is left.  True if so."""
        apart = threading.current_thread() is not self._thread and not self._wheel.mine
        if self._pid == os.getpid() and apart and self._over.wait(timeout):
            self._thread.join()  # it tells those who still wait, and ends
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the loop runs, in this very process.

        The thread is not asked: Ctrl-C in `Thread.join` makes Python 3.11 and 3.12 believe that a
        thread which runs has ended.
        """
        return self._pid == os.getpid() and not self._over.is_set()

    @property
    def drives_here(self) -> bool:
        """Whether this very thread is at the wheel."""
        return self._wheel.mine

    @property
    def thread(self) -> threading.Thread:
        """The one that drives."""
        return self._thread

    def pids(self) -> list[int]:
        """Of the workers that are not known to be dead."""
        return [peer.pid for peer in list(self._crew.members.values())]

    def parked(self) -> Claims | None:
        """What the workers wait for, if they do nothing else; None if one of them may act."""
        raise NotImplementedError

    def finish(self) -> None:
        """The interpreter exits: end in an orderly way.  Does not wait."""
        raise NotImplementedError

    def disown(self) -> None:
        """This is a forked child: let go of the copies of the parent's descriptors."""
        self._crew.disown()

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._is_ending:
                if self._wheel.take_as_owner():
                    self._drive_for_others()
                    self._wheel.give()
                self._wheel.doze()
            if self._broken is not None:
                raise self._broken
        except BaseException as error:  # our own bug: tell everybody who waits, then say so
            self._broken = error
            raise
        finally:
            while not self._wheel.take_as_owner():
                self._wheel.doze()
            pages.forget()
            self._crew.end()  # somebody is left only if the loop broke
            self._over.set()
            self._wheel.give()  # whoever has asked for it finds nothing to do
            self._ended()

    @property
    def _is_ending(self) -> bool:
        return self._core.over or self._broken is not None

    def _drive_for_others(self) -> None:
        """In the loop's own thread: until a caller wants to drive, or may soon.

        Callers come in rows, and behind the last open one is the best moment to make room.
        """
        while not (self._is_ending or self._wheel.wanted):
            before = self._open_calls()
            self._turn()
            if before and not self._open_calls():
                return

    def _take_wheel(self, hold: Hold, *, insist: bool) -> bool:
        if self._wheel.take():
            return True
        hold.lock = self._wheel.ask() if insist else None
        if hold.lock is None:
            return False
        self._crew.wake()
        if hold.noted:  # before it could know of the lock
            release(hold.lock)
        return self._wheel.wait(hold.lock)

    def _drive(self, done: Callable[[], bool], timeout: float | None, hold: Hold) -> None:
        try:
            self._catch_up()  # which may be all that there was to do
            if timeout is None:
                while not (done() or hold.noted or self._is_ending):
                    self._turn()
            else:
                self._drive_for(timeout, done, hold)
        except BaseException as error:
            self._broken = error  # our own bug, which the loop's thread makes known to everybody

    def _drive_for(self, timeout: float, done: Callable[[], bool], hold: Hold) -> None:
        end = time.monotonic() + timeout
        while not (done() or hold.noted or self._is_ending):
            left = end - time.monotonic()
            self._turn(max(0.0, left))
            if left <= 0:
                return

    def _leave_wheel(self, own: int | None) -> None:
        self._wheel.leave()
        if self._inbox or self._commands or self._is_ending or self._others_wait(own):
            self._wheel.ring()

    def _turn(self, longest: float | None = None) -> None:
        """One round: obey and listen to callers, then wait and listen to workers."""
        self._catch_up()
        if self._core.over:
            return
        self._overhearing.begin_turn()
        patience = self._patience()
        for limit in (longest, pages.tidy(), self._crew.remind()):
            if limit is not None and (patience is None or limit < patience):
                patience = limit
        for peer, frame in self._crew.wait(patience):
            if frame is not None:
                self._heard(peer, frame)
            else:
                self._overhearing.take()
                self._bury(peer, *peer.bury())
        if self._crew.spoken:
            self._overhearing.take()
        if self._patience() == 0:
            self._tell(self._overdue)
        self._catch_up()

    def _heard(self, peer: Peer, frame: Frame) -> None:
        """What was said before this comes first."""
        if follows_words(frame):
            self._overhearing.take()
        self._hear(peer, frame)

    def _wake_for_words(self) -> None:
        """From the thread that has delivered so much that workers may go on."""
        if self._wheel.holder is None:
            self._wheel.ring()
        else:
            self._crew.wake()

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

    def _tell(self, event: E) -> None:
        self._commands += self._core.handle(event, now=time.monotonic())

    def _patience(self) -> float | None:
        deadline = self._core.next_deadline()
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    # ------------------------------------------------------------------ for the subclass

    def _hear(self, peer: Peer, frame: Frame) -> None:
        """A worker has said something."""
        raise NotImplementedError

    def _pass_on(self, said: Said) -> None:
        """A worker has said this beside its frames: have it delivered, whoever comes for it."""
        hearsay.serve()

    def _ask_to_deliver(self) -> None:
        """There is so much to deliver that workers have to wait: whoever waits for them shall help."""

    def _bury(self, peer: Peer, exitcode: int | None, running: int) -> None:
        """A worker is dead, and all that it had said has been heard."""
        raise NotImplementedError

    def _obey(self, command: C) -> None:
        """The core has commanded something."""
        raise NotImplementedError

    def _open_calls(self) -> int:
        """How much there is to do for callers.  0 for a loop whose callers never drive."""
        return 0

    def _others_wait(self, own: int | None) -> bool:
        """Whether there is more to do than for this call, whose caller has just driven."""
        return self._open_calls() > 0

    def _ended(self) -> None:
        """The loop is over (`_broken`, if that is why): leave nobody waiting."""
        raise NotImplementedError
