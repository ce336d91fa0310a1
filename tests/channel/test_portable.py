"""The portable implementation answers the same tests, in an interpreter of its own.

Where it promises less than the native one the tests themselves say so, with `conftest.PORTABLE`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from parmap._channel.portable import NamedPresence
from support.portable import run_portable

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif("PARMAP_PORTABLE" in os.environ, reason="this run is portable")


def files(*names: str) -> list[Path]:
    return [HERE / f"test_{name}.py" for name in names]


@pytest.mark.slow
def test_the_portable_implementation_keeps_the_table_and_the_matrix(tmp_path):
    """Of the handles the one that is made of the others; `make nightly` runs them all."""
    chosen = "counts_while or machine or cannot_go or (where_it_arrives and Duplex)"
    run_portable(files("ends", "matrix", "machine"), tmp_path, "-k", chosen)


@pytest.mark.slow
def test_the_portable_implementation_survives_kills(tmp_path):
    chosen = "third-asleep or only_doorbell or soon_after or (random_kills and small-2)"
    run_portable(files("kills"), tmp_path, "-k", chosen)


@pytest.mark.slow
def test_the_portable_implementation_tells_who_forgot_to_close(tmp_path):
    waits = HERE.parent / "integration" / "test_groups_waits.py"
    run_portable([], tmp_path, str(waits), "-k", "chain or open_end or [receive] or [select]")


@pytest.mark.stress
@pytest.mark.parametrize("name", ["ends", "matrix", "machine", "properties", "sizes", "kills"])
def test_the_portable_implementation_passes_everything(name, tmp_path):
    run_portable(files(name), tmp_path)


@pytest.mark.parametrize("moment", ["made", "opened"])
def test_a_name_that_is_swept_away_before_it_is_locked_is_made_anew(moment, monkeypatch):
    """Another process looks for what dead ones have left, and to it that is what this is."""
    swept: list[str] = []
    mkfifo, flock = os.mkfifo, fcntl.flock

    def make(path, mode):
        mkfifo(path, mode)
        swept.append(path)
        if moment == "made" and len(swept) < 3:
            os.unlink(path)

    def lock(fd, how):
        if moment == "opened" and how == fcntl.LOCK_SH and len(swept) < 3:
            os.unlink(swept[-1])
        flock(fd, how)

    monkeypatch.setattr(os, "mkfifo", make)
    monkeypatch.setattr(fcntl, "flock", lock)

    presence = NamedPresence.create()
    assert len(swept) == 3
    end = presence.join()
    assert presence.anyone()
    os.close(end)
    assert not presence.anyone()
    del presence
    assert not any(map(os.path.exists, swept))
