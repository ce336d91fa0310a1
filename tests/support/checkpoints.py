"""A function whose runs are on record, and some of whose items fail: for calls with a checkpoint."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.gates import Diary

if TYPE_CHECKING:
    from collections.abc import Collection


def value_of(x: Any) -> Any:
    return ["value", x]


def _run(folder: str, x: Any) -> Any:
    Diary(f"{folder}/ran").write(json.dumps(x))
    if x in json.loads(Path(folder, "bad").read_text()):
        raise ValueError(f"bad {x}")
    return value_of(x)


class Recorded:
    """`run` may be called anywhere; where it ran and which items fail is written in a folder.

    Which items fail is no part of the function: else another choice would be another function.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.run = functools.partial(_run, str(folder))
        self.fail()

    def fail(self, *bad: Any) -> None:
        """From now on these items fail, and no others."""
        Path(self._folder, "bad").write_text(json.dumps(bad))

    def ran(self) -> list[Any]:
        """Which items have run since the last time that this was asked."""
        diary = Diary(self._folder / "ran")
        lines = diary.lines()
        if lines:
            os.unlink(diary.path)
        return sorted(json.loads(line) for line in lines)


def is_whole(path: Path) -> bool:
    """What SQLite itself says of a file that nobody holds any more."""
    base = sqlite3.connect(path)
    try:
        return base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        base.close()


def rows(path: Path) -> Collection[bytes]:
    """The pickled results in a file that nobody holds."""
    base = sqlite3.connect(path)
    try:
        return [row[0] for row in base.execute("SELECT value FROM results")]
    finally:
        base.close()
