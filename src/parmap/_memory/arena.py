"""Small blocks of shared memory for a whole family of processes, out of one file.

A counter needs 64 bytes. A segment of its own would cost two descriptors, two pages and 30 µs in
every process that gets it; an `Arena` costs that once, and then each block a fraction.

**When a block is free again.** Every process that has a block holds a shared kernel lock on the
block's number (`LockFile.hold`), and so does every pickle of it that is on its way (a descriptor
travels along, with a lock of its own). A block whose number can be locked exclusively is used by
nobody. So the count is the kernel's, and no kill can falsify it.

Beside it each block has a state byte, so that free ones are found without asking the kernel about
all. It is only a hint: what it calls free is claimed from the kernel before it is used; what it
calls used may have been left by somebody who was killed, or who left without saying so, and is
found by the sweep that comes before the arena grows, when it has twice the blocks that lived at the
last sweep and `_SLACK` more. So with blocks of one size an arena never has more than twice the
blocks that were in use at once, and `_SLACK`, whoever is killed.

**Killed while allocating.** A block exists once the one store to the count of blocks has happened;
what was prepared before it is simply prepared again by the next, who gets the arena's lock from
the kernel.

Where the system has no locks per open file (`PARMAP_PORTABLE`), blocks are never used again: an
arena then lives, and grows, as long as somebody has one of its blocks.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock, allocate_lock
from _weakref import ref
from collections import deque

from parmap._memory.flock import RobustLock
from parmap._memory.host import close_quietly, duplicate, locks_open_files, reopen
from parmap._memory.lockfile import inside, lock_file_of
from parmap._memory.segment import Segment
from parmap._memory.transit import export_fd, import_fd
from parmap._memory.words import WORD, words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._memory.lockfile import LockFile
    from parmap._memory.transit import Ticket

LINE = 64  # a cache line: blocks begin at one, so that two never share one
LARGEST = LINE << 10
MOST_BLOCKS = 1 << 16
_SLACK = 64

# The file: a page of words, a state byte for each block, a descriptor word for each block, the
# blocks.
# Words: the arena's lock, how many blocks exist, when to sweep, whether it is a family's default.
_LOCK, _COUNT, _SWEEP_AT, _DEFAULT = 0, 1, 2, 3
_STATES = 4096
_TABLE = _STATES + MOST_BLOCKS
_DATA = _TABLE + MOST_BLOCKS * WORD
_FIRST_SIZE = _DATA + (1 << 16)
_FREE, _USED = 0x40, 0x80  # state: one of these and the size class


class Arena:
    """One family's memory for small things. Thread-safe, fork-safe; any process may allocate."""

    __slots__ = ("__weakref__", "_dropped", "_file", "_lock", "_words", "segment")

    def __init__(self, segment: Segment) -> None:
        """Internal: use `create` or `default_arena`, or receive a block."""
        self.segment = segment
        self._lock = RobustLock(segment, _LOCK * WORD)
        self._words = words(segment, 0, 4)
        self._file: LockFile | None = lock_file_of(segment) if locks_open_files() else None
        self._dropped: deque[int] = deque()

    @classmethod
    def create(cls) -> Arena:
        """Return a new, empty arena, for those who do not want to share `default_arena`."""
        return _arena_of(Segment.create(_FIRST_SIZE))

    def allocate(self, nbytes: int) -> Block:
        """Return a block of zeros of at least `nbytes`, at a multiple of 64.

        Raises ValueError above 64 KB (make a `Segment`), MemoryError when all numbers are in use.
        """
        if not 0 <= nbytes <= LARGEST:
            raise ValueError(f"an arena's blocks have at most {LARGEST} bytes, not {nbytes}")
        size_class = max(0, (nbytes - 1).bit_length() - 6) if nbytes else 0
        self._settle()
        with self._lock:
            number = self._reuse(size_class)
            if number is None:
                number = self._sweep_if_due(size_class)
            if number is None:
                number = self._append(size_class)
        return Block(self, number)

    def statistics(self) -> dict[str, int]:
        """Return how many blocks exist, how many anybody uses, and the file's size."""
        count = self._words[_COUNT]
        used = count if self._file is None else sum(map(self._file.in_use, range(count)))
        return {"blocks": count, "used": used, "bytes": self.segment.refresh()}

    def __repr__(self) -> str:
        return f"<Arena {self._words[_COUNT]} blocks>"

    def _reuse(self, size_class: int) -> int | None:
        """Claim a free block of that size, if there is one, and clear it."""
        if self._file is None:
            return None
        buf, at = self.segment.buf, _STATES
        end = _STATES + self._words[_COUNT]
        while (at := buf.find(bytes((_FREE | size_class,)), at, end)) >= 0:
            buf[at] = _USED | size_class
            number = at - _STATES
            if self._file.claim(number):
                start, size = self._place(number)
                self.segment.buf[start : start + size] = bytes(size)
                return number
            at += 1  # somebody has it after all
        return None

    def _append(self, size_class: int) -> int:
        """Make one more block."""
        number = self._words[_COUNT]
        if number == MOST_BLOCKS:
            raise MemoryError(f"this arena has {MOST_BLOCKS} blocks, and all are in use")
        start = sum(self._place(number - 1)) if number else _DATA
        size = LINE << size_class
        if start + size > self.segment.refresh():
            self.segment.grow(_DATA + 2 * (start + size - _DATA))
        words(self.segment, _TABLE + number * WORD)[0] = start << 8 | size_class
        self.segment.buf[_STATES + number] = _USED | size_class
        if self._file is not None and not self._file.claim(number):
            raise AssertionError("a block that did not exist was in use")
        self._words[_COUNT] = number + 1  # from this store on it exists
        return number

    def _sweep_if_due(self, size_class: int) -> int | None:
        """Find the blocks of those who were killed, and claim one of that size if there is one."""
        file, buf, count = self._file, self.segment.buf, self._words[_COUNT]
        if file is None or count < max(self._words[_SWEEP_AT], _SLACK):
            return None
        live = 0
        for number in range(count):
            if file.in_use(number):
                live += 1
            else:
                buf[_STATES + number] = _FREE | self._size_class(number)
        found = self._reuse(size_class)
        # If it was in vain (what was found has other sizes) the next few blocks go without.
        self._words[_SWEEP_AT] = (count if found is None else 2 * live) + _SLACK
        return found

    def _size_class(self, number: int) -> int:
        return words(self.segment, _TABLE + number * WORD)[0] & 0xFF

    def _place(self, number: int) -> tuple[int, int]:
        """Return where a block begins and how long it is."""
        word = words(self.segment, _TABLE + number * WORD)[0]
        return word >> 8, LINE << (word & 0xFF)

    def _join(self, number: int) -> None:
        """Be one more user of a block in this process; the caller knows that it is in use."""
        self._settle()
        if not 0 <= number < self._words[_COUNT]:
            raise LookupError(f"block {number} does not exist")
        if self._file is not None:
            self._file.hold(number)

    def _travel(self, number: int, what: str) -> Ticket:
        fd = self.segment.fileno()
        fd = duplicate(fd) if self._file is None else self._file.traveller(number)
        return export_fd(fd, what, give=True)

    def _drop(self, number: int) -> None:
        """Note that a `Block` object is gone; called by the garbage collector, anywhere."""
        self._dropped.append(number)
        self._settle()

    def _settle(self) -> None:
        """Let go of the blocks whose objects are gone, unless that must wait for the next time.

        Never waits: a collection may come while this very thread is inside, here or in `lockfile`.
        """
        file = self._file
        while self._dropped and file is not None and not inside() and _settling.acquire(False):
            try:
                number = self._dropped.popleft()
                if file.let_go(number):
                    self.segment.buf[_STATES + number] = _FREE | self._size_class(number)
            except IndexError:
                return
            finally:
                _settling.release()


