"""The lock of an array: there is room for it, and who first asks for it makes it.

Most arrays are never locked, and making a fast mutex takes longer than making an array.
"""

from __future__ import annotations

from parmap._memory.arena import LINE, arrive
from parmap._memory.mutex import mutex_of, prepare, size_of

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from parmap._memory.arena import Block
    from parmap._memory.intents import IntentMutex
    from parmap._memory.mutex import FileMutex

# The block begins with the kernel's lock for the making, and whether it is made.
_MAKING, _MADE = 0, 1
_AT = LINE
GUARD_SIZE = (_AT + size_of() + LINE - 1) // LINE * LINE


class Guard:
    """Mutual exclusion for all threads of all processes that have one array."""

    __slots__ = ("_block", "_mutex")

    def __init__(self, block: Block, mutex: FileMutex | IntentMutex) -> None:
        self._block = block
        self._mutex = mutex

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most `timeout` seconds; return whether it is held now."""
        return self._mutex.enter(timeout)

    def release(self) -> None:
        """Let the next one in. Raises RuntimeError when this thread does not hold the lock."""
        if not self._mutex.held:
            raise RuntimeError("this thread does not hold the lock")
        self._mutex.leave()

    @property
    def was_abandoned(self) -> bool:
        """Whether the holder before died while it held the lock. Ask while holding it."""
        return self._mutex.was_abandoned

    def __enter__(self) -> Self:
        self._mutex.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._mutex.__exit__(kind, error, tb)

    def __reduce__(self) -> tuple[Callable[..., Guard], tuple[Any, ...]]:
        return _arrive, self._block.tickets("SharedArray's lock")


def guard_of(block: Block) -> Guard:
    """Return the lock of the array in that block."""
    made = block.words()[_MADE : _MADE + 1]
    if not made[0]:
        with block.lock(_MAKING * 8):
            if not made[0]:
                prepare(block.segment, block.offset + _AT)
                made[0] = 1
    return Guard(block, mutex_of(block.segment, block.offset + _AT))


def _arrive(ticket: Any, number: int) -> Guard:
    return guard_of(arrive(ticket, number))
