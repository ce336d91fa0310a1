"""Semaphore, Event, Condition and Barrier: who waits, who goes on, and what a death does to them."""

from __future__ import annotations

import os
import signal
import threading
from threading import BrokenBarrierError

import pytest

from parmap import Barrier, Condition, Event, Lock, RLock, Semaphore, run_workers
from support.channel_peers import Running, child
from support.gates import PATIENCE, wait_until
from support.lock_far import settle_in

# --- Semaphore ------------------------------------------------------------------------------------


def take_and_pause(me, semaphore, count=1):
    for _ in range(count):
        assert semaphore.acquire(timeout=PATIENCE)
    me.say("taken")
    signal.pause()


def test_a_permit_comes_back_with_the_death_of_the_process_that_took_it():
    semaphore = Semaphore(3)
    with child(take_and_pause, semaphore, 2) as process:
        process.hear()
        assert semaphore.value == 1
        process.kill()
        assert semaphore.value == 3


def test_a_permit_that_was_taken_here_and_released_there_does_not_come_back():
    semaphore = Semaphore(1)
    with child(take_and_pause, semaphore) as process:
        process.hear()
        semaphore.release()
        assert semaphore.value == 1
        process.kill()
        assert semaphore.value == 1


def test_a_death_returns_only_what_that_process_had():
    semaphore = Semaphore(2)
    semaphore.acquire()
    with child(lambda me: semaphore.acquire() and semaphore.release()) as process:
        process.end_well()
    assert semaphore.value == 1
    with child(lambda me: None) as process:
        process.end_well()
    assert semaphore.value == 1


def test_a_release_without_an_acquire_is_one_permit_more():
    semaphore = Semaphore(0)
    assert semaphore.locked()
    semaphore.release(2)
    assert semaphore.value == 2
    with semaphore, semaphore:
        assert semaphore.locked()
        assert not semaphore.acquire(block=False)
        assert not semaphore.acquire(timeout=0.01)


def test_a_waiter_gets_the_permit_of_the_dead():
    semaphore = Semaphore(1)
    with child(take_and_pause, semaphore) as process:
        process.hear()
        waiter = Running(semaphore.acquire)
        settle_in(waiter)
        process.kill()
        assert waiter.result() is True


def test_a_dead_waiter_keeps_nobody_waiting():
    semaphore = Semaphore(0)
    with child(lambda me: semaphore.acquire()) as process:
        settle_in(process)
        second = Running(semaphore.acquire)
        settle_in(second)
        process.kill()
        semaphore.release()
        assert second.result() is True


def test_permits_go_to_those_who_wait_in_the_order_of_coming():
    semaphore = Semaphore(0)
    order: list[int] = []
    waiters = []
    for number in range(4):
        waiters.append(Running(lambda n: semaphore.acquire() and order.append(n), number))
        settle_in(waiters[-1])
    for number in range(4):
        semaphore.release()
        waiters[number].settle()
        assert not semaphore.acquire(block=False)
    assert order == [0, 1, 2, 3]


def test_who_comes_back_at_once_does_not_starve_the_one_who_waits():
    semaphore = Semaphore(1)
    over, laps = threading.Event(), [0]

    def come_back():
        while not over.is_set():
            with semaphore:
                laps[0] += 1

    greedy = Running(come_back)
    wait_until(lambda: laps[0] > 10)
    for _ in range(5):
        with child(lambda me: semaphore.acquire() and semaphore.release()) as process:
            process.end_well()
    over.set()
    greedy.result()
    assert semaphore.value == 1


# --- Event ----------------------------------------------------------------------------------------


def test_an_event_wakes_all_who_wait_here_and_elsewhere():
    event = Event()
    assert event.wait(timeout=0) is False
    threads = [Running(event.wait) for _ in range(3)]
    with child(lambda me: me.say(event.wait(PATIENCE))) as process:
        settle_in(process)
        for thread in threads:
            settle_in(thread)
        event.set()
        assert process.hear() is True
    assert [thread.result() for thread in threads] == [True] * 3
    assert event.is_set()
    assert event.wait() is True
    event.set()
    event.clear()
    event.clear()
    assert not event.is_set()
    assert event.wait(timeout=0.01) is False


def test_who_waits_goes_on_even_if_the_event_is_cleared_at_once():
    event = Event()
    waiter = Running(event.wait)
    settle_in(waiter)
    event.set()
    event.clear()
    assert waiter.result() is True


def test_an_event_set_by_one_that_was_killed_right_then_is_seen():
    """Killed between the store and the calls: the sleepers look for themselves."""
    event = Event()
    waiter = Running(event.wait)
    settle_in(waiter)
    event._words[0] += 1
    assert waiter.result() is True


# --- Condition ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, Lock, RLock])
def test_notify_wakes_as_many_as_it_is_told_in_the_order_of_coming(kind):
    condition = Condition(kind and kind())
    order: list[int] = []

    def wait(number):
        with condition:
            assert condition.wait(PATIENCE)
            order.append(number)

    waiters = []
    for number in range(4):
        waiters.append(Running(wait, number))
        settle_in(waiters[-1])
    with condition:
        condition.notify()
    waiters[0].settle()
    with condition:
        assert order == [0]
        condition.notify(2)
    waiters[1].settle()
    waiters[2].settle()
    assert waiters[3].is_alive()
    with condition:
        condition.notify_all()
    waiters[3].settle()
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2, 3]


