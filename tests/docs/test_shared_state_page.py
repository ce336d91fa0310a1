"""Every method of multiprocessing's shared state has a counterpart, or a reason why not."""

from __future__ import annotations

import multiprocessing
from multiprocessing import shared_memory, sharedctypes
from multiprocessing.managers import SyncManager
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "from-multiprocessing.md"
# Of a manager's own process; and what the page of locks answers.
ELSEWHERE = {"get_server", "join", "address", "JoinableQueue", "BoundedSemaphore"}


@pytest.mark.parametrize(
    "thing",
    [
        sharedctypes.SynchronizedArray, sharedctypes.SynchronizedString,
        type(multiprocessing.Value("i")), shared_memory.SharedMemory, SyncManager,
    ],
    ids=lambda thing: thing.__name__,
)  # fmt: skip
def test_the_table_names_every_method(thing):
    page = PAGE.read_text(encoding="utf-8")
    names = {name for name in dir(thing) if not name.startswith("_")} - ELSEWHERE

    assert [name for name in sorted(names) if name not in page] == []


def test_the_table_names_every_function_and_class():
    page = PAGE.read_text(encoding="utf-8")

    names = [*sharedctypes.__all__, *shared_memory.__all__, "SharedMemoryManager", "Namespace"]
    assert [name for name in names if name not in page] == []
