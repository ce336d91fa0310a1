"""Where those wait who cannot go on yet: each in a seat of its own.

A seat names its process and has a semaphore of its own, so that a call reaches exactly the one it
is meant for, in the order of coming.  Everything but `sleep` is done under the mutex of the object
that the room belongs to.

**Killed.**  A seat is taken by the one store to its state, and free again by another.  Who finds the
owner of a seat dead frees it.  A call to somebody who dies before he acts on it is the caller's
affair (`inherit`).  Who is killed between a change and the call for it leaves everybody asleep: so
no sleep is longer than half a second, a tenth at first, and who wakes looks for himself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parmap._memory.identity import identity, is_alive
from parmap._memory.intents import IntentMutex
from parmap._memory.patience import left
from parmap._memory.semaphores import PLAIN, Place, begin
from parmap._memory.words import WORD, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap._memory.arena import Block
    from parmap._memory.mutex import FileMutex

_LINE = 8  # words
_HIGH, _TICKET = 0, 1  # the room's: seats from here on are free; the last number given
_MODEL = 4  # a semaphore that is never used, to make others from
_OWNER, _STATE, _TAG = 4, 5, 6  # a seat's, after its semaphore; state: 0, or twice its number ...
_CALLED = 1  # ... and this
_FIRST_SLEEP, _LAST_SLEEP = 0.1, 0.5
_LOOK = 0.002  # without semaphores in memory: so often a sleeper looks


def size_of(seats: int) -> int:
    """Return how many bytes a room takes."""
    return (1 + seats) * _LINE * WORD


class Room:
    """The seats of one object, as one process sees them."""

    __slots__ = ("_all", "_at", "_block", "_fast", "_place", "_seats", "mutex")

    def __init__(self, block: Block, at: int, seats: int, mutex: IntentMutex | FileMutex) -> None:
        self._block = block
        self._at = block.offset + at
        self._seats = seats
        self._all = words(block.segment, self._at, (1 + seats) * _LINE)
        self._fast = isinstance(mutex, IntentMutex)
        self._place = Place(block.segment, self._at) if self._fast else None
        self.mutex = mutex

    def prepare(self) -> None:
        """Make it, in zeros."""
        if self._fast:
            begin(self._block.segment, self._at + _MODEL * WORD, 0)

    def wait(self, ready: Callable[[int], bool], deadline: float | None, tag: int = 0) -> bool:
        """Wait until `ready(seat)` is true; it is asked under the mutex, first without a seat (0)."""
        with self.mutex:
            if ready(0):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            seat = self.sit(tag)
        got, pause = False, _FIRST_SLEEP
        try:
            while not got:
                self.sleep(seat, left(deadline, pause))
                pause = min(2 * pause, _LAST_SLEEP)
                with self.mutex:
                    got = ready(seat)
                    if not got and deadline is not None and time.monotonic() >= deadline:
                        break
                    if not got and self.called(seat):
                        self._all[seat + _STATE] &= ~_CALLED  # in vain; it keeps its number
        finally:
            with self.mutex:
                if self.stand(seat) and not got:
                    self.call(1)  # somebody else has use for it
        return got

    def sit(self, tag: int = 0) -> int:
        """Take a seat: its place among the words."""
        shared = self._all
        high = shared[_HIGH]
        seat = next((seat for seat in _run(high) if not shared[seat + _STATE]), 0)
        if not seat and high == self._seats:
            seat = next((seat for seat in _run(high) if not is_alive(shared[seat + _OWNER])), 0)
            if not seat:
                raise OSError(f"{high} threads wait here: no more can")
        seat = seat or (high + 1) * _LINE
        if self._fast:
            buf, at = self._block.segment.buf, self._at
            buf[at + seat * WORD : at + (seat + 4) * WORD] = buf[
                at + _MODEL * WORD : at + (_MODEL + 4) * WORD
            ]
        number = shared[_TICKET] = shared[_TICKET] + 1
        shared[seat + _OWNER], shared[seat + _TAG] = identity(), tag
        shared[_HIGH] = max(high, seat // _LINE)
        shared[seat + _STATE] = 2 * number  # from this store on it is taken
        return seat

    def stand(self, seat: int) -> bool:
        """Leave a seat; return whether it has been called."""
        shared = self._all
        state = shared[seat + _STATE]
        shared[seat + _STATE] = 0
        high = shared[_HIGH]
        while high and not shared[high * _LINE + _STATE]:
            high -= 1
        shared[_HIGH] = high
        return bool(state & _CALLED)

    def sleep(self, seat: int, seconds: float) -> None:
        """Sleep until called, or so long.  Without the mutex."""
        if self._fast:
            self._semaphore(seat).acquire(True, seconds)
            return
        end = time.monotonic() + seconds
        while not self.called(seat) and (rest := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK, rest))

    def called(self, seat: int) -> bool:
        """Whether somebody has called this seat."""
        return bool(self._all[seat + _STATE] & _CALLED)

    def is_used(self) -> bool:
        """Whether anybody has a seat."""
        return bool(self._all[_HIGH])

    def seated(self, tag: int | None = None) -> list[int]:
        """Return the seats that are taken, in the order of coming, the dead included."""
        shared = self._all
        found = [
            (shared[seat + _STATE], seat)
            for seat in _run(shared[_HIGH])
            if shared[seat + _STATE] and (tag is None or shared[seat + _TAG] == tag)
        ]
        return [seat for _, seat in sorted(found)]

    def lives(self, seat: int) -> bool:
        """Whether the one in this seat does."""
        owner = self._all[seat + _OWNER]
        return owner == identity() or is_alive(owner)

    def call(self, count: int) -> int:
        """Call so many of those who wait, the first to come first; return how many are called."""
        called = 0
        for seat in self.seated() if self.is_used() else ():
            if called == count:
                break
            if self.called(seat):
                continue
            if not self.lives(seat):
                self.stand(seat)
                continue
            self._call(seat)
            called += 1
        return called

    def reserved(self) -> int:
        """Return how many living ones have been called and have not acted on it yet."""
        if not self.is_used():
            return 0
        called = [seat for seat in self.seated() if self.called(seat)]
        for seat in called:
            if not self.lives(seat):
                self.stand(seat)
        return sum(map(self.called, called))

    def inherit(self, seat: int) -> None:
        """If somebody was called and has died of it, be called in his place."""
        for other in self.seated():
            if other != seat and self.called(other) and not self.lives(other):
                self._call(seat)
                self.stand(other)
                return

    def _call(self, seat: int) -> None:
        self._all[seat + _STATE] |= _CALLED
        if self._fast:
            semaphore = self._semaphore(seat)
            if semaphore._is_zero():
                semaphore.release()

    def _semaphore(self, seat: int) -> Any:
        assert self._place is not None
        return self._place.semaphore(seat, PLAIN)


def _run(high: int) -> range:
    return range(_LINE, (high + 1) * _LINE, _LINE)
