"""One place in a group: what runs there, and what became of it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from parmap._calls import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._calls.remote import Report
    from parmap._core.supervision import Settle
    from parmap._wire.pickling import Codec, Encoded
    from parmap.errors import TaskFailure


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
        self.surroundings = surroundings.encoded()
        self.changed = threading.Condition(threading.RLock())
        self.pid: int | None = None
        self.settled: Settle | None = None
        self.notice: Report | None = None  # the latest that it said of being ready
        self.decoded: dict[int, tuple[Report, Any, BaseException | None]] = {}
        self.failure: TaskFailure | None = None
        self._exit: tuple[int, int] | None = None  # a pipe that ends when the seat is settled

    def update(self, **values: Any) -> None:
        """Set attributes and tell whoever waits for them."""
        with self.changed:
            for name, value in values.items():
                setattr(self, name, value)
            if self.settled is not None and self._exit is not None and self._exit[1] >= 0:
                os.close(self._exit[1])
                self._exit = self._exit[0], -1
            self.changed.notify_all()

    def is_settled(self) -> bool:
        """Whether it has ended."""
        return self.settled is not None

    def wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `done`, at most `timeout` seconds; whether it is."""
        with self.changed:
            return self.changed.wait_for(done, timeout)

    def sentinel(self) -> int:
        """A descriptor that becomes readable when the seat is settled; kept until then and after."""
        with self.changed:
            if self._exit is None:
                self._exit = os.pipe()
                if self.settled is not None:
                    os.close(self._exit[1])
                    self._exit = self._exit[0], -1
            return self._exit[0]

    def close(self) -> None:
        """Nobody holds the worker any more."""
        for fd in self._exit or ():
            if fd >= 0:
                os.close(fd)
        self._exit = None
