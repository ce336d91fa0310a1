"""For every test of locks: nothing may be left behind, not even a descriptor."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import pytest

from parmap import Barrier
from parmap.testing.leaks import nothing_left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # they look into /proc

PORTABLE = os.environ.get("PARMAP_PORTABLE") in ("1", "2")


def pytest_report_header() -> str:
    return f"locks: the {'portable' if PORTABLE else 'native'} implementation"


@pytest.fixture(autouse=True, scope="session")
def _large_arena() -> None:
    """Each growth of the process's arena is a descriptor more for as long as it lives: now, then."""
    locks = [Barrier(2) for _ in range(100)]
    del locks


@pytest.fixture(autouse=True, scope="module")
def _cheap_collections() -> Iterator[None]:
    """What was there before the tests need not be looked at by each of their many collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    if PORTABLE:  # a lock's named file is opened anew when another process has swept the name away
        yield
        return
    with nothing_left_behind():
        yield
