"""The fast lock: exclusion, and every way to die or be interrupted with it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from parmap._channel.layout import INTENTS, REPAIR
from parmap._channel.mutex import FileMutex, IntentMutex, prepare, within
from parmap._memory.segment import Segment
from parmap._memory.words import words

SIZE = 1 << 20


@pytest.fixture(params=[IntentMutex, FileMutex])
def mutex(request):
    segment = Segment.create(SIZE)
    if request.param is IntentMutex:
        prepare(segment)
    return request.param(segment)


def in_child(act) -> int:
    pid = os.fork()
    if not pid:
        act()
        os._exit(0)
    return pid


def test_leaving_twice_or_without_having_entered_is_harmless(mutex):
    mutex.leave()
    mutex.enter()
    mutex.leave()
    mutex.leave()
    mutex.enter()
    mutex.leave()


def test_who_gets_it_after_a_holders_death_is_told_to_repair(mutex):
    def die_inside():
        mutex.renew()
        mutex.enter()
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_child(die_inside), 0)
    within(10, mutex.enter)
    mutex.leave()
    segment = mutex.segment if isinstance(mutex, IntentMutex) else mutex._lock.segment

    assert words(segment, REPAIR * 8)[0] == 1


def test_processes_and_threads_exclude_each_other(mutex):
    segment = mutex.segment if isinstance(mutex, IntentMutex) else mutex._lock.segment
    count = words(segment, SIZE - 8)
    laps = 300

    def work():
        for _ in range(laps):
            try:
                mutex.enter()
                now = count[0]
                os.sched_yield()
                count[0] = now + 1
            finally:
                mutex.leave()

    def work_in_child():
        mutex.renew()
        work()

    pids = [in_child(work_in_child) for _ in range(2)]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pid in pids:
        os.waitpid(pid, 0)

    assert count[0] == 4 * laps


def test_many_waiters_recover_from_one_death():
    """Each waiter looks like a holder to the others while it tries: mostly, none may try."""
    segment = Segment.create(SIZE)
    prepare(segment)
    mutex = IntentMutex(segment)

    def die_inside():
        mutex.renew()
        mutex.enter()
        os.kill(os.getpid(), signal.SIGKILL)

    def wait():
        mutex.renew()
        mutex.enter()
        mutex.leave()

    os.waitpid(in_child(die_inside), 0)
    began = time.monotonic()
    for pid in [in_child(wait) for _ in range(6)]:
        os.waitpid(pid, 0)

    assert time.monotonic() - began < 5


def test_a_finaliser_cannot_come_back_in_and_does_not_break_the_lock():
    segment = Segment.create(SIZE)
    prepare(segment)
    mutex = IntentMutex(segment)
    mutex.enter()
    with pytest.raises(RuntimeError, match="in the middle"):
        try:
            mutex.enter()
        finally:
            mutex.leave()
    other = IntentMutex(segment)
    with pytest.raises(TimeoutError):
        within(0.05, other.enter)
    other.leave()
    mutex.leave()
    other.enter()
    other.leave()


def test_one_that_is_dropped_leaves_its_place_to_the_next():
    """A process may get the same channel again and again, and drop it each time."""
    segment = Segment.create(SIZE)
    prepare(segment)
    for _ in range(5):
        mutex = IntentMutex(segment)
        mutex.enter()
        mutex.leave()
        del mutex

    assert words(segment, INTENTS * 8)[0] == 1
