"""For every test of shared state: nothing may be left behind, not even a descriptor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from parmap._memory.arena import default_arena
from parmap.testing.leaks import nothing_left_behind
from support.gates import warm_pool
from support.transports import Road

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parmap import Pool

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # they look into /proc


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with default_arena().allocate(0).lock():
        pass  # this process's arena, and its lock file, live as long as the process
    with nothing_left_behind():
        yield


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[Pool]:
    """A worker that runs already."""
    with warm_pool(tmp_path_factory.mktemp("pool"), 1) as pool:
        yield pool


@pytest.fixture
def road(pool, tmp_path) -> Road:
    return Road(pool, tmp_path)
