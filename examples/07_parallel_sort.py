"""Sorting in parallel: sort pieces in processes, merge them here; and the same without copying.

    python examples/07_parallel_sort.py

What to notice: the pieces go to workers and come back as copies, which for plain numbers costs about
as much as sorting them. So it pays where comparing is dear (a key that is computed), and where
nothing is copied at all: in a `SharedArray` each worker sorts its own part in place.
"""

from __future__ import annotations

import heapq
import itertools
import random
import unicodedata
from typing import TYPE_CHECKING

from parmap import SharedArray, parallel_map

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECES = 4
rng = random.Random(1)  # noqa: S311 - some words, the same each time


def pieces_of(count: int) -> list[tuple[int, int]]:
    """Where each of the pieces begins and ends."""
    edges = [count * number // PIECES for number in range(PIECES + 1)]
    return list(itertools.pairwise(edges))


def by_sound(word: str) -> str:
    """A key that is dear: without accents, without case."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if c.isalpha()).casefold()


def sorted_by_sound(words: Sequence[str]) -> list[tuple[str, str]]:
    return sorted((by_sound(word), word) for word in words)


print("1. Pieces go out, sorted pieces come back, the merge is lazy")
letters = "aàáâbcçdeéèêfgiíìjklmnñoóòpqrstuúùvwxyz"
words = ["".join(rng.choices(letters, k=6)).title() for _ in range(20_000)]
pieces = parallel_map(sorted_by_sound, [words[start:stop] for start, stop in pieces_of(len(words))])
merged = [word for _, word in heapq.merge(*pieces)]
print("   as sorted() gives it:", merged == [word for _, word in sorted_by_sound(words)])
print("   the first three:", merged[:3])

print("2. In place, in shared memory: only the places of the pieces travel")
numbers = SharedArray("d", (rng.random() for _ in range(40_000)))
expected = sorted(numbers)


def sort_in_place(start: int, stop: int) -> int:
    numbers[start:stop] = sorted(numbers[start:stop])  # nobody else touches this part
    return stop - start


starts, stops = zip(*pieces_of(len(numbers)), strict=True)
print("   sorted in place:", parallel_map(sort_in_place, starts, stops))
merged_numbers = list(heapq.merge(*(numbers[a:b] for a, b in pieces_of(len(numbers)))))
print("   as sorted() gives it:", merged_numbers == expected)
