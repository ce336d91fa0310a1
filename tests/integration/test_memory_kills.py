"""SIGKILL at any moment: locks fall free, arenas stay usable, nothing is left behind.

The moments are random; the seed is in the report's header (PARMAP_TEST_SEED).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from parmap._memory.arena import Arena, Block
from parmap._memory.fdpass import Link
from parmap._memory.flock import RobustLock
from parmap._memory.segment import Segment
from parmap._memory.words import words

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

KILLS = int(os.environ.get("PARMAP_TEST_KILLS", "40"))
# From the death of a holder to the next acquire: milliseconds, but the machine may be loaded.
BOUND = 20.0


def start(fn: Callable[[], object]) -> int:
    """Run `fn` again and again in a forked child, until it is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            while True:
                fn()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(70)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def let_run(rng: random.Random, least: float = 0.0002, most: float = 0.01) -> None:
    """Let the children run for a random while: chance is the purpose, nothing is waited for."""
    select.select([], [], [], rng.uniform(least, most))


@pytest.fixture(params=["native", "portable"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "portable":
        monkeypatch.setenv("PARMAP_PORTABLE", "1")
    return str(request.param)


@pytest.mark.parametrize("whole", [True, False])
def test_a_killed_holder_frees_the_lock_and_nothing_inside_is_torn(platform, whole, rng):
    """Three fight for a lock and are killed in turn; the lock is always to be had, and guards."""
    segment = Segment.create(4096)
    lock = RobustLock(segment, 64, whole=whole)
    pair = words(segment, 128, 4)

    def fight():
        with lock:
            if lock.was_abandoned:
                pair[1] = pair[0]  # the one before died between the two stores
                pair[3] += 1
            if pair[0] != pair[1]:
                os._exit(71)
            pair[0] += 1
            for _ in range(300):  # long enough to be killed in
                pair[2] += 1
            pair[1] += 1

    pids = [start(fight) for _ in range(3)]
    worst = 0.0
    try:
        for _ in range(KILLS):
            let_run(rng)
            kill(pids.pop(rng.randrange(3)))
            began = time.monotonic()
            assert lock.acquire(timeout=BOUND), "the lock died with its holder"
            worst = max(worst, time.monotonic() - began)
            if lock.was_abandoned:
                pair[1] = pair[0]
                pair[3] += 1
            assert pair[0] == pair[1]
            lock.release()
            pids.append(start(fight))
    finally:
        for pid in pids:
            kill(pid)
    assert pair[0] > KILLS
    assert worst < BOUND
    print(f"{KILLS} kills, {pair[3]} of them inside; worst wait {worst * 1000:.1f} ms")


def test_a_killed_holder_who_never_lets_go_wakes_the_waiter(platform):
    """Blocked in the kernel without a timeout, the waiter is woken by the holder's death."""
    lock = RobustLock.create()
    ready = os.pipe()

    def hold():
        with lock:
            os.write(ready[1], b"x")
            signal.pause()

    def wait():
        lock.acquire()
        os.write(ready[1], b"w")
        signal.pause()

    for _ in range(5):
        pid = start(hold)
        os.read(ready[0], 1)
        waiter = start(wait)
        kill(pid)
        assert select.select([ready[0]], [], [], BOUND)[0]
        assert os.read(ready[0], 1) == b"w"
        kill(waiter)
    assert lock.acquire(timeout=BOUND)
    assert lock.was_abandoned
    lock.release()
    for fd in ready:
        os.close(fd)


def test_killed_while_allocating_the_arena_stays_usable(rng):
    """Allocators, senders and receivers die anywhere; no block is ever given to two."""
    arena = Arena.create()
    mine = [arena.allocate(64) for _ in range(5)]
    for number, block in enumerate(mine):
        block.words()[0] = -number - 1
    held: list[Block] = []

    def allocate():
        block = arena.allocate(64 if len(held) % 3 else 200)
        view = block.words()
        if any(view):
            os._exit(71)
        view[1] = os.getpid()
        held.append(block)
        if any(other.words()[1] != os.getpid() for other in held):
            os._exit(72)
        if len(held) > 12:
            del held[:7]

    pids = [start(allocate) for _ in range(3)]
    try:
        for _ in range(KILLS):
            let_run(rng)
            kill(pids.pop(rng.randrange(3)))
            block = arena.allocate(64)
            assert not any(block.words())
            pids.append(start(allocate))
    finally:
        for pid in pids:
            kill(pid)
    del block
    gc.collect()
    for number, block in enumerate(mine):
        assert block.words()[0] == -number - 1
    statistics = arena.statistics()
    assert statistics["used"] == 5
    # Never more than twice what was in use at once, and 64, for each of the two sizes.
    assert statistics["blocks"] <= 2 * (2 * 60 + 64)


def test_killed_while_sending_descriptors_they_are_closed(rng):
    """The reader sees whole batches, then the end; nothing stays open in the kernel."""
    read, write = os.pipe()
    for _ in range(KILLS):
        one, other = Link.pair()

        def send(one=one, other=other):
            other.close()
            one.send_all([b"x" * 700], [write] * 7)

        pid = start(send)
        one.close()
        let_run(rng, most=0.003)
        kill(pid)
        buffer, size, count = bytearray(1 << 16), 0, 0
        while True:
            received, fds = other.receive_into(buffer)
            for fd in fds:
                os.close(fd)
            if not received:
                break
            size += received
            count += len(fds)
        assert count == -(-size // 700) * 7, "a batch comes whole, with its first byte"
        other.close()
    os.close(write)
    assert select.select([read], [], [], BOUND)[0]
    assert os.read(read, 1) == b"", "a copy of the write end is still open somewhere"
    os.close(read)


def test_killed_processes_leave_no_file(rng):
    before = set(os.listdir("/dev/shm"))

    def make():
        Segment.create(1 << 16).buf[0] = 1
        with RobustLock.create():
            pass

    for _ in range(KILLS // 4):
        pid = start(make)
        let_run(rng)
        kill(pid)
    assert set(os.listdir("/dev/shm")) == before
