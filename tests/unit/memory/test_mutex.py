"""The fast lock: exclusion, and every way to die, to be interrupted or to starve with it."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time

import pytest

from parmap._memory import mutex as mutexes
from parmap._memory.intents import IntentMutex
from parmap._memory.manners import ASLEEP, HUNGRY
from parmap._memory.mutex import FileMutex, mutex_of, prepare, size_of
from parmap._memory.patience import within
from parmap._memory.segment import Segment
from parmap._memory.semaphores import COUNT, HEADER, WAITERS
from parmap._memory.words import words

AT = 128  # anywhere
SIZE = AT + size_of(50) + 64


@pytest.fixture(params=[IntentMutex, FileMutex])
def mutex(request):
    segment = Segment.create(SIZE)
    if request.param is IntentMutex:
        prepare(segment, AT)
    mutex = mutex_of(segment, AT, 50)
    assert type(mutex) is request.param
    return mutex


@pytest.fixture
def fast():
    segment = Segment.create(SIZE)
    prepare(segment, AT)
    return mutex_of(segment, AT, 50)


def in_child(act, *arguments) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            act(*arguments)
            code = 0
        finally:
            os._exit(code)
    return pid


def assert_well(*pids) -> None:
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


def die_inside(mutex) -> None:
    mutex.enter()
    os.kill(os.getpid(), signal.SIGKILL)


def end_word(mutex) -> memoryview[int]:
    return words(mutex.segment, SIZE - 64)


def test_there_is_one_object_for_each_place(mutex):
    assert mutex_of(mutex.segment, AT, 50) is mutex


def test_it_goes_when_nobody_refers_to_it(mutex):
    segment = mutex.segment
    before = len(mutexes._mutexes)
    del mutex
    assert mutex_of(segment, AT, 50) is not None
    gc.collect()
    assert len(mutexes._mutexes) <= before


def test_leaving_twice_or_without_having_entered_is_harmless(mutex):
    mutex.leave()
    mutex.enter()
    assert mutex.held
    mutex.leave()
    mutex.leave()
    assert not mutex.held
    with mutex:
        assert mutex.held
    assert not mutex.held


def test_who_gets_it_after_a_holders_death_is_told(mutex):
    os.waitpid(in_child(die_inside, mutex), 0)
    assert mutex.enter(timeout=0)
    assert mutex.was_abandoned
    mutex.leave()
    assert mutex.abandoned[0] == 1
    with mutex:
        assert not mutex.was_abandoned
    assert mutex.abandoned[0] == 1  # until somebody has repaired what it guards


def test_one_that_died_holding_what_it_had_taken_over_is_no_obstacle(mutex):
    for _ in range(3):
        os.waitpid(in_child(die_inside, mutex), 0)
    with mutex:
        assert mutex.was_abandoned


def test_with_a_timeout_it_says_whether_it_came_in(mutex):
    word = end_word(mutex)

    def hold():
        with mutex:
            word[0] = 1
            while word[0] != 2:
                time.sleep(0.001)

    pid = in_child(hold)
    while not word[0]:
        time.sleep(0.001)
    assert not mutex.enter(timeout=0)
    assert not mutex.enter(timeout=0.03)
    assert not mutex.held
    with pytest.raises(TimeoutError, match="stopped or busy"):
        within(0.03, mutex.enter)
    mutex.leave()
    word[0] = 2
    assert mutex.enter(timeout=60)
    mutex.leave()
    assert_well(pid)


def test_a_thread_of_this_process_is_waited_for_as_well(mutex):
    with mutex:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(mutex.enter(timeout=0.02)))
        thread.start()
        thread.join()
    assert answers == [False]


def test_processes_and_threads_exclude_each_other(mutex):
    count = end_word(mutex)
    laps = 300

    def work():
        for _ in range(laps):
            with mutex:
                now = count[0]
                os.sched_yield()
                count[0] = now + 1

    pids = [in_child(work) for _ in range(2)]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_well(*pids)
    assert count[0] == 4 * laps


def test_a_forked_child_holds_nothing(mutex):
    with mutex:

        def attempt():
            assert not mutex.held
            mutex.leave()
            assert not mutex.enter(timeout=0.01)

        assert_well(in_child(attempt))
        assert mutex.held


def test_many_waiters_recover_from_one_death(mutex):
    """And from each other's: each dies with it."""
    os.waitpid(in_child(die_inside, mutex), 0)
    for pid in [in_child(die_inside, mutex) for _ in range(6)]:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert mutex.enter(timeout=60)
    mutex.leave()


def test_those_who_come_with_short_timeouts_do_not_hide_a_dead_holder(fast):
    """Who sleeps with a positive intent looks like a holder: they would nearly always."""
    os.waitpid(in_child(die_inside, fast), 0)

    def come_again_and_again():
        while not fast.enter(timeout=0.001):
            pass
        fast.leave()

    assert_well(*[in_child(come_again_and_again) for _ in range(4)])


