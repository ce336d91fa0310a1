"""One worker as the parent holds it: its process, the link to it, and what it has been told."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from parmap._core.events import IDLE, UNKNOWN
from parmap._memory.fdpass import Link, Outbox
from parmap._memory.host import close_quietly
from parmap._memory.segment import Segment
from parmap._wire.control import CONTROL_BYTES, Control
from parmap._wire.frames import Frame, FrameReader, pack_frame
from parmap._worker.hygiene import CUT_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._launch.base import Child

# Frames of one worker are read this often before the others get their turn.
_READS_PER_TURN = 16


class Peer:
    """Owned by the driver: never blocks, neither reading nor writing."""

    __slots__ = (
        "_child", "_control", "_link", "_outbox", "_page", "_reader", "functions", "name",
        "number", "open", "surroundings",
    )  # fmt: skip

    def __init__(
        self, number: int, name: str, start: Callable[[str, Segment], tuple[Child, Link]]
    ) -> None:
        """Start the process.  Raises OSError when the system refuses."""
        self.number = number
        self.name = name
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
        self.surroundings: object = None  # the ones that it has taken over
        self.open = True  # its end of the stream has not been seen yet

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

    def send(self, frame: Frame) -> None:
        """Write a small frame now, while nothing waits in front of it."""
        self._outbox.post(pack_frame(frame))
        self.flush()

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
        if CUT_SIGNAL is not None:
            self.send_signal(CUT_SIGNAL)

    def terminate(self) -> None:
        """Interrupt what it runs (SIGTERM: its `finally` blocks run), and end it."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process, unless it is dead."""
        self._child.send_signal(number)

    def bury(self) -> tuple[int | None, int]:
        """The process is dead: its exit code, and what it was running.  Everything is closed."""
        exitcode = self._child.bury()
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
