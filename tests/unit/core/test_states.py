"""The table of a worker's legal moves."""

from __future__ import annotations

import itertools

import pytest

from parmap._core.states import ALLOWED, WorkerState
from parmap._core.workers import Worker
from parmap.errors import InternalError

STARTING, IDLE, BUSY, LEAVING, DEAD = WorkerState


def test_every_state_has_its_row():
    """A missing row would be a KeyError instead of a story."""
    assert set(ALLOWED) == set(WorkerState)


def test_death_is_always_possible_and_always_the_end():
    """A process may die in every state but one, and there is no way back."""
    assert all(DEAD in ALLOWED[state] for state in WorkerState if state is not DEAD)
    assert not ALLOWED[DEAD]


def test_who_leaves_can_only_die():
    """A worker that was told to go is never given work again."""
    assert ALLOWED[LEAVING] == {DEAD}


@pytest.mark.parametrize(("origin", "to"), list(itertools.product(WorkerState, repeat=2)))
def test_a_move_is_made_or_refused_as_the_table_says(origin, to):
    """An illegal move changes nothing, and tells how it came about."""
    worker = Worker(7, lambda: ("once upon a time",), state=origin)
    if to in ALLOWED[origin]:
        worker.move(to)
        assert worker.state is to
        return
    with pytest.raises(InternalError, match=f"worker 7 cannot go from {origin.value}") as caught:
        worker.move(to)
    assert caught.value.story == ("once upon a time",)
    assert worker.state is origin


@pytest.mark.parametrize(
    ("state", "present"),
    [(STARTING, True), (IDLE, True), (BUSY, True), (LEAVING, False), (DEAD, False)],
)
def test_who_is_on_the_way_counts_as_present_and_who_leaves_does_not(state, present):
    """So nobody is hired twice for one place, nor too late."""
    assert Worker(1, tuple, state=state).present is present
