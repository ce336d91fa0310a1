"""The control page: two words of memory that a parent and one worker share.

Each word has one writer and is one aligned 8-byte store, so it can be read at any moment, also
after its writer was killed.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.segment import Segment

CONTROL_BYTES = 4096
_RUNNING, _DROP = 0, 8  # words; a cache line apart, for their writers differ

NOTHING = 0
SOMETHING = -1


class Control:
    """The page, mapped.  `running` is the worker's word, `drop` the parent's."""

    __slots__ = ("_words",)

    def __init__(self, page: Segment) -> None:
        self._words = memoryview(page.buf).cast("q")

    @property
    def running(self) -> int:
        """What the worker is at: NOTHING, SOMETHING of its chunk, or index + 1 of an item."""
        return self._words[_RUNNING]

    @running.setter
    def running(self, word: int) -> None:
        self._words[_RUNNING] = word

    @property
    def drop(self) -> int:
        """Chunks up to this number are to be given back."""
        return self._words[_DROP]

    @drop.setter
    def drop(self, chunk: int) -> None:
        self._words[_DROP] = chunk

    def release(self) -> None:
        """Let go of the memory, so that it can be unmapped."""
        self._words.release()
