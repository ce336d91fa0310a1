"""SharedCounter: nothing is ever lost, whoever adds, however they end."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parmap import Pool, SharedCounter, parallel_map
from parmap._memory.host import locks_open_files
from parmap.shared import counter as module
from support import shared_far as far
from support.channel_peers import Child, Running, child, collect
from support.gates import PATIENCE, wait_until

MOST, LEAST = (1 << 63) - 1, -(1 << 63)


def cells(counter: SharedCounter) -> int:
    """How many cells were ever claimed."""
    return counter._words[module._COUNT]


# --- one thread -----------------------------------------------------------------------------------


def test_it_counts():
    counter = SharedCounter(5)
    counter.add()
    counter.add(3)
    counter.add(n=-1)
    counter += 2
    assert isinstance(counter, SharedCounter)
    assert (counter.value, repr(counter)) == (10, "<SharedCounter 10>")
    assert (counter.reset(), counter.value, counter.reset()) == (10, 0, 0)


@pytest.mark.parametrize("wrong", [1.5, "1", None])
def test_what_is_no_integer_is_refused_and_nothing_is_added(wrong):
    counter = SharedCounter()
    for _ in range(2):  # the first add claims a cell
        with pytest.raises(TypeError, match="n must be an integer, not"):
            counter.add(wrong)
        counter.add(1)
    assert counter.value == 2
    with pytest.raises(TypeError, match="initial value"):
        SharedCounter(wrong)


def test_assigning_the_value_names_what_to_use():
    counter: Any = SharedCounter()
    with pytest.raises(AttributeError, match="add and reset"):
        counter.value = 3


def test_a_share_beyond_64_bits_is_refused_and_the_value_is_beyond_all_bounds():
    counter = SharedCounter(MOST)
    counter.add(MOST)
    with pytest.raises(OverflowError, match="64 bits"):
        counter.add(1)
    Running(counter.add, MOST).result()
    assert counter.value == 3 * MOST
    assert counter.reset() == 3 * MOST
    counter.add(LEAST)
    assert counter.value == LEAST
    for first in (MOST + 1, LEAST - 1):
        with pytest.raises(OverflowError):
            SharedCounter(first)
        with pytest.raises(OverflowError):
            SharedCounter().add(first)


def test_a_full_cell_is_not_handed_on():
    """The next thread would get OverflowError for what it has not added."""
    counter = SharedCounter()
    Running(counter.add, MOST).result()
    Running(counter.add, 1).result()
    assert counter.value == MOST + 1


def test_numbers_of_numpy_do_not_wrap():
    np = pytest.importorskip("numpy")
    counter = SharedCounter()
    counter.add(np.int64(MOST))
    with pytest.raises(OverflowError):
        counter.add(np.int64(1))
    assert counter.value == MOST


class Machine(RuleBasedStateMachine):
    """Beside an int: adds from threads that stay and threads that end, resets, copies."""

    @initialize(begin=st.integers(LEAST, MOST))
    def begin(self, begin):
        self.counter = SharedCounter(begin)
        self.model = begin
        self.shares = {}

    @rule(n=st.one_of(st.integers(-5, 5), st.integers(LEAST, MOST)))
    def add_here(self, n):
        share = self.shares.get("here", 0) + n
        if LEAST <= share <= MOST:
            self.counter.add(n)
            self.shares["here"] = share
            self.model += n
        else:
            with pytest.raises(OverflowError):
                self.counter.add(n)

    @rule(n=st.integers(-1000, 1000))
    def add_in_a_thread_that_ends(self, n):
        Running(self.counter.add, n).result()
        self.model += n

    @rule()
    def reset(self):
        assert self.counter.reset() == self.model
        self.model = 0

    @invariant()
    def the_value_is_right(self):
        if hasattr(self, "counter"):
            assert self.counter.value == self.model


TestMachine = Machine.TestCase


@given(st.integers(-(1 << 100), 1 << 100))
def test_a_base_of_any_size_is_kept(base):
    counter = SharedCounter()
    counter._write_base(1, base)
    assert counter._base(1) == base


# --- threads and processes ------------------------------------------------------------------------


def test_threads_have_a_cell_each_and_give_it_back():
    counter = SharedCounter()
    barrier = threading.Barrier(30)

    def work():
        counter.add(1)
        barrier.wait(PATIENCE)
        counter.add(1)

    for _ in range(3):
        for thread in [Running(work) for _ in range(30)]:
            thread.result()
    assert (counter.value, cells(counter)) == (180, 30)


def test_more_threads_than_cells_lose_nothing():
    """Those who found none add to one together, under the lock."""
    counter = SharedCounter()
    many = module.MOST_CELLS + 20
    barrier = threading.Barrier(many)

    def work():
        counter.add(1)
        barrier.wait(PATIENCE)
        for _ in range(3):
            counter.add(1)

    for thread in [Running(work) for _ in range(many)]:
        thread.result()
    assert (counter.value, cells(counter)) == (4 * many, module.MOST_CELLS)


def test_a_forked_child_does_not_write_its_parents_cell():
    """Both add at the same time, beginning with a cell that the parent had before the fork."""
    counter = SharedCounter()
    counter.add(1)
    with child(lambda me: far.add_many(counter, 50_000, threads=2)) as process:
        far.add_many(counter, 50_000, threads=2)
        process.end_well()
    assert counter.value == 200_001
    assert cells(counter) >= 2


def test_a_forked_child_that_drops_its_copy_leaves_its_parents_cell_alone():
    counter = SharedCounter()
    counter.add(1)

    def drop(me):
        nonlocal counter
        del counter
        collect()

    with child(drop) as process:
        process.end_well()
    with child(lambda me: counter.add(1)) as process:
        process.end_well()
    assert (counter.value, cells(counter)) == (2, 2)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_start_method_adds_exactly(method):
    counter = SharedCounter()
    with Pool(2, start_method=method) as pool:
        parallel_map(far.add_many, [counter] * 20, [500] * 20, pool=pool)
    assert counter.value == 10_000


def test_a_closure_over_a_counter_adds():
    counter = SharedCounter()
    parallel_map(counter.add, range(1000), max_workers=2)
    assert counter.value == 499_500


def test_resets_and_the_final_value_are_all_adds():
    """And no read between two resets goes back."""
    counter = SharedCounter()

    def add(me):
        far.add_many(counter, 60_000)

    with child(add) as one, child(add) as other:
        taken = [counter.reset() for _ in range(300)]
        one.end_well()
        other.end_well()
    assert min(taken) >= 0
    assert sum(taken) + counter.value == 120_000


def test_reads_stay_between_the_adds_that_ended_and_those_that_began():
    """Each add tells before and after; and what is read never goes back."""
    counter, told = SharedCounter(), SharedCounter()

    def add(me):
        for _ in range(20_000):
            told.add(1)
            counter.add(1)

    with child(add) as one, child(add) as other:
        seen = 0
        while seen < 40_000:
            now = counter.value
            assert seen <= now <= told.value
            seen = now
        one.end_well()
        other.end_well()


def test_a_signal_handler_may_add_at_any_moment():

    def send_signals(me):
        for _ in range(50):
            os.kill(os.getppid(), signal.SIGUSR2)

    counter = SharedCounter()
    counter.add(0)
    before = signal.signal(signal.SIGUSR2, lambda *_: counter.add(1))
    try:
        with child(send_signals) as other:
            added = 0
            while other.exitcode is None:
                counter.add(1)
                added += 1
                if added % 1000 == 0 and os.waitid(
                    os.P_PID, other.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
                ):
                    other.end_well()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert 0 < counter.value - added <= 50


# --- kills ----------------------------------------------------------------------------------------


def killed_storm(counter: SharedCounter, kills: int, rng) -> int:
    """Kill adders at random moments; return how many adds they had told of, each two after two."""
    ours, theirs = os.pipe()

    def add(me):
        while True:
            counter.add(1)
            counter.add(1)
            os.write(theirs, b"2")

    told = 0
    for _ in range(kills):
        with child(add):
            for _ in range(rng.randrange(1, 20)):
                told += 2 * len(os.read(ours, rng.randrange(1, 500)))
    os.close(theirs)
    while got := os.read(ours, 1 << 16):
        told += 2 * len(got)
    os.close(ours)
    return told


def check_storm(kills: int, rng) -> None:
    counter = SharedCounter()
    told = killed_storm(counter, kills, rng)
    print(f"{kills} kills: told {told}, value {counter.value}, cells {cells(counter)}")
    assert told <= counter.value <= told + 2 * kills
    assert cells(counter) <= 2


def test_a_killed_adder_has_added_or_not(rng):
    check_storm(25, rng)


@pytest.mark.stress
def test_1000_killed_adders_have_added_or_not(rng):
    check_storm(1000, rng)


def short_lives(count: int) -> None:
    counter = SharedCounter()
    for _ in range(count // 4):
        processes = [Child(lambda me: far.add_many(counter, 3)) for _ in range(4)]
        for process in processes:
            process.end_well()
    assert counter.value == count // 4 * 4 * 3
    assert cells(counter) <= 4


def test_short_lived_processes_leave_what_they_added_and_take_over_cells():
    short_lives(100)


@pytest.mark.stress
def test_thousands_of_short_lived_processes():
    short_lives(5000)


def test_one_killed_in_the_middle_of_a_claim_or_a_reset_keeps_nobody_waiting():
    """It has the kernel's lock."""
    counter = SharedCounter(3)

    def hold(me):
        counter._lock.acquire()
        me.say()
        me.hear()

    with child(hold) as process:
        process.hear()
        waiting = Running(counter.add, 1)  # a thread's first add waits
        counter_value = counter.value  # a read does not
        process.kill()
        waiting.result()
    assert counter_value == 3
    assert (counter.value, counter.reset()) == (4, 4)


@pytest.mark.skipif(not locks_open_files(), reason="blocks are not used again there")
def test_cells_are_counted_out_in_a_block_of_their_own():
    """A counter that ends gives its block back, also while threads live that had added."""
    from parmap._memory.arena import default_arena

    before = default_arena().statistics()["used"]
    counter: Any = SharedCounter()
    counter.add(1)
    assert default_arena().statistics()["used"] == before + 1
    del counter
    collect()
    wait_until(lambda: default_arena().statistics()["used"] == before, "the block to be free")
