"""How many items travel together: chunks size themselves.

Chunks are only transport.  They start at one item, so that the first result comes at once and the
cost is measured before anything is bet on it, and grow towards a few milliseconds of work: enough to
make the price of a message vanish, little enough to keep the workers evenly loaded to the end.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

# Measured (FACTS-engine.md, A): the optimum is flat between 2 and 4 ms; from 8 ms on trivial items
# cost up to twice as much (unpickling out of the cache, no overlap of sending and running).
TARGET_SECONDS = 0.003
# It is their number that makes larger chunks slow.  Where this many items take longer, a chunk may, up
# to LONG_SECONDS: a message costs the parent 0.2 ms on a busy machine (measured, items of 10 us: a
# third of the messages, and half of the CPU time that the parent takes from its workers).
MANY = 1000
LONG_SECONDS = 0.010
# The same where all items are there, so that nobody takes a result before the last one has come: each
# message takes 0.2 ms from the worker that sends it, for its parent wants a CPU (measured, items of
# 10 ms: 0.5 % of the time instead of 2).
UNHURRIED_SECONDS = 0.050
# A chunk may be wrong by this factor at most when the cost of items jumps, because it cannot be
# longer than GROWTH times one that was measured (or than what is worth a message).
GROWTH = 8
# A chunk that runs this many times longer than meant is cut short, for others to run its rest.  (A long
# one of many items has the excess of one of LONG_SECONDS.)
OVERRUN = 4
# So long may what is sent be on its way before anybody thinks that it is the items that take long: a
# hundred times as long as it should, since on a busy machine both sides wait for their turns.
SECONDS_PER_BYTE = 20e-9
# Larger chunks of bytes no longer save anything and hold up the pipe.
MAX_BYTES = 64 * 1024
# But a few items may be as much as this together: they are large (arrays, say), and cost no unpickling.
MAX_BYTES_OF_FEW = 1024 * 1024
# The last chunks get smaller, so that all workers end together, but not smaller than this: a message
# costs 0.1 ms or so, and what is left of the imbalance is no more than this.
LEAST_SECONDS = 0.0003
# No item costs less: if one seems to, a clock stood still.
CHEAPEST_SECONDS = 50e-9
# From this cost on an item is marked (its index is noted before it runs): 2 clock reads and a store
# are then below 1 % of it.
MARK_SECONDS = 20e-6
# So few items are marked even if they are tiny: a message costs more than all their marks.
FEW = 16
# A second chunk waits at the worker while the first one runs, or the worker would idle for the time of
# a message; behind a longer one than this it gains too little to be worth what it costs the balance.
PREFETCH_SECONDS = 0.050
# Chunks of this length are held back at the end, for whoever is free first.
COARSE_SECONDS = 0.005
# Functions whose items' cost is remembered.
MOST_KNOWN = 256


class Cost(NamedTuple):
    """What one item of a call costs."""

    seconds: float
    nbytes: float
    proven: int  # the largest number of items that came back within one report


class Costs:
    """What items have cost, by the name of their function, for the calls that follow."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Cost] = OrderedDict()

    def of(self, name: Hashable) -> Cost | None:
        """What is known; nothing of a call without a name (None)."""
        return self._known.get(name)

    def remember(self, name: Hashable, cost: Cost | None) -> None:
        """Keep what a call has learned; the oldest names are forgotten."""
        if name is None or cost is None:
            return
        self._known[name] = cost
        self._known.move_to_end(name)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


