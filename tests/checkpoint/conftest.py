"""For every test of checkpoints: a folder, a recorded function, and a disk that is not waited for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import parmap._checkpoint.file
from support.checkpoints import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True, scope="module")
def _quick_disk() -> Iterator[None]:
    """What survives the machine's death is SQLite's promise; ours is about processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parmap._checkpoint.file, "SYNCHRONOUS", "OFF")
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def recorded(folder: Path) -> Recorded:
    return Recorded(folder)


@pytest.fixture
def file(folder: Path) -> Path:
    return folder / "results.sqlite"


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor
