"""`Semaphore`: a number of permits, which the death of a process does not lose.

**The ledger.**  Each process has an entry that says how many permits it has taken.  What is free is
the total less all that is taken, and is stored nowhere: so to take, to give back and to take back
from the dead is one store each, and no kill can come half-way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parmap._memory.identity import identity, is_alive
from parmap._memory.words import WORD, words
from parmap.shared._handles import PROCESSES, Handle, check_count, check_timeout, deadline_of
from parmap.shared._rooms import Room, size_of
from parmap.shared.events import ROOM, SEATS

if TYPE_CHECKING:
    from types import TracebackType

    from parmap._memory.arena import Block

_TOTAL, _ENTRIES = 0, 1  # words: permits in all; how many entries were ever made
_OWNER, _TAKEN, _SINCE = 0, 1, 2  # of an entry: since when it has any
_ENTRY = 3
_MOST = 1 << 62
_LEDGER = ROOM + size_of(SEATS)


class Semaphore(Handle):
    """At most `value` holders at the same time, over all threads of all processes.

    ::

        with semaphore:
            use_one_of_a_few()

    Any thread of any process may release it, also one that has not acquired it, as in
    `multiprocessing`. A permit comes back by itself when the process that took it dies, if nobody has
    released it. A release counts against what the releasing process has taken; if that is nothing,
    against the process that has held some for longest; and if nobody holds any it is one permit
    more.

    Waiters come in the order in which they began to wait. It can be sent anywhere, and lives as long
    as somebody has it; any thread may use it. Up to 500 processes can hold permits, and 375 threads
    can wait, at the same time.

    Args:
        value: How many permits there are, at least 0.

    Raises:
        TypeError: `value` is no int.
        ValueError: `value` is negative, or beyond 2 ** 62.

    Example:
        >>> from parmap import Semaphore
        >>> two = Semaphore(2)
        >>> with two, two:
        ...     two.acquire(block=False)
        False
        >>> two.value
        2
    """

    __slots__ = ("_entry", "_ledger", "_room")

    _bytes = _LEDGER + PROCESSES * _ENTRY * WORD

    def __init__(self, value: int = 1) -> None:
        check_count("value", value, 0)
        if value > _MOST:
            raise ValueError(f"value must be at most {_MOST}, not {value}")
        super().__init__()
        self._room.prepare()
        self._words[_TOTAL] = value

    def _attach(self, block: Block) -> None:
        super()._attach(block)
        self._room = Room(block, ROOM, SEATS, self._mutex)
        self._ledger = words(block.segment, block.offset + _LEDGER, PROCESSES * _ENTRY)
        self._entry = -1

    def _renew(self) -> None:
        self._entry = -1  # that is the parent's

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a permit; return whether there was one in time.

        Args:
            block: False: do not wait, say at once.
            timeout: Wait at most so many seconds, then return False. None: for ever.

        Raises:
            ValueError: `timeout` is negative, or given although `block` is False.
        """
        check_timeout(timeout, block=block)
        return self._acquire_soon() or self._room.wait(
            self._take, deadline_of(timeout if block else 0)
        )

    def release(self, n: int = 1) -> None:
        """Give back `n` permits, and wake as many who wait.

        Raises:
            ValueError: `n` is less than 1.
        """
        check_count("n", n, 1)
        self._release(n)

    @property
    def value(self) -> int:
        """How many permits are free at this moment."""
        with self._mutex:
            self._settle()
            return self._free()

    def locked(self) -> bool:
        """Whether no permit is free at this moment."""
        return not self.value

    def __enter__(self) -> bool:
        return self._acquire_soon() or self._room.wait(self._take, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._release(1)

    def _release(self, count: int) -> None:
        with self._mutex:
            for _ in range(count):
                self._give_back()
            if self._room.is_used():
                self._room.call(count)

    def __repr__(self) -> str:
        return f"<Semaphore {self.value} free>"

    def _acquire_soon(self) -> bool:
        """Take a permit in the everyday case: there are some, and nobody waits."""
        with self._mutex:
            entry, ledger = self._entry, self._ledger
            if entry < 0 or self._room.is_used() or self._free() <= 0:
                return False
            if not ledger[entry + _TAKEN]:
                ledger[entry + _SINCE] = time.monotonic_ns()
            ledger[entry + _TAKEN] += 1
            return True

    def _free(self) -> int:
        total, entries = self._words[_TOTAL], self._words[_ENTRIES]
        if entries == 1:
            return total - self._ledger[_TAKEN]
        return total - sum(self._ledger[_TAKEN : entries * _ENTRY : _ENTRY])

    def _take(self, seat: int) -> bool:
        """Take a permit that no one before is called for."""
        if not self._is_free(seat):
            # Only now: to ask after the dead costs more than all the rest.
            returned = self._settle()
            if returned:
                self._room.call(returned)
            if not returned or not self._is_free(seat):
                return False
        entry, ledger = self._own_entry(), self._ledger
        if not ledger[entry + _TAKEN]:
            ledger[entry + _SINCE] = time.monotonic_ns()
        ledger[entry + _TAKEN] += 1
        return True

    def _is_free(self, seat: int) -> bool:
        free = self._free()
        if free > 0 and not (seat and self._room.called(seat)):
            free -= self._room.reserved()
        return free > 0

    def _give_back(self) -> None:
        entry, ledger = self._own_entry(), self._ledger
        if not ledger[entry + _TAKEN]:
            self._settle()
            holders = [other for other in self._used() if ledger[other + _TAKEN]]
            if not holders:
                self._words[_TOTAL] += 1
                return
            entry = min(holders, key=lambda other: ledger[other + _SINCE])
        ledger[entry + _TAKEN] -= 1

    def _settle(self) -> int:
        """Take back what the dead had; return how many permits."""
        ledger, returned = self._ledger, 0
        for entry in self._used():
            taken, owner = ledger[entry + _TAKEN], ledger[entry + _OWNER]
            if taken and owner != identity() and not is_alive(owner):
                ledger[entry + _TAKEN] = 0
                returned += taken
        return returned

    def _own_entry(self) -> int:
        """Return this process's entry, made if need be."""
        if self._entry >= 0:
            return self._entry
        me = identity()
        ledger = self._ledger
        self._settle()
        entry = next(
            (entry for entry in self._used() if self._is_unused(ledger, entry)),
            self._words[_ENTRIES] * _ENTRY,
        )
        if entry == len(ledger):
            raise OSError(f"{PROCESSES} processes use this semaphore: no more can")
        ledger[entry + _OWNER] = me
        self._words[_ENTRIES] = max(self._words[_ENTRIES], entry // _ENTRY + 1)
        self._entry = entry
        return entry

    def _is_unused(self, ledger: memoryview[int], entry: int) -> bool:
        owner = ledger[entry + _OWNER]
        # One's own: from an object before this one, in this process.
        return owner == identity() or not (ledger[entry + _TAKEN] or is_alive(owner))

    def _used(self) -> range:
        return range(0, self._words[_ENTRIES] * _ENTRY, _ENTRY)