class Block:
    """A block of an arena, for as long as this object (or one elsewhere) lives. Pickles."""

    __slots__ = ("__weakref__", "arena", "nbytes", "number", "offset")

    def __init__(self, arena: Arena, number: int) -> None:
        """Internal: the presence of `number` has been counted for this object."""
        self.arena = arena
        self.number = number
        self.offset, self.nbytes = arena._place(number)

    @property
    def segment(self) -> Segment:
        """The memory that the block is a part of."""
        return self.arena.segment

    def words(self) -> memoryview[int]:
        """Return the block as signed 64-bit words. Keep the block beside the view."""
        return words(self.segment, self.offset, self.nbytes // WORD)

    def bytes(self) -> memoryview[int]:
        """Return the block as bytes. Keep the block beside the view."""
        return self.words().cast("B")

    def lock(self, at: int = 0) -> BlockLock:
        """Return the lock that lives in the 8 bytes at `at`; it keeps the block."""
        if not 0 <= at <= self.nbytes - WORD:
            raise ValueError("a lock needs 8 bytes inside its block")
        return BlockLock(self, at)

    def tickets(self, what: str) -> tuple[Ticket, int]:
        """Return what `arrive` makes it from in another process; `what` it is called in errors."""
        return self.arena._travel(self.number, what), self.number

    def __reduce__(self) -> tuple[Callable[[Ticket, int], Block], tuple[Ticket, int]]:
        return arrive, self.tickets("piece of shared memory")

    def __repr__(self) -> str:
        return f"<Block {self.number}: {self.nbytes} bytes>"

    def __del__(self) -> None:
        # A process that ends lets go of everything; its modules may be half gone by now.
        if hasattr(self, "offset") and not _finalizing():
            self.arena._drop(self.number)


class BlockLock(RobustLock):
    """A lock inside a block, which lives and travels with it."""

    __slots__ = ("at", "block")

    def __init__(self, block: Block, at: int = 0) -> None:
        self.block = block
        self.at = at
        super().__init__(block.segment, block.offset + at)

    def __reduce__(self) -> tuple[Callable[..., RobustLock], tuple[object, ...]]:
        return BlockLock, (self.block, self.at)


_finalizing = sys.is_finalizing
_settling = allocate_lock()
_arenas_lock = RLock()
_arenas: dict[tuple[int, int], ref[Arena]] = {}
_default: Arena | None = None


def default_arena() -> Arena:
    """Return this process's arena for new blocks, which lives as long as the process.

    It is the first default arena that this process got to know: its own, or one that was inherited
    or came with a block. So a family of processes shares one.
    """
    global _default
    with _arenas_lock:
        if _default is None:
            _default = Arena.create()
            _default._words[_DEFAULT] = 1
        return _default


def _arena_of(segment: Segment) -> Arena:
    """Return this process's one arena object over a segment."""
    global _default
    with _arenas_lock:
        known = _arenas.get(segment.key)
        arena = None if known is None else known()
        if arena is None:
            arena = Arena(segment)
            key = segment.key
            _arenas[key] = ref(arena, lambda gone: _forget(key, gone))
        if _default is None and arena._words[_DEFAULT]:
            _default = arena
    return arena


def _forget(key: tuple[int, int], gone: ref[Arena]) -> None:
    if _arenas.get(key) is gone:
        del _arenas[key]


def arrive(ticket: Ticket, number: int) -> Block:
    """Return the block that travelled as these tickets."""
    fd = import_fd(ticket)
    try:
        # Not `fd` itself, which counts as a user of the block as long as it is open.
        own = reopen(fd) if locks_open_files() else duplicate(fd)
        arena = _arena_of(Segment.from_fd(own))
        arena._join(number)
    finally:
        close_quietly(fd)  # only now: the block was in use all the time
    return Block(arena, number)


def _renew_lock() -> None:
    global _settling, _arenas_lock
    _settling = allocate_lock()
    _arenas_lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