class ChunkSizer:
    """Sizes the chunks of one call from what its items have cost so far.

    A fixed size is kept to the letter; `None` adapts.
    """

    __slots__ = (
        "_cost",
        "_fixed",
        "_longest",
        "_nbytes",
        "_proven",
        "_seconds_per_byte",
        "_target",
        "_unhurried",
    )

    def __init__(
        self, fixed: int | None, longest: float = math.inf, *, target: float = TARGET_SECONDS
    ) -> None:
        """A chunk of tiny items shall take `target` seconds, and none is meant to take longer than
        `longest`."""
        self._fixed = fixed
        self._target = min(target, longest)
        self._longest = min(max(target, LONG_SECONDS), longest)
        self._unhurried = min(max(target, UNHURRIED_SECONDS), longest)
        self._cost: float | None = None  # seconds per item, smoothed
        self._nbytes = 0.0  # bytes per item, smoothed
        self._proven = 0  # the largest number of items that came back within one report
        self._seconds_per_byte = SECONDS_PER_BYTE

    def measured(self, items: int, seconds: float, nbytes: int) -> None:
        """Learn from a report: so many items took so long and so many bytes."""
        if items < 1:
            return
        cost, size = seconds / items, nbytes / items
        if self._cost is None:
            self._cost, self._nbytes = cost, size
        else:
            # Dearer items count at once, cheaper ones half: too small a chunk costs a message, too
            # large a one costs the balance of the whole call.
            self._cost = cost if cost > self._cost else (self._cost + cost) / 2
            self._nbytes = max(size, (self._nbytes + size) / 2)
        self._proven = max(self._proven, items)
        self._seconds_per_byte = max(SECONDS_PER_BYTE, self._seconds_per_byte / 2)

    @property
    def cost(self) -> Cost | None:
        """What has been learned, for a later call."""
        return None if self._cost is None else Cost(self._cost, self._nbytes, self._proven)

    def recall(self, cost: Cost | None) -> None:
        """Begin with what an earlier call has learned; should it be wrong, chunks are cut short."""
        if cost is not None:
            self._cost, self._nbytes, self._proven = cost

    def size(self, waiting: int, *, more_to_come: bool, workers: int) -> int:
        """Items for the next chunk when `waiting` items wait and `workers` may share them."""
        if self._fixed is not None:
            return min(self._fixed, waiting)
        if self._cost is None:
            return 1
        cost = max(self._cost, 1e-9)
        longest = self._longest if more_to_come else self._unhurried
        seconds = max(self._target, min(longest, MANY * cost))
        least = int(LEAST_SECONDS / max(cost, CHEAPEST_SECONDS))
        wanted = min(max(self._proven * GROWTH, least), int(seconds / cost))
        if self._nbytes > 0:
            few = min(FEW, int(MAX_BYTES_OF_FEW / self._nbytes))
            wanted = min(wanted, max(few, int(MAX_BYTES / self._nbytes)))
        if not more_to_come:
            # Guided: the last chunks get smaller, so that the workers finish together.
            wanted = min(wanted, max(least, -(-waiting // (2 * workers))))
        return max(1, min(wanted, waiting))

    def chunks(self, waiting: int) -> int:
        """How many chunks `waiting` items make at the least; an item each where nobody knows yet."""
        return -(-waiting // (self._fixed or 1))

    def appetite(self, workers: int) -> int:
        """How many unfinished items keep that many workers busy, prefetch included."""
        size = self._fixed
        if size is None:
            size = (
                1 if self._cost is None else self.size(1 << 40, more_to_come=True, workers=workers)
            )
        return 3 * workers * size

    def marks(self, items: int) -> bool:
        """Whether the items of a chunk of so many are noted one by one before they run."""
        return items <= FEW or self._cost is None or self._cost >= MARK_SECONDS

    def prefetches(self, waiting: int, workers: int) -> bool:
        """Whether a second chunk may wait at a worker while the first one runs."""
        if self._cost is None:
            return False
        seconds = self._cost * (self._fixed or 1)
        return seconds < COARSE_SECONDS or (seconds < PREFETCH_SECONDS and waiting > workers)

    def patience(self, items: int) -> float | None:
        """Seconds after which a chunk of so many is cut short; None: a fixed size is kept whole.

        (A single item cannot be cut, but gives back what waits behind it.)
        """
        if self._fixed is not None and items > 1:
            return None
        cost = self._cost or 0.0
        meant = max(TARGET_SECONDS, items * cost)
        excess = (OVERRUN - 1) * min(meant, max(LONG_SECONDS, cost))
        return meant + excess + self.transit(items)

    def transit(self, items: int) -> float:
        """Seconds that so many may need to arrive."""
        return items * self._nbytes * self._seconds_per_byte

    def was_cut(self) -> None:
        """A chunk was cut short: what its bytes may need is doubled, until the next report.

        Else a machine that is slower still would send the same items again and again.
        """
        self._seconds_per_byte *= 2
