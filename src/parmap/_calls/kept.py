"""The items of a stream that are not settled yet, in pages: cheap per item, and forgotten at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = 1024


class Kept:
    """Items by index.  One thread adds and releases, another one may read meanwhile.

    >>> kept = Kept()
    >>> kept.add("abc")
    >>> kept.get(1, 3)
    ['b', 'c']
    """

    __slots__ = ("_left", "_pages", "added")

    def __init__(self) -> None:
        self._pages: dict[int, list[Any]] = {}
        self._left: dict[int, int] = {}  # page -> how many of its items are not released
        self.added = 0

    def add(self, items: Sequence[Any]) -> None:
        """Add the next ones."""
        place = 0
        while place < len(items):
            number, filled = divmod(self.added, PAGE)
            part = items[place : place + PAGE - filled]
            self._left[number] = self._left.get(number, 0) + len(part)
            self._pages.setdefault(number, []).extend(part)
            self.added += len(part)
            place += len(part)

    def skip(self, count: int) -> None:
        """The next ones are settled already: only their indexes are taken."""
        while count > 0:
            part = min(count, PAGE)
            self.add([None] * part)
            self.release(self.added - part, part)
            count -= part

    def get(self, start: int, stop: int) -> list[Any]:
        """The items `start .. stop - 1`, of which none is released."""
        items: list[Any] = []
        for number in range(start // PAGE, (stop - 1) // PAGE + 1):
            base = number * PAGE
            items += self._pages[number][max(0, start - base) : stop - base]
        return items

    def release(self, first: int, count: int) -> None:
        """Let go of these: a reference that is kept would keep the user's memory."""
        stop = first + count
        while first < stop:
            number, place = divmod(first, PAGE)
            size = min(PAGE - place, stop - first)
            self._pages[number][place : place + size] = [None] * size
            self._left[number] -= size
            if not self._left[number] and (number + 1) * PAGE <= self.added:
                del self._pages[number], self._left[number]
            first += size
