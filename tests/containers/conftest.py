"""For every test of containers: nothing may be left behind, not even a descriptor."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import pytest

from parmap.testing.leaks import nothing_left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # they look into /proc


def pytest_report_header() -> str:
    portable = os.environ.get("PARMAP_PORTABLE") in ("1", "2")
    return f"containers: the {'portable' if portable else 'native'} implementation"


@pytest.fixture(autouse=True, scope="module")
def _cheap_collections() -> Iterator[None]:
    """What was there before the tests need not be looked at by each of their many collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield
