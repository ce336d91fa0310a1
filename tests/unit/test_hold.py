"""While the main thread drives, no signal's handler runs in between; afterwards each one does."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from parmap._hold import Hold

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


class Struck(Exception):
    pass


@pytest.fixture
def heard():
    """The signals that handlers of this test have heard."""
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: heard.append(number))
        for number in (signal.SIGUSR1, signal.SIGUSR2)
    }
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def woken():
    return []


@pytest.fixture
def hold(woken):
    return Hold(lambda: woken.append(True))


def test_a_signal_is_noted_and_ends_the_wait_and_its_handler_runs_at_the_end(hold, heard, woken):
    hold.begin()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == []
    assert list(hold.noted) == [signal.SIGUSR1]
    assert woken == [True]
    hold.end()
    assert heard == [signal.SIGUSR1]


def test_afterwards_the_handlers_are_those_of_before(hold, heard):
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGINT)
    hold.begin()
    hold.end()
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGINT)) == before


def test_what_a_handler_raises_comes_out_at_the_end_and_all_is_restored(hold, heard):
    def strike(number, frame):
        raise Struck

    signal.signal(signal.SIGUSR1, strike)
    hold.begin()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    with pytest.raises(Struck):
        hold.end()
    assert heard == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR1) is strike


def test_ctrl_c_is_raised_at_the_end(hold):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        hold.begin()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            hold.end()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_was_set_meanwhile_stays(hold, heard):
    other = []
    hold.begin()
    signal.signal(signal.SIGUSR1, lambda number, frame: other.append(number))
    hold.end()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert other == [signal.SIGUSR1]
    assert heard == []


def test_within_another_one_the_outer_one_has_what_came(hold, heard):
    inner = Hold(lambda: None)
    hold.begin()
    inner.begin()
    os.kill(os.getpid(), signal.SIGUSR1)
    inner.end()
    assert heard == []
    hold.end()
    assert heard == [signal.SIGUSR1]


def test_in_another_thread_nothing_is_held_for_nothing_can_come(hold):
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=hold.begin)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_and_default_signals_are_left_alone(hold):
    before = signal.getsignal(signal.SIGCHLD)
    hold.begin()
    assert signal.getsignal(signal.SIGCHLD) is before
    hold.end()
