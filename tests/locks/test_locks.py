"""Lock and RLock: who holds it, who may release it, and what they say to misuse."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import weakref
from typing import Any, cast

import pytest

from parmap import Barrier, Condition, Event, Lock, RLock, Semaphore, SharedDict
from support.channel_peers import Running, child
from support.gates import PATIENCE
from support.lock_far import settle_in

BOTH = pytest.mark.parametrize("kind", [Lock, RLock])


@BOTH
def test_with_holds_it_and_lets_it_go(kind):
    lock = kind()
    with lock as got:
        assert got is True
        assert lock.locked()
        assert "held by this thread" in repr(lock)
    assert not lock.locked()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert not lock.locked()


@BOTH
@pytest.mark.parametrize("options", [(), (True,), (True, 5), (False,)])
def test_acquire_and_release_as_in_multiprocessing(kind, options):
    lock = kind()
    assert lock.acquire(*options) is True
    assert Running(lock.acquire, False).result() is False
    assert Running(lock.acquire, True, 0.01).result() is False
    lock.release()
    assert Running(lambda: lock.acquire() and lock.release()).result() is None


@BOTH
def test_what_was_acquired_can_be_released_though_nobody_kept_the_object(kind):
    """``shared["lock"].acquire()``: each look gives a handle, and the first one is gone."""
    shared = SharedDict(lock=kind())
    assert shared["lock"].acquire()
    gc.collect()
    assert shared["lock"].locked()
    assert Running(lambda: shared["lock"].acquire(timeout=0.01)).result() is False
    shared["lock"].release()
    gc.collect()
    assert Running(lambda: shared["lock"].acquire() and shared["lock"].release()).result() is None


def test_a_held_lock_is_kept_only_until_its_release():
    lock = Lock()
    gone = weakref.ref(lock)
    lock.acquire()
    lock.release()
    assert lock.acquire(block=False)
    lock.release()
    assert not lock.locked()
    del lock
    gc.collect()
    assert gone() is None


def test_a_lock_is_not_reentrant_and_says_so():
    lock = Lock()
    with lock:
        with pytest.raises(RuntimeError, match="already"):
            lock.acquire()
        with pytest.raises(RuntimeError, match="already"), lock:
            pass
        assert lock.acquire(block=False) is False
        assert lock.acquire(timeout=0.01) is False
        assert lock.locked()
    assert Running(lock.acquire, False).result() is True


def test_an_rlock_is_free_after_as_many_releases():
    lock = RLock()
    with lock:
        assert lock.acquire()
        assert lock.acquire(timeout=1)
        with lock:
            pass
        lock.release()
        lock.release()
        assert Running(lock.acquire, False).result() is False
    assert not lock.locked()


@BOTH
def test_only_the_holding_thread_releases(kind):
    lock = kind()
    with pytest.raises(RuntimeError, match="does not hold"):
        lock.release()
    with lock:
        assert isinstance(Running(lock.release).error(), RuntimeError)
        with child(lambda me: me.say(type_of_error(lock.release))) as process:
            assert process.hear() == "RuntimeError"
        assert lock.locked()
    with pytest.raises(RuntimeError, match="does not hold"):
        lock.release()


def type_of_error(act: Any) -> str:
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return "none"


@BOTH
def test_a_forked_child_waits_for_its_parent(kind):
    lock = kind()
    with lock, child(lambda me: me.say(lock.acquire(timeout=0.05))) as process:
        assert process.hear() is False
    with child(lambda me: me.say(lock.acquire(timeout=PATIENCE))) as process:
        assert process.hear() is True


@BOTH
def test_the_next_holder_learns_of_a_death_and_the_one_after_does_not(kind):
    lock = kind()

    def die_inside(me):
        lock.acquire()
        me.say("in")
        signal.pause()

    with child(die_inside) as process:
        assert process.hear() == "in"
        assert lock.acquire(block=False) is False
        process.kill()
        assert lock.acquire(block=False) is True
        assert lock.was_abandoned
        lock.release()
    with lock:
        assert not lock.was_abandoned


@BOTH
def test_a_waiter_gets_it_when_the_holder_dies(kind):
    lock = kind()

    def hold(me):
        with lock:
            me.say("in")
            signal.pause()

    with child(hold) as process:
        process.hear()
        waiter = Running(lambda: (lock.acquire(), lock.was_abandoned))
        settle_in(waiter)
        process.kill()
        assert waiter.result() == (True, True)


def test_a_dead_threads_lock_stays_its_process_s():
    """A thread that ends without a release has it for ever, as in the standard library."""
    lock = Lock()
    Running(lock.acquire).result()
    assert lock.acquire(block=False) is False


TIMED = {
    "Lock.acquire": lambda t: Lock().acquire(timeout=t),
    "RLock.acquire": lambda t: RLock().acquire(timeout=t),
    "Semaphore.acquire": lambda t: Semaphore(0).acquire(timeout=t),
    "Event.wait": lambda t: Event().wait(t),
    "Barrier": lambda t: Barrier(2, timeout=t),
    "Barrier.wait": lambda t: Barrier(2).wait(t),
    "Condition.wait": lambda t: locked_condition().wait(t),
    "Condition.wait_for": lambda t: locked_condition().wait_for(bool, t),
}


def locked_condition() -> Condition:
    condition = Condition()
    condition.acquire()
    return condition


@pytest.mark.parametrize("call", TIMED.values(), ids=TIMED)
@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, "1", True])
def test_a_timeout_that_is_none_is_refused(call, seconds):
    with pytest.raises((ValueError, TypeError), match=r"^timeout must"):
        call(seconds)


@BOTH
def test_not_to_block_and_a_timeout_contradict_each_other(kind):
    with pytest.raises(ValueError, match="takes no timeout"):
        kind().acquire(False, 1)


MISUSE = {
    "fewer than no permits": (lambda: Semaphore(-1), ValueError),
    "a permit and a half": (lambda: Semaphore(cast("Any", 1.5)), TypeError),
    "to release nothing": (lambda: Semaphore(1).release(0), ValueError),
    "nobody": (lambda: Barrier(0), ValueError),
    "everybody": (lambda: Barrier(10_000), ValueError),
    "a word for a number": (lambda: Barrier(cast("Any", "2")), TypeError),
    "a foreign lock": (lambda: Condition(cast("Any", threading.Lock())), TypeError),
    "to wait outside": (lambda: Condition().wait(), RuntimeError),
    "to wait for it outside": (lambda: Condition().wait_for(bool), RuntimeError),
    "to notify outside": (lambda: Condition().notify(), RuntimeError),
    "to notify all outside": (lambda: Condition().notify_all(), RuntimeError),
    "to notify fewer than none": (lambda: locked_condition().notify(-1), ValueError),
}


@pytest.mark.parametrize(("call", "error"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_refused_at_the_door(call, error):
    with pytest.raises(error, match=r"\w+ \w+ \w+"):
        call()


@BOTH
def test_ctrl_c_while_waiting_leaves_the_lock_usable(kind):
    lock = kind()

    def wait(me):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        me.say("waiting")
        try:
            lock.acquire()
        except KeyboardInterrupt:
            me.say("interrupted")
        me.say(lock.acquire(timeout=PATIENCE))

    lock.acquire()
    with child(wait) as waiter:
        assert waiter.hear() == "waiting"
        settle_in(waiter)
        os.kill(waiter.pid, signal.SIGINT)
        assert waiter.hear() == "interrupted"
        lock.release()
        assert waiter.hear() is True
        waiter.end_well()


def test_a_semaphore_has_as_many_permits_as_can_be_counted():
    assert Semaphore(1 << 62).acquire(block=False)
    with pytest.raises(ValueError, match="value must be at most"):
        Semaphore((1 << 62) + 1)
