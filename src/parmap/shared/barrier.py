"""`Barrier`: a number of parties wait for each other, and a dead one breaks it."""

from __future__ import annotations

import atexit
import os
import sys
from _weakref import ref
from typing import TYPE_CHECKING

from parmap._memory.identity import identity, is_alive
from parmap._memory.words import WORD, words
from parmap.shared._handles import PROCESSES, check_count, check_timeout, deadline_of
from parmap.shared._rooms import size_of
from parmap.shared.events import ROOM, SEATS, Waitable

if TYPE_CHECKING:
    from typing import Any, NoReturn

    from parmap._memory.arena import Block

# Words: how many have to come; how often they have; whether it is broken; which time was broken off
# by `reset` (or 0); how many entries the table of parties has.
_PARTIES, _TURN, _BROKEN, _RESET, _ENTRIES = 0, 1, 2, 3, 4
_TABLE = ROOM + size_of(SEATS)


class Barrier(Waitable):
    """`parties` threads, of whatever processes, wait here until all have come; then all go on.

    It breaks, for all who wait and will wait, when one waits in vain (timeout), when somebody calls
    `abort`, and when a party dies: a process that waits here; or one that has got the barrier from
    another process, or waited here before, if fewer than `parties` such processes are left. (Who
    drops the barrier, or ends as Python ends, is no dead party; who leaves by `os._exit` is.) That is
    noticed within half a second. `reset` makes it new.

    The counterpart of multiprocessing's ``action``: all wait twice, and in between the one that got
    index 0 acts.

    It can be sent anywhere, and lives as long as somebody has it; any thread may use it.

    Args:
        parties: How many have to come, 1 to 375.
        timeout: What `wait` takes when it is given none.

    Raises:
        TypeError: `parties` is no int.
        ValueError: `parties` is less than 1, or too many; `timeout` is negative.

    Example:
        >>> from parmap import Barrier, run_workers
        >>> barrier = Barrier(2)
        >>> sorted(run_workers(lambda rank: barrier.wait(), 2))
        [0, 1]
    """

    __slots__ = ("_entry", "_me", "_table", "_timeout")

    _bytes = _TABLE + PROCESSES * WORD

    def __init__(self, parties: int, *, timeout: float | None = None) -> None:
        check_count("parties", parties, 1)
        if parties > SEATS:
            raise ValueError(f"parties must be at most {SEATS}, not {parties}")
        check_timeout(timeout)
        super().__init__()
        self._words[_PARTIES] = parties
        self._words[_TURN] = 1
        self._timeout = timeout

    def _attach(self, block: Block) -> None:
        super()._attach(block)
        self._table = words(block.segment, block.offset + _TABLE, PROCESSES)
        self._me = self._entry = -1

    def _extras(self) -> tuple[Any, ...]:
        return (self._timeout,)

    def _arrive(self, *extras: Any) -> None:
        (self._timeout,) = extras
        with self._mutex:
            self._enlist()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have come; return this one's number, 0 to ``parties - 1``, in that order.

        Args:
            timeout: Wait at most so many seconds: then the barrier is broken. None: what the barrier
                was made with.

        Raises:
            threading.BrokenBarrierError: It is broken, was broken or reset meanwhile, or the time is
                over.
            ValueError: `timeout` is negative.
        """
        check_timeout(timeout)
        deadline = deadline_of(self._timeout if timeout is None else timeout)
        shared, turn, index = self._words, 0, 0

        def come(seat: int) -> bool:
            """Whether all have come, or none will; called under the mutex."""
            nonlocal turn, index
            if seat:
                return shared[_TURN] != turn or self._is_broken()
            turn = shared[_TURN]
            self._enlist()
            if self._is_broken():
                return True
            index = len(self._room.seated(turn))
            if index + 1 < shared[_PARTIES]:
                return False
            shared[_RESET] = 0
            shared[_TURN] = turn + 1  # from this store on all have come
            self._room.call(-1)
            return True

        # Its tag says which time a seat waits for: those of the last one may not have left yet.
        if not self._room.wait(come, deadline, tag=self._words[_TURN]):
            with self._mutex:
                if shared[_TURN] == turn:
                    self._break()
        if shared[_TURN] == turn or shared[_RESET] == turn:
            self._refuse()
        return index

    def abort(self) -> None:
        """Break the barrier: all who wait, and who will, get BrokenBarrierError."""
        with self._mutex:
            self._break()

    def reset(self) -> None:
        """Make it new. Who waits gets BrokenBarrierError."""
        with self._mutex:
            for entry in range(self._words[_ENTRIES]):
                if not self._lives(entry):
                    self._table[entry] = 0
            self._words[_RESET] = self._words[_TURN]
            self._words[_TURN] += 1
            self._words[_BROKEN] = 0
            self._room.call(-1)

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._words[_PARTIES]

    @property
    def n_waiting(self) -> int:
        """How many wait at this moment."""
        with self._mutex:
            return 0 if self._is_broken() else len(self._room.seated(self._words[_TURN]))

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        with self._mutex:
            return self._is_broken()

    def __repr__(self) -> str:
        return f"<Barrier for {self.parties}{', broken' if self._words[_BROKEN] else ''}>"

    def __del__(self) -> None:
        # One store, which needs no lock: a finaliser may come while this thread has it.
        if getattr(self, "_entry", -1) >= 0 and self._me == identity():
            self._table[self._entry] = 0

    def _is_broken(self) -> bool:
        """Whether it is broken, now that the parties have been looked at."""
        if not self._words[_BROKEN]:
            seated = self._room.seated(self._words[_TURN])
            if not all(map(self._room.lives, seated)) or self._lacks_a_party():
                self._break()
        return bool(self._words[_BROKEN])

    def _lacks_a_party(self) -> bool:
        """Whether a party has died, and there are not enough others that could come instead."""
        known = [entry for entry in range(self._words[_ENTRIES]) if self._table[entry]]
        living = sum(map(self._lives, known))
        return living < len(known) and living < self._words[_PARTIES]

    def _break(self) -> None:
        self._words[_BROKEN] = 1
        self._room.call(-1)

    def _lives(self, entry: int) -> bool:
        owner = self._table[entry]
        return owner in (0, identity()) or is_alive(owner)

    def _enlist(self) -> None:
        """Be known as a party, whose death breaks it."""
        me = identity()
        if self._me == me:
            return
        count = self._words[_ENTRIES]
        entry = next((entry for entry in range(count) if self._table[entry] in (0, me)), count)
        if entry == PROCESSES:
            return  # the death of this one is noticed only while it waits
        self._table[entry] = me
        self._words[_ENTRIES] = max(count, entry + 1)
        self._me, self._entry = me, entry
        _note(self)

    def _refuse(self) -> NoReturn:
        from threading import BrokenBarrierError

        raise BrokenBarrierError(
            "the barrier is broken: a party died, gave up waiting or aborted it, or it was reset"
        )


# The barriers that this process is a party of.
_mine: list[ref[Barrier]] = []


def _note(barrier: Barrier) -> None:
    """Have the barrier given up when this process ends, unless it is killed."""
    if not _mine and "multiprocessing.util" in sys.modules:
        # Its children leave by `os._exit`, after these only.
        from multiprocessing.util import Finalize

        Finalize(None, leave_all, exitpriority=0)
    _mine[:] = [weak for weak in _mine if weak() is not None]
    _mine.append(ref(barrier))


def leave_all() -> None:
    """This process ends, and is no party any more."""
    for weak in _mine:
        barrier = weak()
        if barrier is not None:
            barrier.__del__()


atexit.register(leave_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mine.clear)
