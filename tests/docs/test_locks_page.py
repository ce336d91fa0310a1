"""The page on locks shows the example, and has a counterpart or a reason for every method."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "locks.md"
KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition", "Barrier"]


def test_the_page_shows_the_example():
    page = PAGE.read_text(encoding="utf-8")
    assert "literalinclude} ../../examples/05_lock_and_semaphore_patterns.py" in page
    assert "literalinclude} ../../examples/05_lock_and_semaphore_patterns.out" in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_of_multiprocessings_has_its_row(kind):
    page = PAGE.read_text(encoding="utf-8")
    made = getattr(multiprocessing, kind)(*[2] * (kind == "Barrier"))
    called = {"RLock": "lock", "BoundedSemaphore": "semaphore"}.get(kind, kind.lower())
    missing = [
        name for name in dir(made) if not name.startswith("_") and f"`{called}.{name}" not in page
    ]
    assert f"`{kind}" in page
    assert missing == []
