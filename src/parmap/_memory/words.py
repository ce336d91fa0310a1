"""Eight-byte words in shared memory.

A process may be killed between any two stores, so state that others act on is published by ONE
store. Assigning to an element of a memoryview cast to ``q`` is one: CPython copies eight bytes of
known length to an aligned address, which compilers emit as a single move. ``struct.pack_into`` and
slices of the mmap are not: they may write byte by byte.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.segment import Segment

WORD = 8


def words(segment: Segment, offset: int = 0, count: int = 1) -> memoryview[int]:
    """Return `count` signed 64-bit words of `segment` from byte `offset`, a multiple of 8.

    Reading and assigning one element is atomic among processes; ``view[i] += 1`` is not. Keep the
    segment beside the view: the view alone keeps the memory mapped, but not registered as the one
    mapping.
    """
    if offset % WORD or offset < 0 or count < 0:
        raise ValueError("words lie at multiples of 8")
    end = offset + count * WORD
    if end > segment.size and end > segment.refresh():
        raise ValueError(f"the segment ends at {segment.size}, before byte {end}")
    return memoryview(segment.buf)[offset:end].cast("q")
