"""One channel as one process has it: made or arrived, joined, polled.

There is one `Core` per channel and process; whoever refers to it keeps the messages alive.
"""

from __future__ import annotations

import sys
import time
from _thread import RLock, start_new_thread
from _weakref import ref

from parmap._channel.bell import Bell
from parmap._channel.layout import (
    ENDED,
    FLAGS,
    LEVEL,
    LEVELLED,
    LOCK_AT,
    MOST_CAPACITY,
    RECEIVER_EXISTED,
    SENDER_EXISTED,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
)
from parmap._channel.presence import Presence
from parmap._channel.receiving import Receiving
from parmap._channel.ring import Ring
from parmap._channel.sending import Sending
from parmap._channel.state import RECEIVER as RECEIVER
from parmap._channel.state import SENDER as SENDER
from parmap._channel.waiting import POLLED, watch
from parmap._memory.keeper import Keeper
from parmap._memory.mutex import prepare

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._memory.segment import Segment


class Core(Sending, Receiving):
    """Made by `create`, or found by `core_of`.  Thread-safe; goes on working in a forked child."""

    __slots__ = ()

    @classmethod
    def create(cls, capacity: int) -> Core:
        """Return a new channel."""
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise TypeError(f"capacity must be an int, not {type(capacity).__name__}")
        if not 1 <= capacity <= MOST_CAPACITY:
            raise ValueError(f"capacity must be between 1 and {MOST_CAPACITY}, not {capacity}")
        segment = Ring.new_segment(capacity)
        prepare(segment, LOCK_AT)
        parts = (Bell.create(), Bell.create()), (Presence.create(), Presence.create())
        core = cls(segment, *parts, Keeper.create())
        core.made_at = _line_of_caller()
        return _register(core)

    # ------------------------------------------------------------------ ends

    def join(self, role: int) -> int:
        """Return a descriptor that counts as an end of that side while it is open."""
        return self.ring.locked(self._join, role)

    def _join(self, role: int) -> int:
        if role == SENDER and self.ring.settle_end_locked():
            from parmap.errors import ClosedChannelError

            raise ClosedChannelError("the stream ended before this sender arrived")
        fd = self.presences[role].join()
        self.words[FLAGS] |= SENDER_EXISTED if role == SENDER else RECEIVER_EXISTED
        return fd

    # ------------------------------------------------------------------ being polled

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to receive, or the end."""
        if self._poll is None:
            self.ring.locked(self._keep_level)
            self._poll = watch(self.bells[0], self.presences[SENDER])
            if self._poll is None and not self._noticed_by_thread:
                self._noticed_by_thread = True
                start_new_thread(_notice_end, (ref(self),))
            self.ring.settle_end()
        return self.bells[0].fileno() if self._poll is None else self._poll.fileno()

    def _keep_level(self) -> None:
        self.words[FLAGS] |= LEVEL
        self.words[WAITING_RECEIVERS] |= LEVELLED
        self.words[WAITING_SENDERS] |= LEVELLED
        if len(self.ring):
            self.bells[0].ring()

    @property
    def polls_blindly(self) -> bool:
        """Whether `fileno` cannot tell of the end."""
        return self._poll is None

    @property
    def has_ended(self) -> bool:
        """Whether the end of the stream has been noted."""
        return bool(self.words[FLAGS] & ENDED)

    @property
    def had_sender(self) -> bool:
        """Whether there ever was one."""
        return bool(self.words[FLAGS] & SENDER_EXISTED)

    def is_ready(self) -> bool:
        """Whether there is something to receive, or the end, at this moment."""
        return bool(len(self.ring)) or self.ring.settle_end()

    def tickets(self) -> tuple[object, ...]:
        """Return what `core_of` makes it from in another process."""
        return (  # the segment last: the others know to say that it is a channel which cannot travel
            tuple([bell.tickets() for bell in self.bells]),
            tuple([presence.ticket() for presence in self.presences]),
            self._keeper,
            self.segment,
        )

    def renew(self) -> None:
        """In a forked child: what must not be shared with the parent."""
        self._fast_put = self._fast_get = None
        self._noticed_by_thread = False
        self.made_at = None  # not by this process
        for waiter in self._waiters:
            waiter.close()
        if self._poll is not None:
            self._poll.close()
            self._poll = None


def _line_of_caller() -> str:
    """Who called `Channel()`, `Channel[int]()` (which typing does for him) or `Channel.pair()`."""
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__") in {"parmap.channel", "typing"} and frame.f_back:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _notice_end(weak: ref[Core]) -> None:
    """Look for the end again and again, where nothing tells of it; it then stands in the bell."""
    while (core := weak()) is not None and not core.ring.settle_end():
        del core
        time.sleep(POLLED)


# This process's channels by the identity of their memory.
_cores: dict[tuple[int, int], ref[Core]] = {}
_cores_lock = RLock()


def _register(core: Core) -> Core:
    key = core.segment.key
    _cores[key] = ref(core, lambda gone: _forget(key, gone))
    return core


def _forget(key: tuple[int, int], gone: ref[Core]) -> None:
    if _cores.get(key) is gone:
        del _cores[key]


def core_of(
    bells: tuple[Any, Any], presences: tuple[Any, Any], keeper: Keeper, segment: Segment
) -> Core:
    """Unpickle a channel: the one that is here already, if it is."""
    arrived = (
        (Bell.arrive(bells[0]), Bell.arrive(bells[1])),
        (Presence.arrive(presences[0]), Presence.arrive(presences[1])),
    )
    with _cores_lock:
        core = find(segment.key)
        return _register(Core(segment, *arrived, keeper)) if core is None else core


def find(key: tuple[int, int]) -> Core | None:
    """Return this process's channel with that memory, if it has one."""
    weak = _cores.get(key)
    return None if weak is None else weak()


def live_cores() -> list[Core]:
    """Return this process's channels."""
    return [core for weak in list(_cores.values()) if (core := weak()) is not None]


def renew_lock() -> None:
    """In a forked child: the thread that held it may not exist here."""
    global _cores_lock
    _cores_lock = RLock()
