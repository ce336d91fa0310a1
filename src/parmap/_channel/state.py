"""What one process has of one channel, whatever it does with it."""

from __future__ import annotations

import time

from parmap._channel.layout import (
    COUNT,
    FLAGS,
    LOCK_AT,
    MOST_PROCESSES,
    NEWS,
    RECEIVER_EXISTED,
    SLOT,
    TAIL,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
)
from parmap._channel.ring import Ring
from parmap._channel.waiting import Waiter
from parmap._memory.mutex import mutex_of
from parmap._wire.messages import Messages

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    import select
    from collections.abc import Callable
    from typing import Any, NoReturn, Protocol

    from parmap._channel.bell import Bell
    from parmap._channel.large import Opened
    from parmap._channel.presence import Presence
    from parmap._memory.keeper import Keeper
    from parmap._memory.segment import Segment

    class Holder(Protocol):
        """An end, as far as waiting on it goes: below 0, it was closed."""

        fd: int

        def refuse(self) -> NoReturn: ...


SENDER, RECEIVER = 0, 1
GRACE = 1.0  # a try waits so long for somebody who was stopped in the middle of something


class State:
    """What a `Core` has, and what both its directions need."""

    __slots__ = (
        "__weakref__", "_fast_get", "_fast_put", "_keeper", "_look_again", "_messages", "_mutex",
        "_news", "_noticed_by_thread", "_owed", "_poll",
        "_waiters", "bells", "made_at", "neutral", "presences", "ring", "segment", "words",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        bells: tuple[Bell, Bell],
        presences: tuple[Presence, Presence],
        keeper: Keeper,
    ) -> None:
        """Internal: there is only one for a segment."""
        self.segment = segment
        self.bells = bells
        self.presences = presences
        self._keeper = keeper
        self._mutex = mutex_of(segment, LOCK_AT, MOST_PROCESSES)
        self.ring = Ring(segment, self._mutex, keeper, bells, presences[SENDER])
        self.words = self.ring.words
        self._messages = Messages(SLOT)
        # A sender waits for room, or for the last receiver to go; a receiver the other way round.
        self._waiters = (Waiter(bells[1], presences[RECEIVER]), Waiter(bells[0], presences[SENDER]))
        self._poll: select.epoll | None = None
        self._look_again = 0.0
        self._news = 0
        self._fast_put: Callable[[bytes], bool] | None = None
        self._fast_get: Callable[[], bytes | Opened | None] | None = None
        self._noticed_by_thread = False
        self._owed: Exception | None = None  # of an item taken by `receive_many`
        self.made_at: str | None = None  # the line, if it was made in this very process
        self.neutral: Callable[[], Any] | None = None  # a weak reference, owned by `local`

    @property
    def sent(self) -> int:
        """How many messages were ever put in."""
        return self.words[TAIL]

    def claim(self) -> tuple[int, int, int]:
        """Who waits now goes on only when `sent` has changed, or at the end."""
        return (*self.segment.key, self.sent)

    def is_broken(self) -> bool:
        """Whether there were receivers, and all are gone."""
        return bool(self.words[FLAGS] & RECEIVER_EXISTED) and not self.presences[RECEIVER].anyone()

    def closed(self, role: int) -> None:
        """An end of this process has closed: tell those who wait on it, and those who would look.

        Takes no lock: a finaliser may call it anywhere.
        """
        if role == RECEIVER:
            self.words[NEWS] = time.monotonic_ns()
        if self._waiters[role].asleep:
            word = WAITING_SENDERS if role == SENDER else WAITING_RECEIVERS
            self._ring_all(self.bells[1 - role], self.words[word] & COUNT)

    def _ring_all(self, bell: Bell, sleepers: int) -> None:
        for _ in range(min(sleepers, 4096)):
            bell.ring()

    def _unregister(self, word: int) -> None:
        self.ring.locked(self._count_down, word)

    def _count_down(self, word: int) -> None:
        if self.words[word] & COUNT:
            self.words[word] -= 1


def left_until(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
