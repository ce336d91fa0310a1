"""Who does what: which call gets the next free hand, and how many hands are wanted."""

from __future__ import annotations

from collections import deque

import pytest

from parmap._core.calls import Call, Piece
from parmap._core.dispatch import next_assignment, workers_wanted
from parmap._core.events import OnFailure
from parmap._core.states import WorkerState
from parmap._core.workers import Chunk, Step, Worker


def call(
    number: int, *, cap: int = 4, waiting: int = 10, workers: tuple[int, ...] = (), turn: int = 0
) -> Call:
    book = Call(number, cap, 1, OnFailure.CONTINUE)
    book.add(waiting)
    book.workers = set(workers)
    book.turn = turn
    book.sizer.measured(1, 1e-6, 0)
    return book


def staff(*states: WorkerState) -> dict[int, Worker]:
    """Workers 1, 2, ...; the busy ones hold item 0."""
    workers = {}
    for number, state in enumerate(states, 1):
        chunks = [Chunk(50 + number, 1, 0, 1, marked=False, solo=False)]
        workers[number] = Worker(
            number, tuple, state, deque(chunks if state is WorkerState.BUSY else [])
        )
    return workers


def taken(calls: list[Call], workers: dict[int, Worker]) -> tuple[int, int] | None:
    choice = next_assignment({book.id: book for book in calls}, workers)
    return None if choice is None else (choice[0].id, choice[1].id)


IDLE, BUSY = WorkerState.IDLE, WorkerState.BUSY


@pytest.mark.parametrize(
    ("calls", "workers", "choice"),
    [
        ([], [IDLE], None),
        ([call(1, waiting=0)], [IDLE], None),
        ([call(1)], [IDLE, IDLE], (1, 1)),
        ([call(1)], [WorkerState.STARTING, IDLE], (1, 2)),
        ([call(1)], [WorkerState.STARTING, WorkerState.LEAVING], None),
        # fewest workers first, then the longest wait
        ([call(1, workers=(1,)), call(2)], [BUSY, IDLE], (2, 2)),
        ([call(1, turn=7), call(2, turn=3)], [IDLE], (2, 1)),
        # the cap
        ([call(1, cap=1, workers=(1,)), call(2, waiting=0)], [BUSY, IDLE], None),
    ],
)
def test_an_idle_worker_goes_to_the_call_that_is_worst_served(calls, workers, choice):
    """Within its cap."""
    for book in calls:  # nothing may be prefetched here: items are dear
        book.sizer.measured(1, 1.0, 0)
    assert taken(calls, staff(*workers)) == choice


def holding(stop: int) -> Call:
    """A call served by worker 1, which holds item 0; items from 1 on wait."""
    book = call(1, waiting=stop, workers=(1,))
    book.take(1)
    return book


def test_a_busy_worker_gets_a_second_chunk_when_nobody_idles():
    """Of cheap items."""
    assert taken([holding(5)], staff(BUSY)) == (1, 1)


def test_a_worker_in_whose_chunk_all_depends_on_one_item_gets_no_second():
    """A suspect is alone at its worker, and goes to nobody who is busy."""
    workers = staff(BUSY)
    workers[1].chunks[0].solo = True
    assert taken([holding(5)], workers) is None

    book = holding(5)
    book.pieces = deque([Piece(1, 5, solo=True)])
    assert taken([book], staff(BUSY)) is None


def test_a_worker_that_is_to_be_interrupted_gets_no_second_chunk():
    """It may be gone in a moment."""
    workers = staff(BUSY)
    workers[1].expect(Step.TERMINATE, 1.0)

    assert taken([holding(5)], workers) is None


def test_an_earlier_item_does_not_wait_behind_a_later_one():
    """If the later one is not wanted any more, the worker is told to leave both."""
    book = holding(5)
    workers = staff(BUSY)
    workers[1].chunks[0].start, workers[1].chunks[0].stop = 7, 8

    assert taken([book], workers) is None


@pytest.mark.parametrize(
    ("other", "choice"),
    [
        (call(2, waiting=10), None),  # it has nobody: the worker must come free for it
        (call(2, waiting=0), (1, 1)),  # it wants nobody
        (call(2, waiting=10, workers=(2,)), (1, 1)),  # it has as many
    ],
)
def test_no_second_chunk_waits_while_another_call_has_fewer_workers(other, choice):
    """Else that call would never be served."""
    other.sizer.measured(1, 1.0, 0)
    assert taken([holding(5), other], staff(BUSY, BUSY)) == choice


@pytest.mark.parametrize(
    ("calls", "limit", "wanted"),
    [
        ([], None, 0),
        ([call(1, cap=2)], None, 2),
        ([call(1, cap=2), call(2, cap=3)], None, 3),  # the largest cap, not the sum
        ([call(1, cap=2), call(2, cap=3)], 4, 4),
        ([call(1, cap=2), call(2, cap=3)], 9, 5),
        ([call(1, waiting=1)], None, 1),
        ([call(1, waiting=0, workers=(1,))], None, 1),
        ([call(1, waiting=0, workers=(2,))], None, 0),  # worker 2 leaves
        ([call(1, cap=2, workers=(2,))], None, 2),
    ],
)
def test_as_many_workers_are_wanted_as_the_calls_can_use(calls, limit, wanted):
    """Worker 1 is busy, worker 2 leaves."""
    assert workers_wanted(calls, staff(BUSY, WorkerState.LEAVING), limit) == wanted
