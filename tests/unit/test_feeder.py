"""The input of a call is read lazily, and what there is goes to the workers in time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from parmap._calls import feeder
from parmap._calls.feeder import FLUSH_SECONDS, MOST_AT_ONCE, WAIT_SHARE, Feeder


class Source:
    """Where the items go."""

    record = None

    def __init__(self):
        self.batches = []
        self.over = False

    def feed(self, items):
        self.batches.append(list(items))

    def end_input(self):
        self.over = True


class Clock:
    def __init__(self):
        self.now = 0.0

    def input(self, costs):
        """Items that take so long to be read."""
        for number, cost in enumerate(costs):
            self.now += cost
            yield number


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(feeder, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def source():
    return Source()


@pytest.mark.parametrize("room", [1, 2, MOST_AT_ONCE, MOST_AT_ONCE + 2, 1000])
def test_never_more_is_read_than_there_is_room(clock, source, room):
    made = Feeder(inputs := clock.input([0] * 2000), source)
    assert made.feed(room) == 0
    assert source.batches == [list(range(room))]
    assert (made.fed, next(inputs)) == (room, room)


@pytest.mark.parametrize("count", [0, 1, MOST_AT_ONCE, MOST_AT_ONCE + 1, MOST_AT_ONCE + 2])
def test_the_end_is_told(clock, source, count):
    made = Feeder(clock.input([0] * count), source)
    made.feed(1000)
    assert made.ended
    assert source.over
    assert [x for batch in source.batches for x in batch] == list(range(count))


def test_a_slow_input_is_handed_on_item_by_item(clock, source):
    made = Feeder(clock.input([1.0] * 3), source)
    assert made.feed(100) == pytest.approx(1.0 * WAIT_SHARE)
    assert source.batches == [[0]]


def test_one_that_is_neither_quick_nor_slow_is_handed_on_in_time(clock, source):
    step = FLUSH_SECONDS / 10
    made = Feeder(clock.input([step] * 100), source)
    made.feed(100)
    assert 9 <= made.fed <= 11


def test_one_that_becomes_slow_holds_up_a_few_at_the_most(clock, source):
    made = Feeder(clock.input([0.0] * 500 + [1.0] * 100), source)
    made.feed(1000)
    assert 500 < made.fed <= 500 + MOST_AT_ONCE


@pytest.mark.parametrize("good", [0, 1, 5, MOST_AT_ONCE + 7])
def test_an_error_of_the_input_is_kept_and_so_are_the_items_before_it(clock, source, good):
    def broken():
        yield from range(good)
        raise ValueError("no more")

    made = Feeder(broken(), source)
    made.feed(1000)
    assert isinstance(made.error, ValueError)
    assert made.fed == good
    assert [x for batch in source.batches for x in batch] == list(range(good))
    assert source.over
    assert made.feed(10) == 0


def test_ctrl_c_while_the_input_is_read_is_the_callers(clock, source):
    def interrupted():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Feeder(interrupted(), source).feed(10)
