"""Blocks of shared memory for messages that fit no slot.

A block is never given back to the file, but used again: touching new memory costs ten times what
copying into warm memory does.  Sizes have four steps from one power of two to the next; what was
never touched costs nothing.

**Who owns a block.**  Free, or used; then its owner word names the process that writes or reads it,
until the one store that makes it free.  In between it may be in the queue, where its owner does not
matter.  So a used block is lost, and is found by the sweep, exactly if its owner is dead and no
slot in the queue names it.  Everything here needs the channel's lock, but for `release`, which is
one store.
"""

from __future__ import annotations

import mmap
import os

from parmap._channel.layout import (
    BLOCKS,
    HEAP_END,
    MOST_BYTES,
    PAGE,
    SWEEP_AT,
    Layout,
)
from parmap._memory.identity import identity, is_alive
from parmap._memory.words import words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._memory.segment import Segment
    from parmap._wire.frames import Buffer

_FREE = 0x80  # the rest of a state is the size class
_NEARLY = 2  # a warm block that is so many classes too large is better than a new one
_SLACK = 16
# A block above this gives its memory back when it is released: it was one message alone.
_KEPT_WARM = 1 << 26
# When the file has more memory than may be waiting, and some to spare for those who write or read
# at the moment, free blocks give theirs back; to know it costs a system call.
_THRIFTY_FROM = MOST_BYTES + (8 << 20)
_COUNTED_FROM = 1 << 15
_GROWTH = 1 << 28


