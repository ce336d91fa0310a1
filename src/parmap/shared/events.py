"""`Event`: a flag that threads of any process can wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap.shared._handles import OWN, OWN_WORDS, Handle, check_timeout, deadline_of
from parmap.shared._rooms import Room, size_of

if TYPE_CHECKING:
    from parmap._memory.arena import Block

SEATS = 375  # threads that can wait at the same time
ROOM = OWN + OWN_WORDS * 8


class Waitable(Handle):
    """A handle with a room to wait in."""

    __slots__ = ("_room",)

    _bytes = ROOM + size_of(SEATS)

    def __init__(self) -> None:
        super().__init__()
        self._room.prepare()

    def _attach(self, block: Block) -> None:
        super()._attach(block)
        self._room = Room(block, ROOM, SEATS, self._mutex)


class Event(Waitable):
    """A flag: false at first; `wait` returns once somebody has made it true.

    Who waits when it is set goes on, even if it is cleared again at once. Who dies leaves the flag as
    it is. It can be sent anywhere, and lives as long as somebody has it; any thread may use it. Up
    to 375 threads can wait at the same time.

    Example:
        >>> from parmap import Event
        >>> event = Event()
        >>> event.wait(timeout=0.01)
        False
        >>> event.set()
        >>> event.wait()
        True
    """

    __slots__ = ()

    # One word counts the changes: odd is set.

    def is_set(self) -> bool:
        """Whether the flag is true. Takes no lock."""
        return bool(self._words[0] & 1)

    def set(self) -> None:
        """Make the flag true, and wake all who wait."""
        with self._mutex:
            if not self._words[0] & 1:
                self._words[0] += 1
            self._room.call(-1)

    def clear(self) -> None:
        """Make the flag false."""
        with self._mutex:
            if self._words[0] & 1:
                self._words[0] += 1

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is true, at most `timeout` seconds; return whether it was.

        Raises:
            ValueError: `timeout` is negative.
        """
        check_timeout(timeout)
        shared = self._words
        first = shared[0]
        if first & 1:
            return True
        return self._room.wait(lambda _: shared[0] != first, deadline_of(timeout))

    def __repr__(self) -> str:
        return f"<Event {'set' if self.is_set() else 'not set'}>"