def test_a_finaliser_cannot_come_back_in_and_does_not_break_the_lock(mutex):
    mutex.enter()
    with pytest.raises(RuntimeError, match=r"in the middle|holds the lock"):
        try:
            mutex.enter()
        finally:
            mutex.leave()
    assert mutex.held
    with pytest.raises(RuntimeError), mutex:
        pass
    assert mutex.held
    mutex.leave()
    assert not mutex.held
    assert_well(in_child(mutex.enter, 0))


def test_slots_of_the_dead_and_of_those_who_left_are_used_again(fast):
    """There are 50."""

    def use():
        with fast:
            pass

    with fast:
        pass
    for _ in range(120):
        os.waitpid(in_child(use), 0)
    assert fast.shared[COUNT] == 2


def test_more_processes_than_slots_are_refused_with_the_number():
    segment = Segment.create(size_of(1))
    prepare(segment)
    mutex = mutex_of(segment, 0, 1)
    with mutex:
        pass

    def come():
        with pytest.raises(OSError, match=r"^1 processes"), mutex:
            pass

    assert_well(in_child(come))
    with mutex:
        pass


def test_hints_left_by_the_dead_cost_a_pause_and_no_more(mutex):
    hints = words(mutex.segment, AT, HEADER)
    for hint in (ASLEEP, HUNGRY):
        hints[WAITERS] = hint
        for _ in range(3):
            assert mutex.enter(timeout=60)
            mutex.leave()
        assert hints[WAITERS] != HUNGRY


def test_two_who_leave_may_ring_at_once(fast):
    """Ringing is outside the lock: another one rings between this one's look and its own ring."""
    bell = fast._bell

    class RungMeanwhile:
        def _is_zero(self):
            seen = bell._is_zero()
            bell.release()
            return seen

        def release(self):
            bell.release()

    fast._bell = RungMeanwhile()
    fast.shared[WAITERS] = ASLEEP

    with fast:
        pass

    assert fast.enter(timeout=0)
    fast.leave()


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_a_waiter_is_let_in_by_one_who_always_comes_back_at_once(mutex, kind):
    """It gives the lock away for a microsecond only: whoever must wake up first never catches it.

    Who comes back a thousand times while one waits has starved him.
    """
    over, laps = threading.Event(), [0]

    def come_back():
        while not over.is_set():
            with mutex:
                laps[0] += 1
                end = time.perf_counter() + 0.001
                while time.perf_counter() < end:
                    pass

    def want():
        with mutex:
            pass

    greedy = threading.Thread(target=come_back)
    greedy.start()
    try:
        while laps[0] < 3:
            os.sched_yield()
        for _ in range(3):
            before = laps[0]
            if kind == "threads":
                waiter = threading.Thread(target=want)
                waiter.start()
                waiter.join(30)
                assert not waiter.is_alive()
            else:
                assert_well(in_child(want))
            assert laps[0] - before < 1000
    finally:
        over.set()
        greedy.join()


@pytest.mark.parametrize("rounds", [12, pytest.param(300, marks=pytest.mark.stress)])
def test_whoever_is_killed_whenever_the_next_one_gets_in(mutex, rounds, request):
    """Processes that count under the lock are killed at random moments, again and again."""
    seed = request.config.getoption("randomly_seed", None) or random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    count = end_word(mutex)

    def work():
        while True:
            with mutex:
                count[0] = count[0] + 1

    for _ in range(rounds):
        pids = [in_child(work) for _ in range(3)]
        before = count[0]
        while count[0] - before < 10:
            os.sched_yield()
        for pid in pids:
            time.sleep(chance.random() * 0.003)  # the moment of the kill, not a wait for anything
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if chance.random() < 0.5:
                assert mutex.enter(timeout=30), "the lock died with its holder"
                mutex.leave()
        assert mutex.enter(timeout=30), "the lock died with its holder"
        before = count[0]
        assert count[0] == before
        mutex.leave()


def test_an_exception_from_a_signal_leaves_the_lock_usable(mutex, request):
    """Ctrl-C at any moment of `with`: its handler raises wherever it strikes."""
    seed = random.randrange(1 << 30)
    print("seed", seed)

    class Struck(Exception):
        pass

    def strike(signum, frame):
        raise Struck

    def storm():
        signal.signal(signal.SIGALRM, strike)
        chance = random.Random(seed)
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 20e-6 + chance.random() * 50e-6)
                while True:
                    try:
                        mutex.enter()
                    finally:
                        try:
                            mutex.leave()
                        except BaseException:
                            mutex.leave()
                            raise
            except Struck:
                pass
            assert not mutex.held
        assert mutex.enter(timeout=5)
        mutex.leave()

    assert_well(in_child(storm))
    assert mutex.enter(timeout=5)
    mutex.leave()


def test_one_that_is_dropped_leaves_its_place_to_the_next():
    """A process may get the same object again and again, and drop it each time."""
    segment = Segment.create(SIZE)
    prepare(segment, AT)
    for _ in range(5):
        mutex = mutex_of(segment, AT, 50)
        with mutex:
            pass
        del mutex

    assert words(segment, AT, HEADER)[COUNT] == 1
