"""Real processes that are killed at random moments; histories that must be those of a lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from itertools import chain, pairwise
from statistics import median
from typing import Any

import pytest

from parmap import Lock, RLock, Semaphore
from parmap._memory.arena import default_arena
from support.channel_peers import child
from support.gates import PATIENCE, wait_until
from support.scripts import environment

ROUNDS = [10, pytest.param(300, marks=pytest.mark.stress)]


def work(me: Any, lock: Any, cells: memoryview[int], slot: int) -> None:
    """Count under the lock for ever: a second one inside at the same time would lose a count.

    Word 0 is the count, word 1 who is inside; each process counts in a word of its own, too.
    """
    while True:
        with lock:
            assert lock.was_abandoned or not cells[1], "two were inside"
            cells[1] = os.getpid()
            count = cells[0]
            cells[slot] += 1
            cells[0] = count + 1
            cells[1] = 0


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("kind", [Lock, RLock])
def test_holders_and_waiters_are_killed_at_random_and_nobody_hangs(kind, rounds, rng):
    lock, block = kind(), default_arena().allocate(64)
    cells = block.words()
    waits: list[float] = []
    for _ in range(rounds):
        with child(work, lock, cells, 2) as one, child(work, lock, cells, 3) as other:
            before = cells[2], cells[3]
            wait_until(lambda b=before: cells[2] > b[0] and cells[3] > b[1], "both to count")
            for victim in rng.sample([one, other], 2):
                end = time.perf_counter() + rng.random() * 0.002
                while time.perf_counter() < end:
                    pass  # the moment of the kill
                victim.kill()
                began = time.perf_counter()
                assert lock.acquire(timeout=PATIENCE), "the lock died with its holder"
                waits.append(time.perf_counter() - began)
                if lock.was_abandoned:
                    cells[1] = 0
                lock.release()
    # Killed between the two counts: one less.
    assert 0 <= cells[2] + cells[3] - cells[0] <= 2 * rounds
    print(
        f"next acquire after a kill: median {median(waits) * 1e3:.2f} ms, worst {max(waits) * 1e3:.1f}"
    )
    cells.release()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_permits_survive_the_random_deaths_of_those_who_take_and_give_them(rounds, rng):
    semaphore, total = Semaphore(2), 2

    def take_and_give(me: Any) -> None:
        while True:
            with semaphore:
                pass

    for _ in range(rounds):
        with (
            child(take_and_give) as one,
            child(take_and_give) as two,
            child(take_and_give) as three,
        ):
            for victim in (one, two, three):
                end = time.perf_counter() + rng.random() * 0.002
                while time.perf_counter() < end:
                    pass
                victim.kill()
        assert semaphore.value == total
        assert semaphore.acquire(timeout=PATIENCE)
        semaphore.release()


def test_recorded_histories_are_those_of_a_lock():
    """Each process notes when it was inside, on one clock: no two stays overlap."""
    lock = Lock()

    def note(me: Any) -> None:
        mine = []
        for _ in range(300):
            with lock:
                came = time.perf_counter_ns()
                mine.append((came, time.perf_counter_ns()))
        me.say(mine)

    with child(note) as one, child(note) as two, child(note) as three:
        history = sorted(chain(one.hear(), two.hear(), three.hear()))
        for process in (one, two, three):
            process.end_well()
    assert len(history) == 900
    assert all(left <= came for (_, left), (came, _) in pairwise(history))


def test_of_many_who_always_come_back_none_starves():
    """By the time the fastest has been in 3,000 times each of the others has been in often, too."""
    lock, block = Lock(), default_arena().allocate(64)
    cells = block.words()

    def come_back(me: Any, slot: int) -> None:
        while True:
            with lock:
                cells[slot] += 1
                end = time.perf_counter() + 0.00005
                while time.perf_counter() < end:
                    pass

    with (
        child(come_back, 2) as _a, child(come_back, 3) as _b, child(come_back, 4) as _c,
        child(come_back, 5) as _d,
    ):  # fmt: skip
        wait_until(lambda: max(cells[2:6]) > 3000, "3,000 laps")
        laps = Counter({slot: cells[slot] for slot in range(2, 6)})
    print(laps)
    assert min(laps.values()) > 30
    cells.release()


SCRIPT = """
import os, signal, sys
from parmap import Barrier, Condition, Event, Lock, RLock, Semaphore
things = [Lock(), RLock(), Semaphore(2), Event(), Condition(), Barrier(2)]
for _ in range(3):
    if os.fork() == 0:
        things[0].acquire(); things[2].acquire(); things[3].wait()
things[1].acquire()
print(os.getpgid(0), flush=True)
signal.pause()
"""


def test_nothing_is_left_and_nothing_is_printed_when_everybody_is_killed():
    before = set(os.listdir("/dev/shm"))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT], env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    group = int(process.stdout.readline())
    os.killpg(group, 9)
    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err) == ("", "")
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "parmap" in name]
