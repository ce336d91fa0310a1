"""The parent is killed at random moments, and started again until it is done."""

from __future__ import annotations

import pickle
import sqlite3
import time

import pytest

from support.checkpoints import is_whole, rows
from support.gates import Diary, wait_until
from support.scripts import running

# Each run is one process more, which takes most of a second to be there.
WAYS = [("map", 2), ("as they finish", 2)] + [
    pytest.param(way, 100, marks=pytest.mark.stress) for way in ("map", "ordered", "as they finish")
]

# Every item is as long as its number says, so results come in another order than items; each run of
# one is on record before it begins, each result that the consumer has seen after it came.
SCRIPT = """
    import sys, time
    from parmap import parallel_imap, parallel_map
    from support.gates import Diary

    folder, items = {folder!r}, {items}

    def work(x):
        Diary(folder + "/ran").write(x)
        time.sleep(x % 7 / 1000)
        return x, bytes([x % 256]) * (x % 5 * 3000)

    if {lazy}:
        seen = Diary(folder + "/seen")
        results = []
        for result in parallel_imap(
            work, range(items), max_workers=2, ordered={ordered}, checkpoint=folder + "/file"
        ):
            seen.write(result[0])
            results.append(result)
    else:
        results = parallel_map(work, range(items), max_workers=2, checkpoint=folder + "/file")
    assert sorted(results) == [(x, bytes([x % 256]) * (x % 5 * 3000)) for x in range(items)]
    print("done")
"""


def stored_in(file):
    """The items whose results are in the file, which nobody holds any more."""
    if not file.exists():
        return set()
    try:
        return {pickle.loads(row)[0] for row in rows(file)}
    except sqlite3.OperationalError:
        return set()  # killed before there was a table


def kill_when(process, ran, runs, delay):
    """Once so many items have been begun, and this long after; unless it has ended by itself."""
    wait_until(lambda: len(ran.lines()) >= runs or process.poll() is not None)
    end = time.perf_counter() + delay
    while time.perf_counter() < end:
        pass
    process.kill()
    process.wait()


@pytest.mark.parametrize(("way", "kills"), WAYS)
def test_whenever_it_is_killed_it_goes_on_with_what_is_missing(way, kills, tmp_path, rng):
    ran, seen, file = Diary(tmp_path / "ran"), Diary(tmp_path / "seen"), tmp_path / "file"
    items = 40 * kills
    script = SCRIPT.format(
        folder=str(tmp_path), items=items, lazy=way != "map", ordered=way == "ordered"
    )
    stored: set[int] = set()
    known = 0
    for turn in range(kills + 1):
        with running(script, tmp_path) as program:
            if turn == kills:
                assert program.finish()[0:2] == (0, "done\n")
            else:
                kill_when(program.process, ran, known + rng.randrange(60), rng.random() * 0.008)
        now = ran.numbers()
        assert not stored & set(now[known:]), "an item whose result was stored has run again"
        known = len(now)
        if file.exists():
            assert is_whole(file)
        before, stored = stored, stored_in(file)
        assert before <= stored, "a stored result is gone"
        assert set(seen.numbers()) <= stored, "a result was given away before it was stored"
    assert stored == set(range(items))
    assert set(ran.numbers()) == stored
