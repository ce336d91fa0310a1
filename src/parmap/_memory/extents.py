"""Which parts of a file are in use, and where there is room.  Pure: numbers only."""

from __future__ import annotations

from bisect import bisect_left, insort

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE = 64  # everything begins at a multiple of it
_SLACK = 1 << 20  # less than this is not worth a search


class Extents:
    """Parts that do not overlap, each (start, end)."""

    __slots__ = ("_spans", "weight")

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        self.weight = 0  # bytes in use

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, start: int, size: int) -> None:
        """Note that this part is in use."""
        insort(self._spans, (start, start + size))
        self.weight += size

    def remove(self, start: int, size: int) -> None:
        """Note that it is free."""
        at = bisect_left(self._spans, (start, start + size))
        if at == len(self._spans) or self._spans[at] != (start, start + size):
            raise LookupError(f"nothing of {size} bytes begins at {start}")
        del self._spans[at]
        self.weight -= size

    def clear(self) -> None:
        """Note that everything is free."""
        self._spans.clear()
        self.weight = 0

    def find(self, size: int, others: Iterable[tuple[int, int]], *, thorough: bool) -> int:
        """Return where `size` bytes are free beside these parts and `others`, of which one is first.

        `thorough`: look for the first gap that is large enough.  Else only if gaps have more bytes
        than what is in use, so that many large values cost no search each.
        """
        others = list(others)
        top = max(end for _, end in others)
        if self._spans:
            top = max(top, self._spans[-1][1])
        used = self.weight + sum(end - start for start, end in others)
        if thorough or top - used > max(self.weight, _SLACK):
            for start, end in self.gaps(others):
                if _up(start) + size <= end:
                    return _up(start)
        return _up(top)

    def gaps(self, others: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Give the gaps between all parts, from the ground up."""
        before = 0
        for start, end in sorted([*self._spans, *others]):
            if start > before:
                yield before, start
            before = max(before, end)


def _up(number: int) -> int:
    return (number + LINE - 1) // LINE * LINE
