"""One place in a group: what runs there, and what became of it."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from parmap._calls import surroundings
from parmap._core.supervision import End
from parmap._memory.host import make_pipe
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from parmap._calls.news import Report
    from parmap._core.supervision import Settle
    from parmap._launch.peer import Peer
    from parmap._loop import Claims
    from parmap._wire.pickling import Codec, Encoded
    from parmap.errors import TaskFailure, WorkerLostError


def stay_here(self: object) -> NoReturn:
    """The `__reduce__` of what serves in one process only."""
    raise SerializationError(
        f"a {type(self).__name__} stays in the process that made it;"
        " send names, pids or results instead"
    )


class Seat:
    """A place in a group.

    The loop writes it, the `Worker` that its owner holds reads it; `changed` guards and tells.
    """

    def __init__(
        self, number: int, name: str, function: Encoded, codec: Codec, *, may_restart: bool
    ) -> None:
        self.number = number
        self.name = name
        self.may_restart = may_restart
        self.function = function
        self.codec = codec
        self.surroundings = surroundings.of_call()
        self.changed = threading.Condition(threading.RLock())
        # Of its own: decoding runs the user's code, and the loop never waits for that.
        self.decoding = threading.RLock()
        self._owner = os.getpid()
        self.starts = 0
        self.pid: int | None = None
        self.dead: Peer | None = None  # its last process, once that is
        self.settled: Settle | None = None
        self.notice: Report | None = None  # the latest that it said of being ready
        self.parked: Claims | None = None  # what its only thread has been waiting for, for long
        self.frames: dict[int, tuple[BaseException, TracebackType | None]] = {}
        self.decoded: dict[int, tuple[Report, Any, BaseException | None]] = {}
        self.failure: TaskFailure | None = None
        self.stopped: WorkerLostError | None = None  # what `result` raises if it was told to go
        self._exit: tuple[int, int] | None = None  # a pipe that ends when the seat is settled

    def update(self, **values: Any) -> None:
        """Set attributes and tell whoever waits for them."""
        with self.changed:
            for name, value in values.items():
                setattr(self, name, value)
            if self.settled is not None:
                self._ring()
            self.changed.notify_all()

    def is_settled(self) -> bool:
        """Whether it has ended."""
        return self.settled is not None

    def has_begun(self) -> bool:
        """Whether it has, or had, a process; or never will have one."""
        return self.pid is not None or self.settled is not None

    @property
    def was_stopped(self) -> bool:
        """Whether the group has told it to go before it was done."""
        return self.settled is not None and self.settled.end is End.STOPPED

    def wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `done`, at most `timeout` seconds; whether it is."""
        with self.changed:
            return self.changed.wait_for(done, timeout)

    def sentinel(self) -> int:
        """A descriptor that becomes readable when the seat is settled; kept until then and after."""
        with self.changed:
            if self._exit is None:
                self._exit = make_pipe()
                if self.settled is not None:
                    self._ring()
            return self._exit[0]

    def close(self) -> None:
        """Nobody holds the worker any more.  In any thread, and at any moment."""
        # In a forked child the lock may be held for ever, by a thread that is not there.
        with self.changed if self._owner == os.getpid() else nullcontext():
            ends, self._exit = self._exit, None
        for fd in ends or ():
            if fd >= 0:
                os.close(fd)

    def _ring(self) -> None:
        """Make the sentinel readable.

        By a byte: the end of the stream is not seen while a forked child holds a copy of it.
        """
        if self._exit is not None and (bell := self._exit[1]) >= 0:
            self._exit = self._exit[0], -1
            os.write(bell, b"x")
            os.close(bell)
