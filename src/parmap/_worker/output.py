"""What a worker prints goes to its parent's `sys.stdout` and `sys.stderr`, in whole lines.

Lines, log records and warnings leave at once, through a pipe that all workers of a pool share: no
thread, no lock, and what has left is safe when the worker is killed.  A full pipe makes the writer
wait, so that a flood of text fills nobody's memory.
"""

from __future__ import annotations

import io
import os
import select
import sys
from _thread import _local
from itertools import count

from parmap._memory.host import lift
from parmap._wire.utterance import ERR, NONE, OUT, Utterance, parts

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap._wire.frames import Buffer

# A line that never ends is passed on in pieces of this many characters.
LONGEST_LINE = 1 << 20
_ATOMIC = getattr(select, "PIPE_BUF", 512)  # 512: what POSIX guarantees

# This process's way out; None: its streams are its own.
outlet: Outlet | None = None


class Outlet:
    """The writing end of the pipe.  May be used by any thread, handler of a signal or forked child."""

    __slots__ = ("_fd", "_numbers", "_worker", "name", "place", "wrote")

    def __init__(self, fd: int, worker: int) -> None:
        self._fd = fd
        self._worker = worker
        self._numbers = count()
        self.name = f"worker {worker}"
        self.place: Callable[[], tuple[int, int]] | None = None  # the chunk and the item of now
        self.wrote = False  # something, since the last report

    def send(self, kind: int, payload: bytes) -> bool:
        """Send a message, waiting for room.  False: nobody listens any more."""
        chunk, index = (NONE, NONE) if self.place is None else self.place()
        said = Utterance(
            kind, payload, worker=self._worker, pid=os.getpid(), chunk=chunk, index=index
        )
        self.wrote = True  # before it is, so that no report leaves it out
        try:
            for part in parts(said, next(self._numbers), _ATOMIC):
                os.write(self._fd, part)
        except OSError:
            return False
        return True

    def took_word(self) -> bool:
        """Whether something was said since this was asked last."""
        wrote, self.wrote = self.wrote, False
        return wrote


class _Line(_local):
    """What this thread has not finished."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0

    def take(self) -> str:
        text = "".join(self.pieces)
        self.pieces.clear()
        self.length = 0
        return text

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.length += len(text)


class Stream(io.TextIOBase):
    """Stands for `sys.stdout` or `sys.stderr`.  Each thread writes lines of its own."""

    def __init__(self, out: Outlet, kind: int, name: str, real: Any) -> None:
        self._out = out
        self._kind = kind
        self._real = real  # what leads to the descriptor itself, or None
        self._line = _Line()
        self.name = name
        self.mode = "w"
        self.buffer = Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "surrogateescape"

    @property
    def line_buffering(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Pass whole lines on; what is behind the last of them waits for its end, or `flush`."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        line = self._line
        lines, newline, rest = text.rpartition("\n")
        if newline:
            self._pass_on(line.take() + lines + newline)
        if rest:
            line.add(rest)
            if line.length > LONGEST_LINE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Pass on what this thread has written, also if its line has no end yet."""
        if self._line.length:
            self._pass_on(self._line.take())

    def _pass_on(self, text: str) -> None:
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half of a pair
            data = text.encode("utf-8", "backslashreplace")
        sent = self._out.send(self._kind, data)
        if not sent and self._real is not None:
            self._real.write(text)
            self._real.flush()

    def reconfigure(self, **settings: Any) -> None:
        """As of a text file.  Nothing to do: encoding and line ends are the parent's."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """The descriptor below, as inherited: what is written there is no text of ours."""
        if self._real is None:
            raise io.UnsupportedOperation("fileno")
        number: int = self._real.fileno()
        return number

    def isatty(self) -> bool:
        return self._real is not None and bool(self._real.isatty())


class Bytes(io.BufferedIOBase):
    """The `buffer` of such a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: Buffer) -> int:  # type: ignore[override]
        whole = bytes(data)
        self._stream.write(whole.decode("utf-8", "surrogateescape"))
        return len(whole)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()


def install(fd: int, worker: int) -> Outlet:
    """From now on this worker speaks through its parent, by the pipe `fd`."""
    global outlet
    from parmap._worker import forwarding

    outlet = Outlet(lift(fd), worker)
    sys.stdout = Stream(outlet, OUT, "<stdout>", sys.__stdout__)
    sys.stderr = Stream(outlet, ERR, "<stderr>", sys.__stderr__)
    forwarding.install(outlet)
    return outlet


def introduce(name: str) -> None:
    """Mark what is said with the worker's name."""
    if outlet is not None:
        outlet.name = name


def new_call() -> None:
    """What comes now is another call's."""
    if outlet is not None:
        from parmap._worker import forwarding

        forwarding.new_call()


def took_word() -> bool:
    """Whether this process said something since this was asked last."""
    return outlet is not None and outlet.took_word()
