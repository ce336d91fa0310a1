"""Items that come to nothing, and workers that have done enough."""

# mypy: disable-error-code="union-attr, assignment"

from __future__ import annotations

from parmap._core import events as ev
from parmap._core.commands import (
    Assign,
    Deliver,
    FinishCall,
    KillWorker,
    Loss,
    SettleLost,
    StopWorker,
)
from parmap._core.events import OnFailure
from parmap._core.retry import ONCE, RetryPolicy
from parmap._core.scheduler import Scheduler
from support.scheduling import Desk, results


def retried(order, index: int) -> ev.ResultsArrived:
    return ev.ResultsArrived(order.worker, order.chunk, index, 1, (index,), retried=True)


def desk_with(retry: RetryPolicy, *, items: int = 1, chunksize: int = 1) -> Desk:
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, chunksize, OnFailure.CONTINUE, None, retry))
    desk.tell(ev.ItemsAdded(1, items), ev.InputEnded(1))
    return desk


def test_an_item_that_may_run_once_is_marked_however_tiny():
    """Else its worker's death could not be charged, and it would run again, to find out."""
    for retry, marked in [
        (ONCE, False),
        (RetryPolicy(1, lost=True), True),
        (RetryPolicy(1), False),
        (RetryPolicy(3, lost=True), False),
    ]:
        desk = desk_with(retry, items=5000, chunksize=100)
        (order,) = desk.come()
        told = desk.tell(results(order, 100, seconds=1e-6, last=True))
        later = [each for each in told if isinstance(each, Assign)]
        assert later
        assert all(each.marked is marked for each in later)


def test_a_cancel_that_crosses_a_retry_ends_the_call_at_once():
    """Nobody wants that item any more: it must not keep the call open while it rests."""
    desk = desk_with(RetryPolicy(attempts=3, first_delay=50.0))
    (order,) = desk.come()
    desk.tell(ev.CallCancelled(1))
    desk.tell(retried(order, 0))

    commands = desk.tell(results(order, 0, skip=1, last=True))

    assert FinishCall(1) in commands


def test_what_an_item_raises_rests_for_longer_each_time_and_is_told_with_its_attempts():
    """Backoff, as deadlines of the core."""
    desk = desk_with(RetryPolicy(attempts=3, first_delay=1.0, backoff=4.0, max_delay=3.0))
    (order,) = desk.come()
    for delay in (1.0, 3.0):
        assert desk.tell(retried(order, 0), results(order, 0, skip=1, last=True)) == []
        assert desk.scheduler.next_deadline() == desk.now + delay
        (order,) = desk.later(delay)

    told = desk.tell(retried(order, 0))

    assert told == [Deliver(1, 0, 1, None, 3)]


def test_a_policy_that_would_overflow_rests_as_long_as_it_may():
    """Nobody waits for 2 ** 5000 seconds."""
    assert RetryPolicy(first_delay=1.0, max_delay=30.0).delay(5000) == 30.0


def test_tasks_that_were_given_back_do_not_count():
    """A worker that may run three, and has run one of its chunk of three, may run two more."""
    desk = Desk()
    desk.scheduler = Scheduler(max_tasks=3)
    desk.open(1, 6, chunksize=3)
    (order,) = desk.come()

    (again,) = desk.tell(results(order, 1, last=True))[1:]

    assert (again.worker, again.start, again.stop) == (order.worker, 1, 3)


def test_a_worker_that_has_outgrown_its_memory_is_asked_to_leave_when_it_holds_nothing():
    """Not before: what it runs is not to blame."""
    desk = Desk()
    desk.open(1, 2, chunksize=2)
    (order,) = desk.come()
    bloated = ev.ResultsArrived(order.worker, order.chunk, 0, 1, bloated=True)

    assert StopWorker(order.worker) not in desk.tell(bloated)
    assert StopWorker(order.worker) in desk.tell(results(order, 1, skip=1, last=True))


def test_a_kill_that_crosses_the_result_does_no_harm():
    """The result was in the pipe: it counts."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()

    assert desk.tell(ev.TaskKilled(1)) == [KillWorker(order.worker, family=True)]
    told = desk.done(order)
    assert told == [Deliver(1, 0, 1, "payload"), FinishCall(1)]
    assert not [c for c in desk.dies(order.worker) if isinstance(c, SettleLost)]


def test_a_killed_task_is_told_as_such_and_not_retried():
    """Whoever ends it does not want it again."""
    desk = desk_with(RetryPolicy(attempts=5, lost=True))
    (order,) = desk.come()
    desk.tell(ev.TaskKilled(1))

    assert desk.dies(order.worker, 0)[0] == SettleLost(1, 0, "who", -9, 1, Loss.KILLED)


def test_a_kill_of_what_is_over_kills_nothing():
    """The owner could not know yet; it hears of the end again."""
    assert Desk().tell(ev.TaskKilled(7)) == [FinishCall(7)]


def test_a_kill_between_two_attempts_ends_the_task_though_its_chunk_is_still_to_be_closed():
    """The attempt is over and its worker has nothing to do with the task any more."""
    for delay in (500.0, 0.0):
        desk = desk_with(RetryPolicy(attempts=3, first_delay=delay))
        (order,) = desk.come()
        desk.tell(retried(order, 0))

        told = desk.tell(ev.TaskKilled(1))

        assert told == [SettleLost(1, 0, None, None, 1, Loss.KILLED)]
        assert desk.tell(results(order, 0, skip=1, last=True)) == [FinishCall(1)]


def test_a_kill_that_a_failed_attempt_crosses_is_not_forgotten():
    """What the task had raised before it was ended is its outcome: it is not run again."""
    desk = desk_with(RetryPolicy(attempts=3, first_delay=500.0))
    (order,) = desk.come()
    desk.tell(ev.TaskKilled(1))

    told = desk.tell(retried(order, 0))

    assert [type(each) for each in told] == [Deliver]
    assert FinishCall(1) in desk.dies(order.worker)


def test_a_kill_after_the_outcome_changes_nothing():
    desk = desk_with(RetryPolicy(attempts=3))
    (order,) = desk.come()
    desk.tell(results(order, 1))

    assert desk.tell(ev.TaskKilled(1)) == []


def test_a_kill_of_a_task_whose_worker_is_being_ended_anyway_only_marks_it():
    """It was late, say: what was said first goes on, and the loss is told as the owner's."""
    desk = desk_with(RetryPolicy(attempts=5, lost=True))
    (order,) = desk.come()
    desk.tell(ev.CallCancelled(1, hurry=True))
    worker = desk.scheduler.workers[order.worker]

    assert desk.tell(ev.TaskKilled(1)) == []
    assert worker.killed


def test_the_rest_of_an_item_that_nobody_wants_any_more_wakes_nobody():
    """Its instant stays behind, and is ignored."""
    desk = desk_with(RetryPolicy(attempts=3, first_delay=20.0))
    (order,) = desk.come()
    desk.tell(retried(order, 0), results(order, 0, skip=1, last=True))
    assert desk.scheduler.next_deadline() == desk.now + 20.0

    assert desk.tell(ev.CallCancelled(1)) == [FinishCall(1)]

    assert desk.scheduler.next_deadline() is None
