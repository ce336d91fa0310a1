"""The control page: a few words of memory that a parent and one worker share.

Each word has one writer and is one aligned 8-byte store, so it can be read at any moment, also
after its writer was killed.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.segment import Segment

CONTROL_BYTES = 4096
# Words.  The worker's are a cache line apart from the parent's.
_RUNNING, _BEGAN, _ANSWER = 0, 1, 2
_DROP, _QUESTION = 8, 9

NOTHING = 0
SOMETHING = -1
# An answer repeats the number of its question, so that an old one is not taken for a new one: both
# in one word, for a kill may come between two.
_INDEX_BITS = 40


class Control:
    """The page, mapped.  `running`, `began` and `answer` are the worker's, the rest the parent's."""

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
    def began(self) -> int:
        """When the item that is marked as running began (`time.monotonic_ns`)."""
        return self._words[_BEGAN]

    @began.setter
    def began(self, word: int) -> None:
        self._words[_BEGAN] = word

    def ask(self) -> None:
        """Put a new question: which of its unmarked items does the worker run?"""
        self._words[_QUESTION] = (self._words[_QUESTION] + 1) & 0x3F_FFFF

    def answer(self, index: int) -> None:
        """The worker runs this one."""
        self._words[_ANSWER] = (self._words[_QUESTION] << _INDEX_BITS) | (index + 1)

    @property
    def answered(self) -> int | None:
        """The index that was given in answer to the last question; None: there is no answer yet."""
        question, index = divmod(self._words[_ANSWER], 1 << _INDEX_BITS)
        return index - 1 if index and question == self._words[_QUESTION] else None

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
