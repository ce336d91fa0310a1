"""`SharedCounter`: what is added up in many processes and threads.

**Cells.**  Each thread of each process adds to a cell of its own, without a lock; the value is their
sum.  A cell is claimed under the kernel's lock, when a thread adds for the first time.  It is given
back when the thread or the counter ends there, or taken over when its owner is dead: always with
what is in it, so that nothing is lost and there are never more cells than owners lived at once.
An add is one store of 8 bytes: whoever is killed has done it or not.

**Reset** must not write into cells that others add to.  It remembers their sum instead, as the
base, which is what the value is counted from.  Two bases lie there, and the version says which one
holds: the other is written first, and then the version, by one store.

**Fork.**  The child has a copy of what says which cell is whose: it forgets it at once, or it would
add to its parent's cell, and one of two adds at the same time would be lost.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import RLock, _local
from _weakref import ref
from operator import index

from parmap._memory.arena import arrive, default_arena
from parmap._memory.identity import identity, is_alive

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Never, NoReturn, Self

    from parmap._memory.arena import Block
    from parmap._memory.transit import Ticket

# Words of the block.
_LOCK, _VERSION, _COUNT, _BASES = 0, 1, 2, 3
_COMMON = 8  # the cell of those who found none, who add under the lock
_FIRST = 16
_STEP = 8  # a cell is a cache line, so that adders do not slow each other: its value, its owner
_OWNER = 1
MOST_CELLS = 126
_BYTES = (_FIRST + MOST_CELLS * _STEP) * 8

_NEARLY_FULL = (
    1 << 62
)  # a cell with more in it is not taken over: its next owner would soon overflow
_LOOK_AGAIN = 1.0  # seconds; in a crowd of more threads than cells the dead are looked for so often


class SharedCounter:
    """A number that any thread of any process can add to; nothing is ever lost.

    `add` takes no lock: each thread adds to a cell of its own, and the value is their sum. It is
    exact also when adders are killed: each add has happened or has not.

    It can be sent anywhere: as an argument, in a closure, through a channel, in another shared
    object, to a `multiprocessing.Process`. It lives as long as somebody has it. Any thread may use
    it; a forked child goes on using it.

    Args:
        value: Where it begins, a 64-bit integer.

    Raises:
        TypeError: When `value` is no integer.
        OverflowError: When `value` does not fit 64 bits.

    Example:
        >>> from parmap import SharedCounter, parallel_map
        >>> counter = SharedCounter()
        >>> _ = parallel_map(lambda n: counter.add(n), range(10), max_workers=2)
        >>> counter.value
        45
    """

    __slots__ = ("__weakref__", "_block", "_lock", "_look_again", "_mine", "_words")

    def __init__(self, value: int = 0, /) -> None:
        begin = _integer(value, "the initial value of a SharedCounter")
        if not -(1 << 63) <= begin < 1 << 63:
            raise OverflowError(f"a SharedCounter begins with a 64-bit integer, not {begin}")
        self._open(default_arena().allocate(_BYTES))
        self._write_base(0, -begin)
        _remember(self)

    def add(self, n: int = 1) -> None:
        """Add `n`, which may be negative. It never waits, but for a thread's very first add.

        Another process sees it at once. A finaliser or a signal handler may add as well, except
        while the same thread is in its first add or in `reset`: then it gets RuntimeError.

        Args:
            n: A 64-bit integer.

        Raises:
            TypeError: When `n` is no integer. Nothing was added.
            OverflowError: When what this thread has added would leave 64 bits. Nothing was added.
        """
        try:
            if n.__class__ is not int:
                n = index(n)
            # No finaliser, signal handler or other thread comes between reading and storing.
            self._mine.cell[0] += n
        except AttributeError:
            self._add_slowly(_integer(n, "n"))
        except TypeError:
            _integer(n, "n")
            raise
        except ValueError:
            _refuse(n)

    def __iadd__(self, n: int) -> Self:
        """Add `n`: ``counter += n``. In a closure use `add`: Python would take the name for local."""
        self.add(n)
        return self

    @property
    def value(self) -> int:
        """The sum of all that was added since the last reset, an integer of any size.

        It includes every `add` that happened before, and never goes back while all are positive
        (and nobody resets). With both signs it is exact once those who add have returned. Takes no
        lock, unless others reset all the time.
        """
        for _ in range(3):
            version = self._words[_VERSION]
            value = self._sum() - self._base(version)
            if self._words[_VERSION] == version:
                return value
        with self._lock:
            return self._sum() - self._base(self._words[_VERSION])

    @value.setter
    def value(self, value: Never) -> NoReturn:
        raise AttributeError("a SharedCounter is changed by add and reset, not by assigning value")

    def reset(self) -> int:
        """Begin again with 0; return the value until now.

        No add is lost or counted twice: all that was returned by resets and the final value
        together are all that was added. May be called while others add. Waits while another
        process resets.
        """
        words = self._words
        with self._lock:
            version, total = words[_VERSION], self._sum()
            value = total - self._base(version)
            self._write_base(version + 1, total)
            words[_VERSION] = version + 1  # from this store on
            return value

    def __reduce__(self) -> tuple[Callable[..., SharedCounter], tuple[object, ...]]:
        return _arrive, self._block.tickets("SharedCounter")

    def __repr__(self) -> str:
        return f"<SharedCounter {self.value}>"

    def _open(self, block: Block) -> None:
        self._block = block
        self._words = block.words()
        self._lock = block.lock(_LOCK * 8)
        self._look_again = 0.0
        self._mine = _local()

    def _sum(self) -> int:
        end = _FIRST + self._words[_COUNT] * _STEP
        return sum(self._words[_COMMON:end:_STEP])

    def _base(self, version: int) -> int:
        at = _BASES + 2 * (version & 1)
        return (self._words[at] << 64) + self._words[at + 1]

    def _write_base(self, version: int, base: int) -> None:
        # Two words, the lower one signed as well: a sum of 64-bit numbers may need more than 64.
        at = _BASES + 2 * (version & 1)
        low = (base + (1 << 63)) % (1 << 64) - (1 << 63)
        self._words[at], self._words[at + 1] = (base - low) >> 64, low

    def _add_slowly(self, n: int) -> None:
        """Add for a thread that has no cell: claim one, or use that of all who have none."""
        with self._lock:
            place = self._find_cell()
            if place is None:
                place = _COMMON
            else:
                owner = place + _OWNER
                claim = _Claim(self._block, self._words[owner : owner + 1])
                self._mine.claim, self._mine.cell = claim, self._words[place : place + 1]
            try:
                self._words[place] += n
            except ValueError:
                _refuse(n)

    def _find_cell(self) -> int | None:
        """Return the place of a cell that nobody living owns; a new one if need be."""
        words, count = self._words, self._words[_COUNT]
        owners = words[_FIRST + _OWNER : _FIRST + count * _STEP : _STEP].tolist()
        for number in _unowned(owners):
            place = _FIRST + number * _STEP
            if abs(words[place]) < _NEARLY_FULL:
                return place
        if count < MOST_CELLS or time.monotonic() >= self._look_again:
            for number in _abandoned(owners):
                place = _FIRST + number * _STEP
                if abs(words[place]) < _NEARLY_FULL:
                    return place
            self._look_again = time.monotonic() + _LOOK_AGAIN
        if count == MOST_CELLS:
            return None
        words[_COUNT] = count + 1
        return _FIRST + count * _STEP


class _Claim:
    """That a thread of this process owns a cell; kept among what belongs to that thread.

    It counts as a user of the block itself, since the garbage collector may end it after the
    counter, and it must not write into what is another's by then.
    """

    __slots__ = ("_arena", "_epoch", "_number", "_owner")

    def __init__(self, block: Block, owner: memoryview[int]) -> None:
        self._arena = block.arena
        self._number = block.number
        self._owner = owner
        self._epoch = _epoch
        self._arena._join(self._number)
        owner[0] = identity()

    def __del__(self) -> None:
        if self._epoch == _epoch:  # else it is the copy, in a forked child, of its parent's claim
            self._owner[0] = 0
        if not _finalizing():
            self._arena._drop(self._number)


def _unowned(owners: list[int]) -> list[int]:
    return [number for number, owner in enumerate(owners) if not owner]


def _abandoned(owners: list[int]) -> list[int]:
    """Return the cells whose owners are dead. To ask for one process costs about 15 µs."""
    living = {identity()}
    living.update(owner for owner in set(owners) - living if is_alive(owner))
    return [number for number, owner in enumerate(owners) if owner not in living]


def _integer(n: object, what: str) -> int:
    try:
        return index(n)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {n!r}") from None


def _refuse(n: int) -> NoReturn:
    raise OverflowError(f"adding {n} would make this thread's share leave 64 bits")


_finalizing = sys.is_finalizing

# This process's counters by place: one object each, so that a thread has one cell.
_counters: dict[tuple[tuple[int, int], int], ref[SharedCounter]] = {}
_registry_lock = RLock()
_epoch = 0  # how many forks lie between this process and the one in which all began


def _remember(counter: SharedCounter) -> None:
    block = counter._block
    key = (block.segment.key, block.number)
    _counters[key] = ref(counter, lambda gone: _forget(key, gone))


def _forget(key: tuple[tuple[int, int], int], gone: ref[SharedCounter]) -> None:
    if _counters.get(key) is gone:
        del _counters[key]


def _arrive(ticket: Ticket, number: int) -> SharedCounter:
    block = arrive(ticket, number)
    with _registry_lock:
        known = _counters.get((block.segment.key, block.number))
        counter = None if known is None else known()
        if counter is None:
            counter = SharedCounter.__new__(SharedCounter)
            counter._open(block)
            _remember(counter)
    return counter


def _forget_claims() -> None:
    global _epoch, _registry_lock
    _epoch += 1
    _registry_lock = RLock()
    for weak in list(_counters.values()):
        counter = weak()
        if counter is not None:
            counter._mine = _local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_claims)
