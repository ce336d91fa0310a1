"""Results that arrive in any order, given out in the order of the items."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ReorderBuffer(Generic[T]):
    """Holds what came early; `ready` gives what is next in line, never twice, never out of order.

    >>> buffer = ReorderBuffer[str]()
    >>> buffer.put(1, ["b", "c"])
    >>> list(buffer.ready())
    []
    >>> buffer.put(0, ["a"])
    >>> list(buffer.ready())
    ['a', 'b', 'c']
    """

    __slots__ = ("_early", "_next", "_ready")

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, list[T]] = {}  # first index -> the run of results from there on
        self._ready: deque[T] = deque()

    def put(self, first: int, values: list[T]) -> None:
        """Add the results of the items from `first` on."""
        if first != self._next:
            self._early[first] = values
            return
        self._take(values)
        while (run := self._early.pop(self._next, None)) is not None:
            self._take(run)

    def ready(self) -> deque[T]:
        """The results whose turn has come; the caller pops them from the left."""
        return self._ready

    def __len__(self) -> int:
        """How many results are held, ready and early ones together."""
        return len(self._ready) + sum(map(len, self._early.values()))

    def _take(self, values: list[T]) -> None:
        self._ready.extend(values)
        self._next += len(values)
