"""The staff: hired, at rest, asked, told, and at last forced to go."""

from __future__ import annotations

import pytest

from parmap._core.commands import KillWorker, StartWorker, StopWorker, TerminateWorker
from parmap._core.states import WorkerState
from parmap._core.workers import KILL_AFTER, START_TIMEOUT, Chunk, Staff, Step, Worker


def hired(*, idle_timeout: float | None = None) -> tuple[Staff, Worker]:
    staff = Staff(idle_timeout)
    worker = Worker(1, tuple)
    assert staff.hire(worker, 5.0) == [StartWorker(1)]
    return staff, worker


def test_a_worker_that_is_hired_must_come_up_in_time():
    """Else it is killed, and nothing more is awaited of it."""
    staff, worker = hired()
    assert staff.next_deadline() == 5.0 + START_TIMEOUT

    assert staff.next_step(worker, 200.0) == [KillWorker(1)]
    assert worker.state is WorkerState.LEAVING
    assert staff.next_deadline() is None


@pytest.mark.parametrize(
    ("idle_timeout", "step", "deadline"), [(None, None, None), (3.0, Step.RETIRE, 9.0)]
)
def test_a_worker_at_rest_retires_only_if_there_is_an_idle_timeout(idle_timeout, step, deadline):
    """What was due before is forgotten."""
    staff, worker = hired(idle_timeout=idle_timeout)
    staff.rest(worker, 6.0)

    assert (worker.step, worker.deadline) == (step, deadline)


def test_retiring_goes_from_asking_to_force():
    """Each step has its patience; the last one needs none."""
    staff, worker = hired(idle_timeout=0.0)
    staff.rest(worker, 6.0)

    assert staff.next_step(worker, 6.0) == [StopWorker(1)]
    assert worker.deadline == 6.0 + KILL_AFTER
    assert staff.next_step(worker, 7.0) == [TerminateWorker(1)]
    assert worker.deadline == 7.0 + KILL_AFTER
    assert staff.next_step(worker, 8.0) == [KillWorker(1)]
    assert worker.deadline is None


def test_stop_all_asks_each_one_once():
    """Who leaves already is not asked again."""
    staff, _ = hired()
    assert staff.stop_all(6.0) == [StopWorker(1)]
    assert staff.stop_all(6.5) == []
    assert staff.next_deadline() == 6.0 + KILL_AFTER


def test_overdue_is_who_reached_the_deadline():
    """At the very instant, not before."""
    staff, worker = hired()
    worker.expect(Step.KILL, 9.0)

    assert staff.overdue(8.9) == []
    assert staff.overdue(9.0) == [worker]


@pytest.mark.parametrize(
    ("deadline", "hurried", "after"), [(9.0, 7.0, 7.0), (6.0, 7.0, 6.0), (None, 7.0, None)]
)
def test_to_hurry_never_prolongs_nor_sets_a_deadline(deadline, hurried, after):
    """A worker that was killed is only waited for."""
    worker = Worker(1, tuple)
    worker.expect(Step.KILL, deadline)
    worker.hurry(hurried)

    assert worker.deadline == after


def test_next_is_the_first_item_without_an_outcome():
    """Reports come in order."""
    assert Chunk(1, 1, 10, 20, marked=True, solo=False, reported=3).next == 13


def test_a_fresh_worker_is_one_that_rests_and_may_run_any_number_of_tasks():
    """Not one that starts, nor one whose tasks are counted."""
    staff, starting = hired()
    counted, resting = Worker(2, tuple), Worker(3, tuple)
    for worker in (counted, resting):
        staff.hire(worker, 5.0)
        staff.rest(worker, 6.0)
    counted.tasks_left = 5

    assert starting.state is WorkerState.STARTING
    assert staff.fresh(7.0) is resting
    resting.move(WorkerState.BUSY)
    assert staff.fresh(7.0) is None
