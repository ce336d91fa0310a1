"""At most one thread drives, and whoever asks for the wheel gets it from the loop's own thread."""

from __future__ import annotations

import threading

import pytest

from parmap._wheel import Wheel

PATIENCE = 30


class Owner:
    """The loop's own thread, as the loop uses the wheel."""

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self.turns = threading.Semaphore(0)  # ends one wait of a turn
        self.drives = threading.Semaphore(0)  # released each time it takes the wheel
        self.over = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.over:
            if self.wheel.take_as_owner():
                self.drives.release()
                while not (self.wheel.wanted or self.over):
                    self.turns.acquire()
                self.wheel.give()
            self.wheel.doze()

    def end(self) -> None:
        self.over = True
        for _ in range(PATIENCE * 50):
            self.turns.release()
            self.wheel.leave()  # in the place of whoever has it, or gets it now, at the end of a test
            self.wheel.ring()
            self.thread.join(0.02)
            if not self.thread.is_alive():
                return
        raise AssertionError("the owner's thread does not end")


@pytest.fixture
def wheel():
    return Wheel()


@pytest.fixture
def owner(wheel):
    owner = Owner(wheel)
    assert owner.drives.acquire(timeout=PATIENCE)
    yield owner
    owner.end()


def in_a_thread(work):
    result: list[object] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join(PATIENCE)
    return result[0]


def test_one_thread_drives_at_a_time(wheel):
    assert wheel.take()
    assert wheel.mine
    assert not in_a_thread(wheel.take)
    assert not in_a_thread(lambda: wheel.mine)
    wheel.leave()
    assert in_a_thread(wheel.take)


def test_the_loops_thread_hands_it_to_whoever_has_asked(wheel, owner):
    lock = wheel.ask()
    owner.turns.release()

    assert wheel.wait(lock)
    assert wheel.mine


def test_nobody_slips_in_between_the_asking_and_the_giving(wheel, owner):
    lock = wheel.ask()

    assert in_a_thread(wheel.ask) is None
    assert not in_a_thread(wheel.take)
    owner.turns.release()
    assert wheel.wait(lock)


def test_a_wait_that_something_else_ends_takes_the_request_back(wheel, owner):
    lock = wheel.ask()
    lock.release()  # as a signal does

    assert not wheel.wait(lock)
    assert not wheel.wanted
    assert wheel.ask() is not None


def test_a_caller_that_drives_is_not_asked(wheel):
    assert in_a_thread(wheel.take)

    assert wheel.ask() is None


def test_the_loops_thread_comes_back_when_it_is_rung_for(wheel, owner):
    lock = wheel.ask()
    owner.turns.release()
    assert wheel.wait(lock)
    wheel.leave()
    wheel.ring()

    assert owner.drives.acquire(timeout=PATIENCE)


def test_the_loops_thread_comes_back_when_all_has_been_still(wheel, owner):
    """Nobody rings: events that were left in the inbox are heard all the same."""
    lock = wheel.ask()
    owner.turns.release()
    assert wheel.wait(lock)
    wheel.leave()

    assert owner.drives.acquire(timeout=PATIENCE)


def test_whoever_takes_the_wheel_answers_for_those_who_rang(wheel):
    """Else the loop's thread would come for it behind each of many short drives."""
    wheel.ring()
    assert wheel.take()
    wheel.leave()

    assert not wheel._called


def test_in_a_storm_there_is_never_a_second_driver_and_everybody_gets_a_turn(wheel):
    owner = Owner(wheel)
    driving = threading.Lock()
    drives = [0] * 6

    def call(number: int) -> None:
        for _ in range(100):
            lock = None
            while not wheel.take():
                lock = wheel.ask()
                if lock is not None:
                    owner.turns.release()
                    if wheel.wait(lock):
                        break
            assert driving.acquire(blocking=False)
            drives[number] += 1
            driving.release()
            wheel.leave()

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(drives))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    owner.end()

    assert drives == [100] * len(drives)
