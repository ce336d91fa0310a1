"""For every test of channels: nothing may be left behind, not even a descriptor."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from parmap.testing.leaks import nothing_left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # they look into /proc

PORTABLE = os.environ.get("PARMAP_PORTABLE") in ("1", "2")


def pytest_report_header() -> str:
    return f"channels: the {'portable' if PORTABLE else 'native'} implementation"


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield
