"""For every test of shared state: nothing may be left behind, not even a descriptor."""

from __future__ import annotations

import gc
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

from parmap._memory.arena import LARGEST, default_arena
from parmap.testing.leaks import nothing_left_behind
from support.channel_peers import collect
from support.gates import warm_pool
from support.transports import Road

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parmap import Pool

PORTABLE = os.environ.get("PARMAP_PORTABLE") in ("1", "2")
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # they look into /proc


@cache
def _grow_the_arena() -> None:
    """It lives as long as the process, and so do its lock file and, until 3.12, its old mappings."""
    blocks = [default_arena().allocate(LARGEST) for _ in range(128)]
    with blocks[0].lock():
        pass


@pytest.fixture(autouse=True, scope="module")
def _cheap_collections() -> Iterator[None]:
    """What was there before the tests need not be looked at by each of their many collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    if PORTABLE:
        # The arena's lock has a name there, which another process may sweep away while nobody
        # holds it: its descriptor, open as long as this process, then looks like another one.
        yield
        return
    _grow_the_arena()
    with nothing_left_behind():
        yield
        collect()  # errors and frames that hold arrays


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[Pool]:
    """A worker that runs already."""
    with warm_pool(tmp_path_factory.mktemp("pool"), 1) as pool:
        yield pool


@pytest.fixture
def road(pool, tmp_path) -> Road:
    return Road(pool, tmp_path)
