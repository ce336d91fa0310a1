"""Faults planted in the core: the tests are believed because they catch every one of these.

Most are for the machine to find, within a bounded and repeatable search; the few that only patience
or fairness would show are for a unit test, which is named.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from parmap._core import dispatch, losses, scheduler
from parmap._core.calls import Call
from parmap._core.deadlines import ItemClock
from parmap._core.scheduler import Scheduler
from parmap._core.workers import Staff, Worker
from parmap.errors import InternalError
from stateful.test_scheduler_machine import SchedulerMachine
from support.planting import plant
from unit.core import test_cutting as cutting_tests
from unit.core import test_deadlines as deadline_tests
from unit.core import test_losses as loss_tests
from unit.core import test_scheduler as unit_tests

CAUGHT = (AssertionError, InternalError, LookupError, ValueError)
BUDGET = settings(
    max_examples=1000,
    stateful_step_count=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # whether it is found is the question, not how small it can be shown
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class Fault(NamedTuple):
    """`wrong` in the place of `right`."""

    owner: Any
    name: str
    right: str
    wrong: str


BY_THE_MACHINE = {
    "the chunk behind the first one is forgotten when its worker dies": Fault(
        Scheduler, "_bury_chunks", "for chunk in later]", "for chunk in ()]"
    ),
    "the first item of the chunk is charged, not the one that ran": Fault(
        losses, "guilty_item", "return running", "return chunk.next"
    ),
    "a call ends while workers still hold items of it": Fault(
        Call, "finished", "and not self.workers", ""
    ),
    "a cut forgets what the worker has not begun": Fault(
        scheduler, "take_back", "Piece(stop, first.stop, first.solo)", "Piece(0, 0)"
    ),
    "a cut gives back the item that is being run": Fault(
        scheduler, "take_back", "max(stop, first.next)", "max(stop - 1, first.next)"
    ),
    "a cut leaves the chunk as long as it was": Fault(
        scheduler, "take_back", "first.stop = min(first.stop, stop)", "pass"
    ),
    "a cut forgets the chunk behind the first one": Fault(
        scheduler, "take_back", "for chunk in later", "for chunk in ()"
    ),
    "a chunk is cut a second time": Fault(
        scheduler, "cut_overdue", "worker.overdue_at = None", "pass"
    ),
    "a call that comes with all its items is not ended": Fault(
        Scheduler, "_open_call", "book.input_ended = True", "pass"
    ),
    "deaths before a chunk is begun are free for ever": Fault(
        losses, "guilty_item", "call.free_deaths += 1", "pass"
    ),
    "stale warm workers charge an item": Fault(
        losses, "guilty_item", "worker.id < call.opened", "False"
    ),
    "suspects do not go alone": Fault(
        Scheduler, "_bury_chunks", "suspected = at == ev.UNKNOWN", "suspected = False"
    ),
    "an item that nobody wants is charged": Fault(
        Scheduler, "_bury_chunks", "guilty is not None and book.wants(guilty)", "guilty is not None"
    ),
    "the cap of a call is ignored": Fault(
        scheduler, "next_assignment", "if len(call.workers) < call.cap", "if True"
    ),
    "what a chunk gives back is lost": Fault(
        Scheduler, "_close_chunk", "[Piece(chunk.next, chunk.stop, chunk.solo)]", "[]"
    ),
    "a chunk is given back from its start": Fault(
        Scheduler, "_close_chunk", "Piece(chunk.next,", "Piece(chunk.start,"
    ),
    "what is given back waits twice": Fault(
        Call, "requeue", "self.pieces.appendleft(piece)", "self.pieces.extendleft([piece, piece])"
    ),
    "the limit is the sum of the caps": Fault(
        scheduler, "workers_wanted", "largest = max(largest, call.cap)", "largest += call.cap"
    ),
    "a worker that leaves a call that is over is replaced": Fault(
        scheduler,
        "workers_wanted",
        "sum(workers[worker].present for worker in call.workers)",
        "len(call.workers)",
    ),
    "the deadline of an unwanted item outlives it": Fault(
        Staff, "rest", "worker.expect(None, None)", "pass"
    ),
    "a piece that the failure cuts is lost whole": Fault(
        Call, "_clip", "if piece.start < stop else", "if piece.stop <= stop else"
    ),
    "the last words of a worker that leaves are ignored": Fault(
        Scheduler,
        "_results",
        "chunk = worker.chunks[0] if worker.chunks else None",
        "if worker.state is WorkerState.LEAVING: return\n"
        "    chunk = worker.chunks[0] if worker.chunks else None",
    ),
    "the start budget is never restored": Fault(
        Scheduler, "_worker_ready", "self._failed_starts = 0", "pass"
    ),
    "the start budget is never spent": Fault(
        Scheduler, "_start_failed", "self._failed_starts += 1", "pass"
    ),
    "a late worker is counted while it is still present": Fault(
        Scheduler,
        "_deadline_passed",
        "self._out += self._staff.next_step(worker, self._now)",
        "if late:\n"
        "            self._start_failed('timeout', None)\n"
        "        late = False\n"
        "        self._out += self._staff.next_step(worker, self._now)",
    ),
    "a wanted item waits behind an unwanted one": Fault(
        dispatch, "_with_room", "in_order = ", "in_order = True or "
    ),
    "an ordered stream loses the items before the failure": Fault(
        Scheduler, "_failed", "index if book.on_failure is OnFailure.FINISH_EARLIER else 0", "0"
    ),
    "items that are wanted are dropped": Fault(
        Scheduler, "_drop_unwanted", "or book.wants(worker.chunks[0].next)", ""
    ),
    "a cancelled item takes the rest of its piece along": Fault(
        Call, "withdraw", "Piece(index + 1, piece.stop, piece.solo)", "Piece(0, 0)"
    ),
    "a worker that was told to go gets work": Fault(
        scheduler,
        "next_assignment",
        "w.state is WorkerState.IDLE",
        "w.state is WorkerState.IDLE or (w.state is WorkerState.LEAVING and not w.chunks)",
    ),
    "three chunks wait at a worker": Fault(
        dispatch, "_with_room", "len(worker.chunks) == 1", "len(worker.chunks) <= 2"
    ),
    "nobody is told to leave what is no longer wanted": Fault(
        Scheduler, "_drop_unwanted", "worker.expect(Step.TERMINATE, self._now + GRACE)", "pass"
    ),
    "a late worker is never killed": Fault(
        Scheduler, "_looked", "self._now + DUMP_PATIENCE", "None"
    ),
    "nobody looks at the clocks": Fault(
        Scheduler, "_deadline_passed", "self._look_at_clocks()", "pass"
    ),
    "an item is retried once too often": Fault(
        Scheduler, "_count_attempt", "failed >= book.retry.attempts", "failed > book.retry.attempts"
    ),
    "a lost worker is a reason to retry where only lateness is": Fault(
        Scheduler, "_charge", "book.retry.late if late else book.retry.lost", "True"
    ),
    "a killed task is retried": Fault(Scheduler, "_charge", "not worker.killed and (", "("),
    "a retried failure is delivered as well": Fault(
        Scheduler, "_results", "if event.count and not again", "if event.count"
    ),
    "a retried failure ends its call": Fault(
        Scheduler, "_results", "if event.failed and not again", "if event.failed"
    ),
    "what rests outlives its call": Fault(Call, "stop", "if item < index", ""),
    "a call ends while an item of it rests": Fault(Call, "finished", "and not self.resting", ""),
    "a rest is longer than it should be": Fault(
        Scheduler, "next_deadline", "min(staff, rest)", "staff"
    ),
    "an item that has rested takes neighbours along": Fault(
        Call, "wake", "solo=True", "solo=False"
    ),
    "a worker is given more tasks than it may run": Fault(
        Call, "take", "size if most is None else min(size, most)", "size"
    ),
    "a worker that is spent goes on": Fault(
        Scheduler, "_close_chunk", "if worker.is_spent", "if False"
    ),
    "a task that is killed between two attempts goes on": Fault(
        Scheduler, "_task_killed", "if book.turn and (book.waiting or book.resting)", "if False"
    ),
    "attempts are counted from nothing at each run": Fault(
        Scheduler, "_assign", "if piece.solo else 1", "if False else 1"
    ),
}

BY_A_UNIT_TEST = {
    "an item that nobody wants any more is retried": (
        Fault(Scheduler, "_run_again", "book.wants(index) and", ""),
        loss_tests.test_a_cancel_that_crosses_a_retry_ends_the_call_at_once,
    ),
    "tasks that were given back count": (
        Fault(Scheduler, "_close_chunk", "worker.tasks_left += chunk.stop - chunk.next", "pass"),
        loss_tests.test_tasks_that_were_given_back_do_not_count,
    ),
    "a late item's result that came in time is charged": (
        Fault(
            Scheduler,
            "_guilty",
            "if culprit is not None and first.next <= culprit < first.stop",
            "if True",
        ),
        deadline_tests.test_a_result_that_comes_after_its_deadline_and_before_the_death_counts,
    ),
    "what a late worker was at is charged, not what it was ended for": (
        Fault(
            Scheduler,
            "_guilty",
            "if worker.late is None and not worker.killed",
            "if not worker.killed",
        ),
        deadline_tests.test_a_result_that_comes_after_its_deadline_and_before_the_death_counts,
    ),
    "an item is given up early": (
        Fault(ItemClock, "late", "now >= self._asked + self.limit", "now >= self._asked"),
        deadline_tests.test_a_question_without_an_answer_means_that_no_item_has_begun_since,
    ),
    "time that passed before a chunk was begun counts": (
        Fault(
            ItemClock,
            "saw",
            "= running, began, now, None",
            "= running, self.look_at - self.limit, now, None",
        ),
        deadline_tests.test_a_marked_item_is_looked_at_only_when_its_time_could_be_over,
    ),
    "a worker that is being cut is sent another chunk": (
        Fault(dispatch, "_with_room", "first.id <= worker.cut_to", "False"),
        cutting_tests.test_a_worker_that_is_being_cut_is_sent_nothing,
    ),
    "a worker that goes is cut": (
        Fault(scheduler, "cut_overdue", "worker.state is WorkerState.BUSY", "True"),
        cutting_tests.test_a_worker_that_was_told_to_go_is_not_cut_as_well,
    ),
    "the second chunk is watched from when the first one began": (
        Fault(Scheduler, "_close_chunk", "watch(worker, book, self._now)", "pass"),
        cutting_tests.test_a_second_chunk_is_watched_from_when_it_becomes_the_first,
    ),
    "what is sent ahead does not keep its worker": (
        Fault(Staff, "fresh", "worker.expect(Step.RETIRE, now + self._idle_timeout)", "pass"),
        cutting_tests.test_the_rest_of_a_worker_begins_anew_when_something_is_sent_ahead,
    ),
    "a short map is sent ahead of an open call": (
        Fault(Scheduler, "send_ahead", "if self.calls or self._closing", "if self._closing"),
        cutting_tests.test_nothing_is_sent_ahead_of_an_open_call,
    ),
    "a worker that never begins is waited for": (
        Fault(ItemClock, "is_broken", "now >= self._begin_by", "False"),
        deadline_tests.test_a_chunk_that_has_not_been_begun_is_not_timed,
    ),
    "an unanswered question is forgotten": (
        Fault(ItemClock, "saw", "if self._asked is None or self._at == IDLE", "if True"),
        deadline_tests.test_a_question_without_an_answer_means_that_no_item_has_begun_since,
    ),
    "every answer is a new item": (
        Fault(ItemClock, "saw", "if running != self._at", "if True"),
        deadline_tests.test_an_answer_that_stays_the_same_is_a_late_item,
    ),
    "a call to which no items were added never ends": (
        Fault(Call, "add", "if count and", "if"),
        unit_tests.test_a_call_without_items_is_finished_at_the_end_of_its_input,
    ),
    "progress does not make deaths free again": (
        Fault(Scheduler, "_results", "book.free_deaths = 0", "pass"),
        unit_tests.test_progress_makes_deaths_free_again,
    ),
    "a second chunk waits behind a dear one": (
        Fault(
            dispatch,
            "_with_room",
            "not call.sizer.prefetches(call.waiting, len(call.workers))",
            "False",
        ),
        unit_tests.test_a_second_chunk_waits_at_a_busy_worker_only_behind_a_short_one,
    ),
    "prefetch starves the other call": (
        Fault(scheduler, "next_assignment", "not _others_deserve(call, calls.values())", "True"),
        unit_tests.test_prefetch_never_starves_another_call,
    ),
    "the call that was served last is served next": (
        Fault(dispatch, "_need", "call.turn", "-call.turn"),
        unit_tests.test_a_call_of_one_worker_is_served_in_turn,
    ),
    "SIGKILL comes at once": (
        Fault(Staff, "terminate", "now + kill_after", "now"),
        unit_tests.test_a_cancelled_call_gets_grace_then_sigterm_then_sigkill,
    ),
    "a second cancel starts the grace anew": (
        Fault(Scheduler, "_drop_unwanted", "if worker.step is Step.TERMINATE and", "if False and"),
        unit_tests.test_cancelling_twice_changes_nothing,
    ),
    "Ctrl-C hurries nobody who was told before": (
        Fault(Worker, "hurry", "min(self.deadline, at)", "self.deadline"),
        unit_tests.test_ctrl_c_hurries_a_worker_that_was_told_to_go_before,
    ),
    "a later failure of the engine hides the first": (
        Fault(Scheduler, "_fail_calls", "if book.failure is None or", "if True or"),
        unit_tests.test_the_first_reason_why_the_engine_cannot_serve_is_the_one_that_is_told,
    ),
}


# Found only after many examples: the usual run leaves their search to `make nightly`.
RARE = {
    "a task that is killed between two attempts goes on",
    "a worker that is spent goes on",
    "suspects do not go alone",
    "a retried failure ends its call",
    "a killed task is retried",
    "a retried failure is delivered as well",
    "an item that has rested takes neighbours along",
    "what a chunk gives back is lost",
    "a wanted item waits behind an unwanted one",
    "a cut leaves the chunk as long as it was",
    "the last words of a worker that leaves are ignored",
    "a worker is given more tasks than it may run",
    "attempts are counted from nothing at each run",
    "a cut forgets what the worker has not begun",
    "the first item of the chunk is charged, not the one that ran",
    "a cut forgets the chunk behind the first one",
    "the deadline of an unwanted item outlives it",
    "the limit is the sum of the caps",
    "a cut gives back the item that is being run",
    "the chunk behind the first one is forgotten when its worker dies",
    "stale warm workers charge an item",
    "a lost worker is a reason to retry where only lateness is",
    "a chunk is cut a second time",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.stress] * (name in RARE)) for name in BY_THE_MACHINE],
)
def test_the_machine_catches_it(name, monkeypatch):
    """Within a thousand examples, the same ones each time."""
    plant(monkeypatch, *BY_THE_MACHINE[name])

    with pytest.raises(CAUGHT):
        run_state_machine_as_test(SchedulerMachine, settings=BUDGET)


@pytest.mark.parametrize("name", BY_A_UNIT_TEST)
def test_a_unit_test_catches_it(name, monkeypatch):
    """The test passes without the fault, and fails with it."""
    fault, test = BY_A_UNIT_TEST[name]
    test()
    plant(monkeypatch, *fault)

    with pytest.raises(CAUGHT):
        test()


def test_without_a_fault_the_same_search_finds_nothing():
    """Else the above would prove nothing."""
    run_state_machine_as_test(SchedulerMachine, settings=settings(BUDGET, max_examples=50))
