"""A worker that is needed in a row looks for its next frame for a moment before it sleeps."""

from __future__ import annotations

import os
import select

import pytest

from parmap._memory.fdpass import Link
from parmap._worker import eager
from parmap._worker.eager import MOMENT, Eager


class Clock:
    """Each look at it costs a hundredth of a moment."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += MOMENT / 100
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(eager, "perf_counter", clock)
    return clock


@pytest.fixture
def looks(monkeypatch):
    """How often it has given its CPU away between two looks."""
    looks = []
    monkeypatch.setattr(eager, "give_way", lambda: looks.append(1))
    return looks


@pytest.fixture
def ends():
    one, other = Link.pair()
    yield one, other
    one.close()
    other.close()


def wait(waits, clock, seconds):
    waits.begin()
    clock.now += seconds
    waits.end()


def test_the_first_wait_sleeps(ends, clock, looks):
    Eager(ends[0]).begin()
    assert not looks


def test_a_short_wait_is_followed_by_looks_that_end_in_time(ends, clock, looks):
    waits = Eager(ends[0])
    wait(waits, clock, MOMENT / 2)
    waits.begin()
    assert 50 < len(looks) < 101


def test_a_frame_ends_the_looks(ends, clock, looks, monkeypatch):
    def come():
        looks.append(1)
        if len(looks) == 20:
            ends[1].send_all([b"x"])

    monkeypatch.setattr(eager, "give_way", come)
    waits = Eager(ends[0])
    wait(waits, clock, MOMENT / 2)
    waits.begin()
    waits.end()
    assert len(looks) == 20
    assert os.read(ends[0].fileno(), 100) == b"x"
    waits.begin()
    assert len(looks) > 20  # the row goes on


@pytest.mark.parametrize("seconds", [MOMENT * 1.5, 0.0])
def test_no_row(ends, clock, looks, seconds):
    """Neither with long waits, nor where frames have been there before they were awaited."""
    waits = Eager(ends[0])
    wait(waits, clock, seconds)
    waits.begin()
    assert not looks


def test_looks_in_vain_end_the_row(ends, clock, looks):
    waits = Eager(ends[0])
    wait(waits, clock, MOMENT / 2)
    waits.begin()
    clock.now += 10 * MOMENT
    waits.end()
    looks.clear()
    waits.begin()
    assert not looks


def test_without_poll_it_sleeps(ends, clock, looks, monkeypatch):
    monkeypatch.delattr(select, "poll")
    waits = Eager(ends[0])
    wait(waits, clock, MOMENT / 2)
    waits.begin()
    assert not looks
