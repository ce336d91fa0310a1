"""SIGKILL at any moment: no update is lost that returned, none is half, and nobody hangs.

Random moments; PARMAP_TEST_SEED repeats them, PARMAP_TEST_KILLS makes more of them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from parmap import SharedDict, SharedList
from parmap._memory import log
from parmap._memory.segment import Segment
from parmap._memory.words import words
from support.channel_peers import Child, child
from support.container_tools import let_run

KILLS = int(os.environ.get("PARMAP_TEST_KILLS", "40"))
MANY = 400
PROCESSES = 3
SIZES = (100, 40_000, 150_000)


@pytest.fixture(autouse=True)
def _short_generations(monkeypatch):
    """Most kills shall have a snapshot near; children inherit it."""
    monkeypatch.setattr(log, "_LEAST", 2048)


class Storm:
    """Processes that change one dict and one list, and note in memory of their own what returned."""

    def __init__(self) -> None:
        self.d: SharedDict[Any, Any] = SharedDict(total=0, a=0, b=0)
        self.seq: SharedList[tuple[int, int]] = SharedList()
        self.segment = Segment.create(4096)
        self.returned = words(self.segment, 0, 4 * 64)

    def work(self, me: Child, number: int) -> None:
        """Changes of each kind; one word per kind says how many have returned."""
        d, seq, counts = self.d, self.seq, self.returned[4 * (number % 64) : 4 * (number % 64) + 4]
        base = counts[1]
        me.say()
        for turn in range(base + 1, 1 << 60):
            d.update_item("total", lambda n: n + 1)
            counts[0] += 1
            d[number % 64] = turn, number
            counts[1] = turn
            d.update(a=turn, b=turn, big=bytes([turn % 256]) * SIZES[turn % 3])
            counts[2] += 1
            seq.append((number % 64, turn))
            counts[3] = turn
            if turn % 5 == 0:
                d["passing", number] = turn
                del d["passing", number]
            with suppress(ValueError):  # a process before this one was killed ahead of it
                seq.remove((number % 64, turn - 20))

    def look(self) -> None:
        """Anybody, at any moment, sees whole steps only."""
        seen = self.d.copy()
        assert seen["a"] == seen["b"]
        if seen["a"]:
            assert seen["big"] == bytes([seen["a"] % 256]) * SIZES[seen["a"] % 3]
        assert len(set(self.d["big"])) == 1 if seen["a"] else True

    def check(self, kills: int) -> dict[str, int]:
        """Return figures; what had returned is there, and at most one more for each kill."""
        self.look()
        total = sum(self.returned[0 : 4 * 64 : 4])
        assert total <= self.d["total"] <= total + kills
        for number in range(64):
            last = self.returned[4 * number + 1]
            if last:
                assert last <= self.d[number][0] <= last + 1
            last = self.returned[4 * number + 3]
            mine = [turn for who, turn in self.seq if who == number]
            assert mine == sorted(mine)
            if last:
                assert last <= mine[-1] <= last + 1
                assert len(mine) == len(set(mine)) <= 21 + kills
        generations = self.d._replica.words[log.END] >> log.LENGTH_BITS
        return {"updates": total, "more": self.d["total"] - total, "generations": generations}


def kill(process: Child) -> None:
    """It must have lived until now."""
    os.kill(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise AssertionError(f"a process ended with {process.exitcode} before it was killed")


def run_storm(rng, kills: int) -> dict[str, Any]:
    storm, number, worst = Storm(), 0, 0.0
    with ExitStack() as stack:
        living: list[tuple[int, Child]] = []
        for done in range(kills + PROCESSES):
            if len(living) == PROCESSES:
                let_run(rng.uniform(0.0002, 0.006))
                slot, victim = living.pop(rng.randrange(PROCESSES))
                kill(victim)
                began = time.monotonic()
                storm.look()
                storm.d["after"] = done  # the mutex is to be had, whoever died with it
                worst = max(worst, time.monotonic() - began)
            else:
                slot = number
                number += 1
            process = stack.enter_context(child(storm.work, slot))
            process.hear()
            living.append((slot, process))
        for _, process in living:
            kill(process)
    figures = storm.check(kills + PROCESSES)
    return {"kills": kills, **figures, "worst_ms": round(worst * 1e3)}


def test_random_kills(rng):
    figures = run_storm(rng, KILLS)
    print(json.dumps(figures))
    assert figures["updates"] > KILLS
    assert figures["generations"] > 10


@pytest.mark.stress
@pytest.mark.parametrize("lap", range(4))
def test_400_random_kills(lap, rng):
    print(json.dumps(run_storm(rng, MANY)))


# --- chosen moments -------------------------------------------------------------------------------


def test_killed_in_the_function_of_update_item_nothing_is_published():
    d: SharedDict[str, Any] = SharedDict(n=1, big=b"x" * 100_000)

    def body(me):
        def fn(value):
            me.say("inside")
            signal.pause()

        d.update_item(me.hear(), fn)

    for key in ("n", "big"):
        with child(body) as process:
            process.say(key)
            assert process.hear() == "inside"
            assert d["n"] == 1  # readers do not wait for it
            assert len(d["big"]) == 100_000
            process.kill()
        assert d.update_item("n", lambda n: n) == 1
        assert d == {"n": 1, "big": b"x" * 100_000}


def test_readers_do_not_wait_for_a_stopped_process(rng):
    """Stopped anywhere, also while it holds the mutex; what others read is whole."""
    d: SharedDict[str, Any] = SharedDict(a=0, b=0)

    def body(me):
        me.say()
        for turn in range(1 << 60):
            d.update(a=turn, b=turn)

    with child(body) as process:
        process.hear()
        for _ in range(30):
            let_run(rng.uniform(0.0002, 0.002))
            process.stop()
            seen = d.copy()
            assert seen["a"] == seen["b"]
            process.resume()


@pytest.mark.parametrize("store", range(6))
def test_killed_before_any_store_of_a_snapshot_nothing_has_happened(store, monkeypatch):
    """The first, second ... store of `Log.begin_again` is the last thing a process does."""
    d: SharedDict[int, Any] = SharedDict()
    full = fill_generation(d)

    class Fatal:
        """Words that die at the given store."""

        left = store

        def __init__(self, real):
            self.real = real

        def __getitem__(self, at):
            return self.real[at]

        def __setitem__(self, at, value):
            if not Fatal.left:
                os.kill(os.getpid(), signal.SIGKILL)
            Fatal.left -= 1
            self.real[at] = value

    def body(me):
        theirs = d._replica.log
        theirs.words = Fatal(theirs.words)
        theirs._slots = [Fatal(slot) for slot in theirs._slots]
        theirs.begin_again(b"never seen", 10)

    with child(body) as process:
        assert process.wait() == -signal.SIGKILL
    assert d == full
    d["next"] = 1
    assert d.pop("next") == 1
    assert fill_generation(d).keys() >= full.keys()


def fill_generation(d):
    """Set keys until the generation is nearly full; return all there is."""
    words_ = d._replica.words
    before = words_[log.END] >> log.LENGTH_BITS
    number = 0
    while words_[log.END] >> log.LENGTH_BITS == before:
        d[number % 10] = number
        number += 1
    return d.copy()
