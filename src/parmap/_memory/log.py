"""A log in shared memory that many processes append to and follow, each at its own pace.

A position is one word: a generation, and how many bytes of it.  A step is appended behind the end
and published by ONE store, to END: before it nothing has happened, after it all has.  Appending
needs the mutex.  Following does not: a reader copies what it has not seen, and then looks whether
that may have been overwritten meanwhile.

**Generations.**  When its area is full, the log goes on in a new one, which begins with a snapshot;
the area before stays as it was until the next but one is begun, so that who has nearly followed
needs only its rest, and not the snapshot.  Who begins generation *g* first writes *g* to NEXT: from
then on the area of *g* - 2 may be overwritten.  So what was copied from the area of *g* is whole if
NEXT is at most *g* + 1 afterwards.  Killed anywhere before the store to END, nothing has happened
but that: the next one begins *g* again.

**Order.**  Who copies first and looks afterwards relies on a machine that keeps loads in order, and
stores: x86 does.  Elsewhere following needs the mutex too (`KEEPS_ORDER`).

What lies beside the areas, the large values, is up to the user: where it is follows from the steps,
so all who have followed agree (`Extents`), and no kill can lose a byte of it.
"""

from __future__ import annotations

import mmap
import os

from parmap._memory.extents import Extents
from parmap._memory.mutex import mutex_of, prepare, size_of
from parmap._memory.segment import PAGE, Segment
from parmap._memory.words import words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.intents import IntentMutex
    from parmap._memory.mutex import FileMutex

# Words of the first page; then one slot for even generations, and one for odd ones.
END, NEXT = 0, 1
_SLOT, _SLOT_WORDS = 8, 8
_START, _SIZE, _SNAPSHOT, _BEFORE = range(4)  # ... _BEFORE: the length of the generation before
_WORDS = _SLOT + 2 * _SLOT_WORDS
_MUTEX = PAGE
_GROUND = (_MUTEX + size_of() + PAGE - 1) // PAGE * PAGE

LENGTH_BITS = 36
LENGTH = (1 << LENGTH_BITS) - 1
STALE = -1  # a position that nobody has: follow from the snapshot on
PREFIX = 8  # bytes before each step, that say how long it is
_LEAST = 1 << 16
_GROWTH = 1 << 28
_THRIFTY_FROM = 1 << 24


def _keeps_order() -> bool:
    if not hasattr(os, "uname"):
        return False
    return os.uname().machine in ("x86_64", "i686", "amd64")


KEEPS_ORDER = _keeps_order()