class Heap:
    """The blocks of one channel."""

    __slots__ = ("_buf", "_fresh", "_layout", "_owners", "_places", "_segment", "_words")

    def __init__(self, segment: Segment, layout: Layout) -> None:
        self._segment = segment
        self._layout = layout
        self._words = words(segment, 0, SWEEP_AT + 1)
        self._owners = words(segment, layout.owners, layout.blocks)
        self._places = words(segment, layout.places, layout.blocks)
        self._fresh: set[int] = set()  # that this process has made, and not yet written to
        self._buf = segment.buf  # for the tables only: it may be older than the file is long

    def allocate(
        self, nbytes: int, queued: Callable[[], set[int]], *, warm: bool = False
    ) -> int | None:
        """Return a block that belongs to this process, or None if all numbers are in use.

        `queued` gives the blocks that slots in the queue name.  `warm`: only one that was used.
        """
        size_class = _class_of(nbytes)
        tight = nbytes > _COUNTED_FROM and self._is_tight()
        if tight:
            self._sweep(queued())
            self._give_back_free(size_class)
        block = self._reuse(size_class, size_class if tight else size_class + _NEARLY)
        if block is None and self._words[BLOCKS] >= max(self._words[SWEEP_AT], _SLACK):
            self._sweep(queued())
            block = self._reuse(size_class, size_class)
        if block is None:
            return None if warm else self._append(size_class)
        if tight:  # the message before was longer
            self._give_back(block, nbytes, _size_of(size_class))
        return block

    def _is_tight(self) -> bool:
        if self._words[HEAP_END] <= _THRIFTY_FROM:
            return False  # were all of it in use
        return os.fstat(self._segment.fileno()).st_blocks * 512 > _THRIFTY_FROM

    def own(self, block: int) -> None:
        """This process is about to read it."""
        self._owners[block] = identity()

    def release(self, block: int) -> None:
        """It is free.  By its owner only; needs no lock."""
        state = self._layout.states + block
        size_class = self._buf[state] & ~_FREE
        if (size := _size_of(size_class)) > _KEPT_WARM:
            self._give_back(block, 0, size)
        self._buf[state] = _FREE | size_class

    def write(self, block: int, data: Buffer, nbytes: int) -> None:
        """Copy `data` into a block."""
        if block in self._fresh:
            # Through the file: that spares the kernel to clear each page before it is overwritten,
            # and a fault for each.
            self._fresh.discard(block)
            if os.pwrite(self._segment.fileno(), data, self._places[block]) == nbytes:
                return
        memory, at = self.place(block, nbytes)
        memory[at : at + nbytes] = data

    def place(self, block: int, nbytes: int) -> tuple[mmap.mmap, int]:
        """Return the memory, mapped so far that the first bytes of a block are in it; and where."""
        start = self._places[block]
        if start + nbytes > self._segment.size:
            self._segment.refresh()
        return self._segment.buf, start

    def statistics(self) -> dict[str, int]:
        """Return how many blocks there are, how many are in use, and where the file ends."""
        states = self._layout.states
        table = self._buf[states : states + self._words[BLOCKS]]
        used = sum(1 for state in table if not state & _FREE)
        return {"blocks": len(table), "used": used, "bytes": self._words[HEAP_END]}

    def _reuse(self, first: int, last: int) -> int | None:
        """Take a free block of one of these size classes."""
        states = self._layout.states
        end = states + self._words[BLOCKS]
        for size_class in range(first, last + 1):
            at = self._buf.find(bytes((_FREE | size_class,)), states, end)
            if at >= 0:
                self._owners[at - states] = identity()
                self._buf[at] = size_class
                return at - states
        return None

    def _append(self, size_class: int) -> int | None:
        number = self._words[BLOCKS]
        if number == self._layout.blocks:
            return None
        start = self._words[HEAP_END]
        size = _size_of(size_class)
        if size >= PAGE:
            start = (start + PAGE - 1) // PAGE * PAGE
        end = start + size
        if end > self._segment.size and end > self._segment.refresh():
            self._segment.grow(max(end, min(2 * self._segment.size, end + _GROWTH)))
        self._places[number] = start
        self._owners[number] = identity()
        self._buf[self._layout.states + number] = size_class
        self._words[HEAP_END] = end
        self._words[BLOCKS] = number + 1  # from this store on it exists
        self._fresh.add(number)
        return number

    def _sweep(self, queued: set[int]) -> None:
        """Free the blocks of the dead."""
        states, live = self._layout.states, 0
        verdicts: dict[int, bool] = {}
        for number in range(self._words[BLOCKS]):
            if self._buf[states + number] & _FREE:
                continue
            owner = self._owners[number]
            if owner not in verdicts:
                verdicts[owner] = is_alive(owner)
            if number in queued or verdicts[owner]:
                live += 1
            else:
                self.release(number)
        self._words[SWEEP_AT] = 2 * live + _SLACK

    def _give_back_free(self, wanted: int) -> None:
        """Let the system have the memory of free blocks back, but for one of the `wanted` size."""
        states = self._layout.states
        for number in range(self._words[BLOCKS]):
            state = self._buf[states + number]
            if state == _FREE | wanted:
                wanted = -1
            elif state & _FREE:
                self._give_back(number, 0, _size_of(state & ~_FREE))

    def _give_back(self, block: int, kept: int, size: int) -> None:
        """Let the system have the memory of a block back, but for the first bytes."""
        start = (self._places[block] + kept + PAGE - 1) // PAGE * PAGE
        size = (self._places[block] + size) // PAGE * PAGE - start
        advice = getattr(mmap, "MADV_REMOVE", None)
        if advice is None or size <= 0:
            return
        self._segment.refresh()
        try:
            self._segment.buf.madvise(advice, start, size)
        except OSError:
            return  # this file cannot: then it stays warm


def _class_of(nbytes: int) -> int:
    """Return the smallest size class for so many bytes."""
    bits = (nbytes - 1).bit_length()
    if bits < 9:
        return 0
    return 4 * (bits - 9) + -((1 << bits - 1) - nbytes >> bits - 3)


def _size_of(size_class: int) -> int:
    """256, 320, 384, 448, 512, 640, ..."""
    return 4 + size_class % 4 << size_class // 4 + 6
