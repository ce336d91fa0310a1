"""One worker as the parent holds it: its process, the link to it, and what it has been told."""

from __future__ import annotations

import signal
from time import perf_counter_ns
from typing import TYPE_CHECKING

from parmap._core.events import IDLE, UNKNOWN
from parmap._launch.autopsy import is_fault, last_stack, oom_kills
from parmap._launch.family import end_descendants
from parmap._memory.host import close_quietly
from parmap._memory.outbox import Outbox
from parmap._memory.segment import Segment
from parmap._wire import frames as fr
from parmap._wire.control import CONTROL_BYTES, Control
from parmap._wire.frames import Frame, FrameReader, pack_frame
from parmap._worker.hygiene import ASK_SIGNAL, DUMP_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._launch.base import Child
    from parmap._memory.fdpass import Link

# Frames of one worker are read this often before the others get their turn.
_READS_PER_TURN = 16


class Peer:
    """Owned by the driver: never blocks, neither reading nor writing."""

    __slots__ = (
        "_asked", "_child", "_control", "_cpus", "_late", "_link", "_oom_kills", "_outbox", "_page",
        "_reader", "awaits_room", "functions", "name", "number", "oom_kills", "open",
        "peak_rss", "ready_at", "stack", "started_at", "surroundings", "weights",
    )  # fmt: skip

    def __init__(
        self, number: int, name: str, start: Callable[[str, Segment], tuple[Child, Link]]
    ) -> None:
        """Start the process.  Raises OSError when the system refuses."""
        self.number = number
        self.name = name
        self.started_at = perf_counter_ns()
        self.ready_at: int | None = None
        self._page = Segment.create(CONTROL_BYTES)
        try:
            self._child, self._link = start(name, self._page)
        except BaseException:
            self._page.close()
            raise
        self._control = Control(self._page)
        self._outbox = Outbox(self._link)
        self._reader = FrameReader(close_quietly)
        self.functions: dict[int, int] = {}  # the functions that it has -> for which call last
        self.weights: dict[int, float] = {}  # chunks that it has -> bytes per item
        self.surroundings: object = None  # the ones that it has taken over
        self._cpus: int | None = None  # that it knows to be there for the calls within it
        self.open = True  # its end of the stream has not been seen yet
        self.awaits_room = False  # what is posted to it is more than goes now
        self._asked = False  # a question to it is open
        self._late = False  # it is ended because of a deadline
        # Known once it is dead, where they can be known at all:
        self.stack: str | None = None
        self.peak_rss: int | None = None
        self.oom_kills: int | None = None
        self._oom_kills = oom_kills()  # before it lived

    @property
    def pid(self) -> int:
        return self._child.pid

    def fileno(self) -> int:
        """The link's descriptor: readable when the worker has said something, or its end."""
        return self._link.fileno()

    def death_fileno(self) -> int:
        """Readable when the process is dead."""
        return self._child.fileno()

    @property
    def backlog(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._outbox)

    def post(self, frame: Frame, done: Callable[[], object] | None = None) -> None:
        """Queue a frame; `done` is called when it was sent or dropped."""
        self._outbox.post(pack_frame(frame), frame.fds, done)

    def allow(self, cpus: int) -> None:
        """Queue the word on how many CPUs there are for the calls within it, if that is news."""
        if self._cpus != cpus:
            self._cpus = cpus
            self.post(Frame(fr.CPUS, extra=cpus))

    def send(self, frame: Frame) -> None:
        """As `post` and `flush`, for a small frame without descriptors."""
        message = b"".join(pack_frame(frame))
        try:
            self._outbox.send(message)
        except OSError:
            self._outbox.clear()

    def flush(self) -> None:
        """Write what goes without waiting.  A dead reader is no error here: its death will be seen."""
        try:
            self._outbox.flush()
        except OSError:
            self._outbox.clear()

    def read(self) -> list[Frame]:
        """The frames that have come; `open` turns False at the end of the stream."""
        frames: list[Frame] = []
        for _ in range(_READS_PER_TURN):
            # A frame that fills the buffer to its end is rare; then the next wait ends at once.
            if not self._read_once(frames) or self._reader.at_boundary:
                break
        return frames

    def last_words(self) -> list[Frame]:
        """Everything a dead process had written, and goodbye to the link."""
        frames: list[Frame] = []
        while self.open and self._read_once(frames):
            continue
        return frames

    def drop_chunks(self, chunk: int) -> None:
        """The worker gives back what it has not run of its chunks up to this one."""
        self._control.drop = chunk
        if ASK_SIGNAL is not None:
            self.send_signal(ASK_SIGNAL)

    def terminate(self) -> None:
        """Interrupt what it runs (SIGTERM: its `finally` blocks run), and end it."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def look(self) -> tuple[int, float | None]:
        """What it runs, as in `bury`, and since when, if that is known; if not, it is asked.

        Then the next look may know.
        """
        running = self._control.running
        if running > 0:
            return running - 1, self._control.began * 1e-9
        if running == 0:
            return IDLE, None
        answer = self._control.answered if self._asked else None
        if (answer is not None or not self._asked) and ASK_SIGNAL is not None:
            self._asked = True
            self._control.ask()
            self.send_signal(ASK_SIGNAL)
        return UNKNOWN if answer is None else answer, None

    def end_late(self) -> None:
        """It is stuck: end its descendants, and let it write its stack down and die of that.

        Stopped first, so that it cannot start another process meanwhile.  What stops it, stuck in C
        or stopped by somebody else, does not keep the signal from being handled when it goes on.
        """
        self._late = True
        if DUMP_SIGNAL is None:
            self.kill()
            return
        self.send_signal(signal.SIGSTOP)
        end_descendants(self.pid)
        self.send_signal(DUMP_SIGNAL)
        self.send_signal(signal.SIGCONT)

    def kill_family(self) -> None:
        """End it and all its descendants at once."""
        if DUMP_SIGNAL is not None:
            self.send_signal(signal.SIGSTOP)
            end_descendants(self.pid)
        self.kill()

    def send_signal(self, number: int) -> None:
        """Signal the process, unless it is dead."""
        self._child.send_signal(number)

    def bury(self) -> tuple[int | None, int]:
        """The process is dead: its exit code, and what it was running.  Everything is closed."""
        exitcode = self._child.bury()
        self.peak_rss = self._child.peak_rss
        if self._late or is_fault(exitcode):
            self.stack = last_stack(self._page.fileno())
        if exitcode == -9 and self._oom_kills is not None:
            self.oom_kills = (oom_kills() or 0) - self._oom_kills
        running = self._control.running
        self._outbox.clear()
        self._reader.close()
        self._link.close()
        self._control.release()
        self._page.close()
        return exitcode, running - 1 if running > 0 else IDLE if running == 0 else UNKNOWN

    def _read_once(self, frames: list[Frame]) -> bool:
        try:
            size, fds = self._link.receive_into(self._reader.get_buffer())
        except BlockingIOError:
            return False
        if size == 0:
            self.open = False
            return False
        frames += self._reader.received(size, fds)
        return True

    def __repr__(self) -> str:
        return f"<Peer {self.name} pid={self.pid}>"
