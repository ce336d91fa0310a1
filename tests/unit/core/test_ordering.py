"""Results in any order, given out in the order of the items."""

from __future__ import annotations

from parmap._core.ordering import ReorderBuffer


def test_what_is_next_in_line_is_ready_at_once():
    """Nothing is held without need."""
    buffer = ReorderBuffer[str]()
    buffer.put(0, ["a", "b"])

    assert list(buffer.ready()) == ["a", "b"]


def test_what_comes_early_waits_for_what_is_missing():
    """And then comes at once, several runs together."""
    buffer = ReorderBuffer[str]()
    buffer.put(3, ["d"])
    buffer.put(1, ["b", "c"])
    assert not buffer.ready()
    buffer.put(0, ["a"])

    assert list(buffer.ready()) == ["a", "b", "c", "d"]


def test_what_was_taken_does_not_come_again():
    """The caller pops from the left; later results stand behind."""
    buffer = ReorderBuffer[str]()
    buffer.put(0, ["a", "b"])
    assert buffer.ready().popleft() == "a"
    buffer.put(2, ["c"])

    assert list(buffer.ready()) == ["b", "c"]


def test_its_length_counts_ready_and_early_results():
    """Both are memory that the consumer has not freed."""
    buffer = ReorderBuffer[int]()
    buffer.put(0, [1])
    buffer.put(5, [2, 3])

    assert len(buffer) == 3


def test_an_empty_run_changes_nothing():
    """A chunk that was given back unrun."""
    buffer = ReorderBuffer[int]()
    buffer.put(0, [])
    buffer.put(0, [1])

    assert list(buffer.ready()) == [1]