def test_waiting_gives_up_a_nested_rlock_and_takes_it_as_often_again():
    condition = Condition()
    with condition, condition:
        waker = Running(notify_one, condition)
        assert condition.wait(PATIENCE)
        assert waker.settle() is None
        assert Running(condition.acquire, False).result() is False
    assert not condition.locked()


def notify_one(condition):
    with condition:
        condition.notify()


def test_a_notification_passes_over_the_dead_and_those_who_gave_up():
    condition = Condition()

    def wait(me):
        with condition:
            condition.wait()

    with condition:
        assert condition.wait(timeout=0.001) is False
    with child(wait) as process:
        settle_in(process)
        waiter = Running(wait, None)
        settle_in(waiter)
        process.kill()
        notify_one(condition)
        waiter.settle()


def test_a_notification_whose_receiver_was_killed_before_it_had_the_lock_goes_to_the_next():
    condition = Condition()

    def wait(me):
        with condition:
            condition.wait()

    with child(wait) as process:
        settle_in(process)
        waiter = Running(wait, None)
        settle_in(waiter)
        with condition:
            condition.notify()
            process.kill()
        waiter.settle()


def test_wait_for_sees_what_a_process_changed_that_was_killed_before_it_notified():
    condition, changed = Condition(), Event()

    def change_and_die(me):
        with condition:
            changed.set()
            os.kill(os.getpid(), signal.SIGKILL)

    def wait():
        with condition:
            return condition.wait_for(changed.is_set), condition.was_abandoned

    waiter = Running(wait)
    settle_in(waiter)
    with child(change_and_die) as process:
        assert process.wait() == -signal.SIGKILL
    assert waiter.result()[0] is True


def test_wait_for_gives_up_at_its_timeout_with_what_the_predicate_gave_last():
    condition = Condition()
    with condition:
        assert condition.wait_for(lambda: 0, timeout=0.01) == 0
        assert condition.wait_for(lambda: "yes", timeout=0) == "yes"


# --- Barrier --------------------------------------------------------------------------------------


def test_all_go_on_when_the_last_has_come_again_and_again():
    barrier = Barrier(3)
    for _ in range(2):
        assert sorted(run_workers(lambda _: [barrier.wait() for _ in range(20)][-1], 3)) == [
            0,
            1,
            2,
        ]
    assert not barrier.broken
    assert barrier.n_waiting == 0
    assert barrier.parties == 3


def test_nobody_goes_on_before_the_last_has_come():
    barrier, come = Barrier(3), Semaphore(0)

    def arrive(rank):
        come.release()
        barrier.wait()
        return come.value

    assert run_workers(arrive, 3) == [3, 3, 3]


def wait_at(me, barrier):
    try:
        me.say(barrier.wait(PATIENCE))
    except BrokenBarrierError:
        me.say("broken")


def test_a_party_that_dies_waiting_breaks_it_for_those_who_wait_and_who_come():
    barrier = Barrier(3)
    with child(wait_at, barrier) as victim, child(wait_at, barrier) as other:
        wait_until(lambda: barrier.n_waiting == 2)
        victim.kill()
        assert other.hear() == "broken"
        with pytest.raises(BrokenBarrierError):
            barrier.wait(PATIENCE)
        assert barrier.broken
        assert "broken" in repr(barrier)
        barrier.reset()
        assert not barrier.broken


def test_a_party_that_dies_before_it_comes_breaks_it():
    """It has been here before, and so is known."""
    barrier = Barrier(2)

    def come_once_and_die(me):
        me.say(barrier.wait(PATIENCE))
        signal.pause()

    with child(come_once_and_die) as process:
        barrier.wait(PATIENCE)
        process.hear()
        waiter = Running(barrier.wait)
        settle_in(waiter)
        process.kill()
        assert isinstance(waiter.error(), BrokenBarrierError)


def test_a_worker_that_got_the_barrier_and_is_killed_breaks_it(tmp_path):
    barrier = Barrier(3, timeout=PATIENCE)

    def meet(rank):
        if rank == 0:
            wait_until(lambda: barrier.n_waiting == 2)
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(BrokenBarrierError):
            barrier.wait()
        (tmp_path / str(rank)).touch()
        signal.pause()

    group = Running(run_workers, meet, 3)
    assert group.error() is not None
    assert barrier.broken


def test_a_wait_that_is_in_vain_breaks_it():
    barrier = Barrier(2, timeout=0.01)
    with pytest.raises(BrokenBarrierError, match="party died, gave up"):
        barrier.wait()
    assert barrier.broken


@pytest.mark.parametrize("how", ["abort", "reset"])
def test_abort_and_reset_wake_those_who_wait(how):
    barrier = Barrier(2)
    waiter = Running(barrier.wait)
    settle_in(waiter)
    getattr(barrier, how)()
    assert isinstance(waiter.error(), BrokenBarrierError)
    assert barrier.broken is (how == "abort")
    barrier.reset()
    other = Running(barrier.wait)
    settle_in(other)
    assert barrier.wait(PATIENCE) == 1
    assert other.result() == 0


def test_ctrl_c_while_waiting_takes_an_arrival_back():
    barrier = Barrier(2)

    def wait(me):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            barrier.wait()
        except KeyboardInterrupt:
            me.say("interrupted")
        signal.pause()

    with child(wait) as process:
        wait_until(lambda: barrier.n_waiting == 1)
        settle_in(process)
        os.kill(process.pid, signal.SIGINT)
        assert process.hear() == "interrupted"
        assert barrier.n_waiting == 0
        assert not barrier.broken