class Log:
    """One log as one process sees it."""

    __slots__ = (
        "_buf", "_end_of_area", "_generation", "_slots", "_start", "large", "mutex", "segment", "words",
    )  # fmt: skip

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.mutex: FileMutex | IntentMutex = mutex_of(segment, _MUTEX)
        self.large = Extents()  # as far as this process has followed
        self._generation = -1
        self._buf = segment.buf
        self.words = words(segment, 0, _WORDS)
        self._slots = [self.words[at : at + _SLOT_WORDS] for at in (_SLOT, _SLOT + _SLOT_WORDS)]

    @classmethod
    def create(cls) -> Log:
        """Return a new, empty one."""
        segment = Segment.create(_GROUND + _LEAST)
        first = words(segment, 0, _WORDS)
        first[_SLOT + _START], first[_SLOT + _SIZE] = _GROUND, _LEAST
        prepare(segment, _MUTEX)
        return cls(segment)

    def since(self, seen: int) -> tuple[bytes, bool, int] | None:
        """Return the steps after position `seen`, whether they are all there are, and their end.

        None: they have been overwritten meanwhile, so look again.
        """
        end = self.words[END]
        generation, length = end >> LENGTH_BITS, end & LENGTH
        if seen >= 0 and generation - (seen >> LENGTH_BITS) <= 1:
            steps = self._rest(seen, generation, length)
            if steps is not None:
                return steps, False, end
        steps = self._copy(generation, 0, length)
        if self.words[NEXT] > generation + 1:
            return None
        return steps, True, end

    def append(self, step: bytes) -> bool:
        """Publish a step; False if the area is full.  The caller has the mutex."""
        shared = self.words
        end = shared[END]
        if end >> LENGTH_BITS != self._generation:
            self._enter_generation(end >> LENGTH_BITS)
        size = len(step)
        at = self._start + (end & LENGTH)
        if at + size + PREFIX > self._end_of_area:
            return False
        self._buf[at : at + size + PREFIX] = size.to_bytes(PREFIX, "little") + step
        shared[END] = end + size + PREFIX
        return True

    def window(self) -> tuple[mmap.mmap, int, int]:
        """Return the memory, what to add to a position to be there, and the last such position.

        For who appends by himself; it holds until the next generation, whose positions are above.
        The caller has the mutex, or will see that the position is below the last one.
        """
        base = self.words[END] & ~LENGTH
        self._enter_generation(base >> LENGTH_BITS)
        return self._buf, self._start - base, base + self._end_of_area - self._start

    def begin_again(self, snapshot: bytes, needed: int) -> None:
        """Go on in a new area, with room for a step of `needed` bytes.  The caller has the mutex."""
        shared = self.words
        end = shared[END]
        generation = (end >> LENGTH_BITS) + 1
        current = self._areas()[(generation - 1) & 1]
        length = len(snapshot) + PREFIX
        size = max(_LEAST, 4 * length) + 2 * (needed + PREFIX)
        shared[NEXT] = generation
        start = self.large.find(size, [(0, _GROUND), current], thorough=True)
        self.reach(start + size)
        slot = self._slot(generation)
        slot[_START], slot[_SIZE] = start, size
        slot[_SNAPSHOT], slot[_BEFORE] = length, end & LENGTH
        self._buf[start : start + length] = len(snapshot).to_bytes(PREFIX, "little") + snapshot
        self.words[END] = generation << LENGTH_BITS | length
        self._enter_generation(generation)
        self.thrift()

    def place(self, size: int) -> int:
        """Return where a large value of that many bytes can be written.  The caller has the mutex."""
        start = self.large.find(size, [(0, _GROUND), *self._areas()], thorough=False)
        self.reach(start + size)
        self.large.add(start, size)
        return start

    def memory(self, end: int) -> mmap.mmap:
        """Return the memory, mapped as far as `end` if the file is that long."""
        if end > len(self._buf):
            self._refresh()
        return self._buf

    def reach(self, end: int) -> None:
        """Make the file that long."""
        if end > self.segment.size and end > self.segment.refresh():
            self.segment.grow(max(end, min(2 * self.segment.size, end + _GROWTH)))
        self._refresh()

    def thrift(self) -> None:
        """Let the system have memory that nobody uses, when it is much.  The caller has the mutex."""
        areas = [(0, _GROUND), *self._areas()]
        used = self.large.weight + sum(end - start for start, end in areas)
        status = os.fstat(self.segment.fileno())
        if getattr(status, "st_blocks", 0) * 512 <= 2 * used + _THRIFTY_FROM:
            return
        self._refresh()
        for start, end in self.large.gaps([*areas, (len(self._buf), len(self._buf))]):
            _give_back(self._buf, _pages(start), end // PAGE * PAGE)

    def _rest(self, seen: int, generation: int, length: int) -> bytes | None:
        """Return what follows `seen` without a snapshot, or None if that is not there any more."""
        first = seen & LENGTH
        if seen >> LENGTH_BITS == generation:
            steps = self._copy(generation, first, length)
            return steps if self.words[NEXT] <= generation + 1 else None
        slot = self._slot(generation)
        steps = self._copy(generation - 1, first, slot[_BEFORE])
        steps += self._copy(generation, slot[_SNAPSHOT], length)
        return steps if self.words[NEXT] <= generation else None

    def _copy(self, generation: int, first: int, last: int) -> bytes:
        start = self._slot(generation)[_START]
        return self.memory(start + last)[start + first : start + last]

    def _enter_generation(self, generation: int) -> None:
        slot = self._slot(generation)
        self._start, self._end_of_area = slot[_START], slot[_START] + slot[_SIZE]
        self._generation = generation
        self.memory(self._end_of_area)

    def _slot(self, generation: int) -> memoryview[int]:
        return self._slots[generation & 1]

    def _areas(self) -> list[tuple[int, int]]:
        return [(slot[_START], slot[_START] + slot[_SIZE]) for slot in self._slots]

    def _refresh(self) -> None:
        self.segment.refresh()
        self._buf = self.segment.buf


def _give_back(memory: mmap.mmap, start: int, end: int) -> None:
    advice = getattr(mmap, "MADV_REMOVE", None)
    if advice is None or end <= start:
        return
    try:
        memory.madvise(advice, start, end - start)
    except OSError:
        return  # this file cannot: then it stays warm


def _pages(size: int) -> int:
    return (size + PAGE - 1) // PAGE * PAGE
