"""The workers of one pool: started, listened to, written to, buried.  One wait for all of them."""

from __future__ import annotations

import os
import selectors
import signal
import threading
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from parmap._core.deadlines import LONGEST_WAIT
from parmap._launch.ear import Ear
from parmap._launch.peer import Peer
from parmap._launch.reminders import WAKING, Reminders
from parmap._memory.host import close_quietly, give_way, make_pipe, passes_descriptors
from parmap._wire import frames as fr
from parmap._wire.frames import Frame
from parmap._worker.hygiene import ASK_SIGNAL
from parmap.errors import InternalError, start_refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parmap._launch.base import Launcher
    from parmap._wire.utterance import Utterance

# What it takes to fall asleep and be woken; seconds.
AWAKE = 0.00005
_HELD = {signal.SIGINT, signal.SIGTERM}


class Crew:
    """Owned by the thread that drives; only `wake` may be called from any other.

    `members` are the workers that are not known to be dead, by number.
    """

    def __init__(self, launcher: Launcher) -> None:
        self.members: dict[int, Peer] = {}
        self._launcher = launcher
        self._reminders = Reminders()
        self._gate = threading.RLock()  # an object's end, at any moment, may wake as well
        self.spoken = False  # something was said, and has not been heard yet
        self._wake_end = self._waker_end = -1
        self._ear: Ear | None = None
        try:
            self._selector = selectors.DefaultSelector()
            try:
                self._open()
            except OSError:
                self._close()
                raise
        except OSError as error:
            words = f"{type(error).__name__}: {error}"
            raise start_refused(f"the system has no room for workers: {words}") from error

    def _open(self) -> None:
        self._wake_end, self._waker_end = make_pipe()
        os.set_blocking(self._wake_end, False)
        os.set_blocking(self._waker_end, False)
        self._selector.register(self._wake_end, selectors.EVENT_READ)
        if passes_descriptors():  # else workers speak to wherever their own descriptors lead
            self._ear = Ear()
            self.listen(True)

    def wake(self) -> None:
        """End the wait that is in progress, or the next one at once."""
        with self._gate:  # once it is closed the number may be another file's
            if self._waker_end < 0:
                return
            try:
                os.write(self._waker_end, b"x")
            except BlockingIOError:
                return  # full: it is awake anyway

    def interrupt(self) -> None:
        """As `wake`, from the handler of a signal in the thread that drives.

        Without the gate, which this very thread may hold; while it drives, nobody closes anything.
        """
        try:
            os.write(self._waker_end, b"x")
        except BlockingIOError:
            return

    def wait(self, timeout: float | None) -> Iterator[tuple[Peer, Frame | None]]:
        """What the workers said until now, waiting for something if need be; None is a death.

        A death is told only after all that this worker had said.
        """
        dead: list[Peer] = []
        longest = None if timeout is None else min(timeout, LONGEST_WAIT)
        for key, _ in self._selector.select(longest):
            peer = key.data
            if peer is None:
                self._drain_wake_pipe()
            elif peer is self._ear:
                self.spoken = True
            elif key.fd == peer.death_fileno():
                dead.append(peer)
            elif peer.open:
                for frame in self._listen(peer):
                    yield peer, frame
        for peer in dead:
            if self.members.pop(peer.number, None) is None:
                continue  # buried in a nested wait
            self._selector.unregister(peer.death_fileno())
            if peer.open:
                self._selector.unregister(peer.fileno())
            for frame in peer.last_words():
                yield peer, frame
            yield peer, None

    def hear(self) -> list[Utterance]:
        """All that workers have said, beside their frames, until now."""
        self.spoken = False
        return [] if self._ear is None else self._ear.hear()

    def listen(self, listens: bool) -> None:
        """Whether something that is said ends a wait; if not, a worker that says too much waits."""
        ear = self._ear
        if ear is None or ear.listens == listens:
            return
        ear.listens = listens
        if listens:
            self._selector.register(ear.fileno(), selectors.EVENT_READ, ear)
        else:
            self._selector.unregister(ear.fileno())

    @property
    def is_deaf(self) -> bool:
        """Whether it does not listen at present."""
        return self._ear is not None and not self._ear.listens

    def only(self, peer: Peer, timeout: float) -> bool:
        """Wait for something to happen; whether it is that this worker has something to say.

        For a moment awake: to fall asleep and be woken costs more than the worker needs for a small
        task.  Whoever can use the CPU gets it meanwhile, this very worker for one.
        """
        look = self._selector.select
        end = perf_counter() + min(timeout, AWAKE)
        while not (ready := look(0)) and perf_counter() < end:
            give_way()
        ready = ready or look(timeout)
        return len(ready) == 1 and ready[0][0].fd == peer.fileno()

    def start(self, number: int, name: str, *first: Frame) -> Peer:
        """Start a worker and tell it the first things.  Raises OSError when the system refuses."""
        with _signals_held():
            peer = Peer(number, name, self._launcher.start)
        self.members[number] = peer
        self._selector.register(peer.death_fileno(), selectors.EVENT_READ, peer)
        self._selector.register(peer.fileno(), selectors.EVENT_READ, peer)
        if self._ear is not None:
            peer.post(Frame(fr.OUTPUT, extra=number, fds=[self._ear.mouth]))
        for frame in first:
            peer.post(frame)
        self.flush(peer)
        return peer

    def flush(self, peer: Peer) -> None:
        """Write what goes now; the rest when there is room."""
        peer.flush()
        if peer.backlog != peer.awaits_room and peer.open and peer.number in self.members:
            peer.awaits_room = peer.backlog
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.backlog else 0)
            self._selector.modify(peer.fileno(), wanted, peer)

    def send(self, peer: Peer, frame: Frame) -> None:
        """As `Peer.post` and `flush`, for a small frame without descriptors."""
        peer.send(frame)
        if peer.backlog:
            self.flush(peer)

    def cut(self, peer: Peer, chunk: int) -> None:
        """This worker shall give back what it has not run of its chunks up to this one."""
        peer.drop_chunks(chunk)
        self._reminders.add(peer, ASK_SIGNAL, 0.2)

    def terminate(self, peer: Peer) -> None:
        """This worker shall stop what it runs (its `finally` blocks run), and end."""
        peer.terminate()
        self._reminders.add(peer, WAKING)

    def remind(self) -> float | None:
        """Send the signals that are due once more; the seconds until the next are, if any."""
        return self._reminders.send_due(self.members)

    def end(self) -> None:
        """Kill who is left, and close everything."""
        for peer in self.members.values():
            peer.kill()
            _wait_readable(peer.death_fileno())
            peer.bury()
        self.members.clear()
        self._launcher.end()
        with self._gate:
            self._close()

    def disown(self) -> None:
        """Close our descriptors' copies.  In a forked child: the workers are the parent's.

        Not under the gate: another thread may have held it at the fork.
        """
        self._close()

    def _close(self) -> None:
        # Once only: a loop that has ended may live on, and its numbers be other files' by then.
        ends, self._wake_end, self._waker_end = (self._wake_end, self._waker_end), -1, -1
        self._selector.close()
        if self._ear is not None:
            self._ear.close()
        for fd in ends:
            if fd >= 0:
                close_quietly(fd)

    def _listen(self, peer: Peer) -> list[Frame]:
        try:
            frames = peer.read()
        except InternalError:
            # What came is no frame: its task has written to a descriptor that is not its own.
            peer.open = False
            frames = []
        if peer.open:
            if peer.backlog or peer.awaits_room:
                self.flush(peer)
        else:
            # It said goodbye or lost its socket: either way nobody can talk to it any more.
            self._selector.unregister(peer.fileno())
            peer.kill()
        return frames

    def _drain_wake_pipe(self) -> None:
        try:
            os.read(self._wake_end, 4096)
        except BlockingIOError:
            return  # a nested wait has done it


def _wait_readable(fd: int) -> None:
    """By a selector: `select.select` knows no number above 1023."""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        selector.select()


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
