"""The decisions, event by event: what is told, and exactly what is commanded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parmap._core import events as ev
from parmap._core.books import GRACE
from parmap._core.commands import (
    Assign,
    Deliver,
    DropChunks,
    FailCall,
    FinishCall,
    KillWorker,
    SettleLost,
    StartWorker,
    StopWorker,
    TerminateWorker,
)
from parmap._core.events import IDLE, UNKNOWN, OnFailure
from parmap._core.scheduler import HURRIED_KILL_AFTER, START_BUDGET
from parmap._core.workers import KILL_AFTER, START_TIMEOUT
from parmap.errors import InternalError
from support.scheduling import CHEAP, DEAR, Desk, orders, results, spans

# ---------------------------------------------------------------------- a call that goes well


def test_a_call_of_one_item_is_started_served_and_finished():
    """The whole life of the smallest call, command by command."""
    desk = Desk()

    assert desk.tell(ev.CallOpened(7, 2, None, OnFailure.STOP)) == []
    (start,) = desk.tell(ev.ItemsAdded(7, 1))
    assert isinstance(start, StartWorker)
    worker = start.worker
    assert desk.tell(ev.InputEnded(7), ev.WorkerUp(worker)) == []
    (order,) = desk.tell(ev.WorkerReady(worker))
    assert isinstance(order, Assign)
    assert order == Assign(
        worker,
        order.chunk,
        7,
        0,
        1,
        marked=True,
        stop_on_failure=True,
    )
    assert desk.tell(results(order, 1, last=True)) == [Deliver(7, 0, 1, "payload"), FinishCall(7)]


def test_a_call_without_items_is_finished_at_the_end_of_its_input():
    """Also when it is told in so many words that nothing was added."""
    desk = Desk()

    assert desk.open(1, 0) == [FinishCall(1)]


def test_a_call_is_not_finished_while_its_input_is_open():
    """The lazy caller may still think of something."""
    desk = Desk()
    desk.open(1, 1, ended=False)
    (order,) = desk.come()

    assert desk.done(order) == [Deliver(1, 0, 1, "payload")]
    assert spans(desk.tell(ev.ItemsAdded(1, 1))) == [(order.worker, 1, 2)]


def test_skipped_items_are_not_sent_and_the_others_keep_their_indexes():
    """What a checkpoint has costs no message; no chunk reaches across it."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, 4, OnFailure.CONTINUE))
    desk.tell(ev.ItemsAdded(1, 2, skipped=3), ev.ItemsAdded(1, 1, skipped=1), ev.InputEnded(1))
    (order,) = desk.come()

    assert (order.start, order.stop) == (3, 5)
    (last,) = orders(desk.done(order))
    assert (last.start, last.stop) == (6, 7)
    assert FinishCall(1) in desk.done(last)


def test_a_call_that_is_spared_all_its_items_asks_for_no_worker():
    """A run that finds everything stored costs no process."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 2, None, OnFailure.STOP))

    assert desk.tell(ev.InputEnded(1)) == [FinishCall(1)]


def test_a_failure_ends_the_call_also_where_items_were_skipped_before_it():
    """FINISH_EARLIER compares indexes of the input."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, 1, OnFailure.FINISH_EARLIER), ev.ItemsAdded(1, 3, skipped=5))
    (order,) = desk.come()
    commands = desk.tell(results(order, 1, last=True, failed=(5,)))

    assert orders(commands) == []
    assert FinishCall(1) in commands


def test_a_partial_report_is_delivered_at_once():
    """A long chunk streams: its results do not wait for its end."""
    desk = Desk()
    desk.open(1, 3, chunksize=3)
    (order,) = desk.come()

    assert desk.tell(results(order, 2)) == [Deliver(1, 0, 2, "payload")]
    assert desk.tell(results(order, 1, skip=2, last=True)) == [
        Deliver(1, 2, 1, "payload"),
        FinishCall(1),
    ]


def test_what_a_chunk_gives_back_waits_in_front():
    """The rest of an overrun chunk goes out again before later items."""
    desk = Desk()
    desk.open(1, 6, chunksize=3)
    (order,) = desk.come()

    assert spans(desk.tell(results(order, 1, last=True, seconds=DEAR))) == [(order.worker, 1, 3)]


def test_a_second_chunk_waits_at_a_busy_worker_only_behind_a_short_one():
    """Prefetch hides the message between cheap chunks; dear items stay where all can take them."""
    for seconds, prefetched in ((CHEAP, 2), (DEAR, 1)):
        desk = Desk()
        desk.open(1, 5)
        (order,) = desk.come()
        sent = desk.done(order, seconds=seconds)
        assert len(orders(sent)) == prefetched, seconds


# ---------------------------------------------------------------------- deaths


def two_chunks() -> tuple[Desk, list[Assign]]:
    """One worker that holds items 1..3 and 4..6 of a call of eight, prefetched."""
    desk = Desk()
    desk.open(1, 8, chunksize=3)
    (first,) = desk.come()
    rest = orders(desk.tell(results(first, 1, last=True, seconds=CHEAP)))
    assert spans(rest) == [(first.worker, 1, 3), (first.worker, 3, 6)]
    return desk, rest


@pytest.mark.parametrize(
    ("running", "lost", "waiting"),
    [
        (1, 1, [(2, 3), (3, 6)]),
        (2, 2, [(1, 2), (3, 6)]),
        (IDLE, None, [(1, 3), (3, 6)]),
        (4, None, [(1, 3), (3, 6)]),  # a chunk whose predecessor is unreported has not been begun
        (0, None, [(1, 3), (3, 6)]),  # reported before
        (UNKNOWN, None, [(1, 2)]),  # alone: the first of the suspects
    ],
)
def test_a_death_charges_the_running_item_and_no_other(running, lost, waiting):
    """Everything else of the worker goes out again, in front, at no charge."""
    desk, (held, _) = two_chunks()
    commands = desk.dies(held.worker, running)
    settled = [command for command in commands if isinstance(command, SettleLost)]
    assert settled == ([] if lost is None else [SettleLost(1, lost, "who", -9, 1)])

    again = desk.come()
    while len(again) < len(waiting):
        again += orders(desk.done(again[-1], seconds=DEAR))
    assert [(order.start, order.stop) for order in again] == waiting


def test_results_that_came_before_the_death_count():
    """Last words are heard first; only what they do not tell goes out again."""
    desk = Desk()
    desk.open(1, 4, chunksize=4)
    (order,) = desk.come()
    desk.tell(results(order, 2))

    assert desk.dies(order.worker, running=2)[0] == SettleLost(1, 2, "who", -9, 1)
    assert [(o.start, o.stop) for o in desk.come()] == [(3, 4)]


def test_a_death_after_the_last_result_and_before_the_end_of_its_chunk_charges_nobody():
    """Every outcome is there; the call is over."""
    desk = Desk()
    desk.open(1, 2, chunksize=2)
    (order,) = desk.come()
    desk.tell(results(order, 2))

    assert desk.dies(order.worker, UNKNOWN) == [FinishCall(1)]


def test_suspects_go_alone_and_the_one_that_kills_again_is_charged():
    """UNKNOWN accuses several; alone and marked each is its own witness."""
    desk = Desk()
    desk.open(1, 3, chunksize=3)
    (order,) = desk.come()

    assert desk.dies(order.worker, UNKNOWN) == [StartWorker(desk.asked[-1])]
    (alone,) = desk.come()
    assert (alone.start, alone.stop, alone.marked) == (0, 1, True)
    (alone,) = orders(desk.done(alone, seconds=CHEAP))  # no second suspect waits behind it
    assert (alone.start, alone.stop, alone.marked) == (1, 2, True)
    assert desk.dies(alone.worker, UNKNOWN)[0] == SettleLost(1, 1, "who", -9, 1)
    (alone,) = desk.come()
    assert (alone.start, alone.stop) == (2, 3)


def test_a_suspicious_chunk_of_one_item_is_charged_at_once():
    """One item alone needs no proof."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()

    assert desk.dies(order.worker, UNKNOWN) == [SettleLost(1, 0, "who", -9, 1), FinishCall(1)]


def test_deaths_before_a_chunk_is_begun_are_free_but_not_for_ever():
    """A function that crashes on arrival would kill workers until the end of time."""
    desk = Desk()
    desk.open(1, 2, chunksize=2)
    for _ in range(4):
        (order,) = desk.come()
        assert not any(isinstance(c, SettleLost) for c in desk.dies(order.worker))
    (order,) = desk.come()

    assert desk.dies(order.worker)[0] == SettleLost(1, 0, "who", -9, 1)


def test_progress_makes_deaths_free_again():
    """Somebody kills idle workers now and then: that is no item's fault."""
    desk = Desk()
    desk.open(1, 20)
    for index in range(10):
        (order,) = desk.come()
        (nxt,) = orders(desk.done(order, seconds=DEAR))
        assert nxt.start == index + 1
        assert desk.dies(nxt.worker) == [StartWorker(desk.asked[0])]


def test_warm_workers_that_leave_because_they_are_stale_charge_nobody():
    """After a module was edited all of them leave at the next call, however many they are."""
    desk = Desk()
    desk.open(1, 8, cap=8)
    for order in desk.come():
        desk.done(order, seconds=DEAR)
    sent = orders(desk.open(2, 1))
    for _ in range(8):
        commands = desk.dies(sent[0].worker)
        assert not any(isinstance(c, SettleLost) for c in commands)
        sent = orders(commands) or desk.come()

    assert desk.done(sent[0]) == [Deliver(2, 0, 1, "payload"), FinishCall(2)]


def test_an_idle_worker_that_dies_is_missed_only_when_it_is_needed():
    """No replacement without work."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()
    desk.done(order)

    assert desk.dies(order.worker) == []
    assert desk.open(2, 1) == [StartWorker(desk.asked[-1])]


# ---------------------------------------------------------------------- cancelling


def test_a_cancelled_call_gets_grace_then_sigterm_then_sigkill():
    """0.1 s to end by itself, 1 s for its `finally` blocks; the call ends when nothing runs."""
    desk = Desk()
    desk.open(1, 2)
    (order,) = desk.come()
    worker = order.worker

    assert desk.tell(ev.CallCancelled(1)) == [DropChunks(worker, order.chunk)]
    assert desk.scheduler.next_deadline() == GRACE == 0.1
    assert desk.later(GRACE) == [TerminateWorker(worker)]
    assert desk.scheduler.next_deadline() == GRACE + KILL_AFTER == 1.1
    assert desk.later(KILL_AFTER) == [KillWorker(worker)]
    assert desk.scheduler.next_deadline() is None
    assert desk.dies(worker, running=0) == [FinishCall(1)]


def test_after_ctrl_c_there_is_no_grace():
    """A person waits: SIGTERM at once, SIGKILL before half a second is over."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()

    assert desk.tell(ev.CallCancelled(1, hurry=True)) == [
        DropChunks(order.worker, order.chunk),
        TerminateWorker(order.worker),
    ]
    assert desk.later(HURRIED_KILL_AFTER) == [KillWorker(order.worker)]


def test_ctrl_c_hurries_a_worker_that_was_told_to_go_before():
    """Patience began, then the person lost theirs."""
    desk = Desk()
    desk.open(1, 1)
    desk.come()
    desk.tell(ev.CallCancelled(1))
    desk.later(GRACE)

    desk.tell(ev.CallCancelled(1, hurry=True))
    assert desk.scheduler.next_deadline() == pytest.approx(GRACE + HURRIED_KILL_AFTER)
    desk.later(HURRIED_KILL_AFTER)
    desk.tell(ev.CallCancelled(1, hurry=True))
    assert desk.scheduler.next_deadline() is None  # it is killed; nothing is left to hurry


def test_a_result_that_crosses_the_cancel_is_delivered_and_spares_the_worker():
    """The worker was quick: it gives the rest back and stays."""
    desk = Desk()
    desk.open(1, 3, chunksize=3)
    (order,) = desk.come()
    desk.tell(ev.CallCancelled(1))

    assert desk.tell(results(order, 2, last=True)) == [
        Deliver(1, 0, 2, "payload"),
        FinishCall(1),
    ]
    assert desk.scheduler.next_deadline() is None
    assert spans(desk.open(2, 1)) == [(order.worker, 0, 1)]


def test_a_result_that_crosses_the_sigterm_is_delivered_too():
    """The last words of a worker that was told to go still count."""
    desk = Desk()
    desk.open(1, 2, chunksize=2)
    (order,) = desk.come()
    desk.tell(ev.CallCancelled(1))
    desk.later(GRACE)

    assert desk.tell(results(order, 1)) == [Deliver(1, 0, 1, "payload")]
    assert desk.dies(order.worker, running=1) == [FinishCall(1)]


def test_cancelling_twice_changes_nothing():
    """The grace is not started anew."""
    desk = Desk()
    desk.open(1, 1)
    desk.come()
    desk.tell(ev.CallCancelled(1))
    desk.now = 0.05

    assert desk.tell(ev.CallCancelled(1)) == []
    assert desk.scheduler.next_deadline() == GRACE


def test_nobody_is_hired_in_the_place_of_a_worker_that_leaves_a_call_that_is_over():
    """After Ctrl-C new processes are the last thing that anybody wants."""
    desk = Desk()
    desk.open(1, 8, cap=4)
    assert len(desk.come()) == 4
    commands = desk.tell(ev.CallCancelled(1, hurry=True))

    assert not any(isinstance(command, StartWorker) for command in commands)


def test_a_worker_that_leaves_is_replaced_at_once_for_another_call():
    """The second call does not wait for the first one's stubborn worker."""
    desk = Desk(limit=1)
    desk.open(1, 1)
    desk.come()
    desk.open(2, 1)
    desk.tell(ev.CallCancelled(1))

    commands = desk.later(GRACE)
    assert [type(command) for command in commands] == [TerminateWorker, StartWorker]
    assert [order.call for order in desk.come()] == [2]


# ---------------------------------------------------------------------- failures


def failing(on_failure: OnFailure) -> tuple[Desk, list[Assign]]:
    """Three workers at items 0, 1 and 2 of a call of ten."""
    desk = Desk()
    desk.open(1, 10, cap=3, on_failure=on_failure)
    return desk, desk.come()


def test_stop_drops_everything_at_the_first_failure():
    """Nothing else is wanted: the rest is dropped, what runs is ended."""
    desk, (first, second, third) = failing(OnFailure.STOP)

    assert desk.tell(results(second, 1, failed=(1,), last=True)) == [
        Deliver(1, 1, 1, "payload"),
        DropChunks(first.worker, first.chunk),
        DropChunks(third.worker, third.chunk),
    ]
    desk.done(first)
    assert desk.tell(results(third, 0, last=True)) == [FinishCall(1)]


def test_finish_earlier_keeps_the_items_before_the_failure():
    """An ordered stream wants every earlier result before it raises."""
    desk, (first, second, third) = failing(OnFailure.FINISH_EARLIER)

    assert desk.tell(results(second, 1, failed=(1,), last=True)) == [
        Deliver(1, 1, 1, "payload"),
        DropChunks(third.worker, third.chunk),
    ]
    assert desk.later(GRACE) == [TerminateWorker(third.worker)]
    assert desk.dies(third.worker, running=2) == []  # nobody wants it: nobody is charged
    assert desk.done(first) == [Deliver(1, 0, 1, "payload"), FinishCall(1)]


def test_finish_earlier_runs_an_earlier_item_again_when_its_worker_dies():
    """Item 0 is wanted although item 1 has failed."""
    desk, (first, second, third) = failing(OnFailure.FINISH_EARLIER)
    desk.tell(results(second, 1, failed=(1,), last=True), results(third, 0, last=True))

    assert spans(desk.dies(first.worker, IDLE)) == [(second.worker, 0, 1)]


def test_of_two_failures_the_lower_one_decides():
    """The later report has the earlier index."""
    desk, (first, second, third) = failing(OnFailure.FINISH_EARLIER)
    desk.tell(results(third, 1, failed=(2,), last=True))

    assert desk.tell(results(first, 1, failed=(0,), last=True)) == [
        Deliver(1, 0, 1, "payload"),
        DropChunks(second.worker, second.chunk),
    ]


def test_continue_runs_everything():
    """Every item is wanted, whatever fails."""
    desk, (first, *_) = failing(OnFailure.CONTINUE)

    (_, order) = desk.tell(results(first, 1, failed=(0,), last=True, seconds=DEAR))
    assert isinstance(order, Assign)
    assert (order.start, order.stop, order.stop_on_failure) == (3, 4, False)


def test_a_lost_item_is_a_failure():
    """A death stops a call that stops at failures."""
    desk, (first, second, third) = failing(OnFailure.STOP)

    assert desk.dies(second.worker, running=1) == [
        SettleLost(1, 1, "who", -9, 1),
        DropChunks(first.worker, first.chunk),
        DropChunks(third.worker, third.chunk),
    ]


def test_a_wanted_item_never_waits_behind_an_unwanted_one():
    """Else the worker, told to leave the one, would be ended in the middle of the other."""
    desk = Desk()
    desk.open(1, 3, cap=3, on_failure=OnFailure.FINISH_EARLIER, ended=False)
    first, second, third = desk.come()
    desk.done(first, seconds=CHEAP)
    (late,) = orders(desk.tell(ev.ItemsAdded(1, 1)))
    assert (late.worker, late.start) == (first.worker, 3)

    # There would be room behind item 3, but item 2 may fail, and then item 3 is not wanted.
    assert spans(desk.dies(second.worker)) == []
    commands = desk.tell(results(third, 1, failed=(2,), last=True, seconds=CHEAP))
    assert commands == [
        Deliver(1, 2, 1, "payload"),
        DropChunks(late.worker, late.chunk),
        *orders(commands),
    ]
    assert spans(commands) == [(third.worker, 1, 2)]


# ---------------------------------------------------------------------- single items


def test_an_item_that_waits_can_be_withdrawn_from_the_middle():
    """The items around it run; it is not missed at the end."""
    desk = Desk()
    desk.open(1, 4, chunksize=3)
    assert desk.tell(ev.ItemCancelled(1, 1)) == []

    (order,) = desk.come()
    assert (order.start, order.stop) == (0, 1)
    (order,) = orders(desk.done(order, seconds=DEAR))
    assert (order.start, order.stop) == (2, 4)
    assert desk.done(order)[-1] == FinishCall(1)


def test_an_item_that_runs_is_not_withdrawn():
    """The future says no; its result comes."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()
    desk.tell(ev.ItemCancelled(1, 0))

    assert desk.done(order) == [Deliver(1, 0, 1, "payload"), FinishCall(1)]


def test_a_call_whose_last_item_is_withdrawn_is_finished():
    """Nothing waits, nothing runs, nothing can come."""
    desk = Desk()
    desk.open(1, 1)

    assert desk.tell(ev.ItemCancelled(1, 0)) == [FinishCall(1)]


def test_what_waits_is_dropped_and_what_was_sent_goes_on():
    """Also what comes back from a dead worker: it had been sent."""
    desk = Desk()
    desk.open(1, 10, chunksize=2)
    (order, *_) = desk.come()
    assert spans(desk.tell(ev.WaitingDropped(1))) == []
    desk.tell(ev.ItemsAdded(1, 3))

    assert desk.dies(order.worker)[-1] != FinishCall(1)
    again = orders(desk.come())
    assert again[0].start == 0


# ---------------------------------------------------------------------- several calls


def test_two_calls_share_the_workers_fairly():
    """Each gets half, whoever came first."""
    desk = Desk(limit=4)
    desk.open(1, 100, cap=4)
    desk.open(2, 100, cap=4)

    assert sorted(order.call for order in desk.come()) == [1, 1, 2, 2]


def test_prefetch_never_starves_another_call():
    """A cheap call that keeps a chunk waiting at each worker leaves none free: so it must not."""
    desk = Desk(limit=2)
    desk.open(1, 1000, cap=2)
    held = desk.come()
    for _ in range(10):
        held += orders(desk.done(held.pop(0), seconds=CHEAP))
    assert len(held) == 4  # two at each
    desk.open(2, 1)
    served = []
    for _ in range(4):
        served += orders(desk.done(held.pop(0), seconds=CHEAP))
    assert 2 in {order.call for order in served}


def test_a_call_of_one_worker_is_served_in_turn():
    """With one worker the calls alternate."""
    desk = Desk(limit=1)
    desk.open(1, 3)
    desk.open(2, 3)
    desk.open(3, 3)
    (order,) = desk.come()
    turns = [order.call]
    while sent := orders(desk.done(order, seconds=DEAR)):
        (order,) = sent
        turns.append(order.call)

    assert turns == [1, 2, 3] * 3


def test_a_call_never_has_more_workers_than_its_cap():
    """Even when others idle."""
    desk = Desk()
    desk.open(1, 3, cap=3)
    for order in desk.come():
        desk.done(order, seconds=DEAR)

    assert len(orders(desk.open(2, 10, cap=2))) == 2


def test_the_pool_grows_to_the_largest_cap_and_never_to_the_sum():
    """Caps 2 and 3 make three workers."""
    desk = Desk()
    desk.open(1, 10, cap=2)
    assert len(desk.asked) == 2
    desk.open(2, 10, cap=3)

    assert len(desk.asked) == 3


@pytest.mark.parametrize(
    ("items", "cap", "chunksize", "limit", "workers"),
    [
        (1, 8, 1, None, 1),
        (10, 8, 5, None, 2),
        (10, 8, 1, 3, 3),
        (10, 8, None, None, 8),
        (0, 8, 1, 2, 0),
    ],
)
def test_no_more_workers_are_started_than_can_be_used(items, cap, chunksize, limit, workers):
    """A process for each chunk at the most."""
    desk = Desk(limit=limit)
    desk.open(1, items, cap=cap, chunksize=chunksize)

    assert len(desk.asked) == workers


def test_appetite_is_that_of_the_workers_a_call_may_count_on():
    """And a call that is over wants nothing."""
    desk = Desk(limit=2)
    desk.open(1, 10, cap=8, chunksize=5)

    assert desk.scheduler.appetite(1) == 3 * 2 * 5
    assert desk.scheduler.appetite(99) == 0


# ---------------------------------------------------------------------- workers that do not come


def test_three_failed_starts_with_nobody_there_fail_the_calls_with_the_reason():
    """Never a hang; and the reason is that of the last failure."""
    desk = Desk()
    desk.open(1, 1)
    desk.open(2, 1)
    for _ in range(START_BUDGET - 1):
        assert desk.tell(ev.WorkerNotStarted(desk.asked.pop(), "EAGAIN")) == [
            StartWorker(desk.asked[-1])
        ]

    assert desk.tell(ev.WorkerNotStarted(desk.asked.pop(), "EAGAIN")) == [
        FailCall(1, "EAGAIN"),
        FailCall(2, "EAGAIN"),
    ]


def test_workers_that_die_before_they_are_ready_spend_the_start_budget():
    """The exit code is the hint."""
    desk = Desk()
    desk.open(1, 1)
    for _ in range(START_BUDGET):
        worker = desk.asked.pop()
        commands = desk.tell(ev.WorkerUp(worker), ev.WorkerDied(worker, 3, IDLE))

    assert commands == [FailCall(1, "died", 3)]


def test_workers_that_never_come_up_are_killed_and_spend_the_start_budget():
    """A launcher that hangs must not hang the call."""
    desk = Desk()
    desk.open(1, 1)
    for _ in range(START_BUDGET - 1):
        late = desk.asked.pop()
        assert desk.later(START_TIMEOUT) == [KillWorker(late), StartWorker(desk.asked[-1])]
        assert desk.dies(late) == []

    assert desk.later(START_TIMEOUT) == [KillWorker(desk.asked.pop()), FailCall(1, "timeout")]


def test_a_worker_that_is_up_may_take_its_time_to_get_ready():
    """Its initializer may load a model for an hour."""
    desk = Desk()
    desk.open(1, 1)
    desk.tell(ev.WorkerUp(desk.asked[0]))

    assert desk.scheduler.next_deadline() is None


def test_failed_starts_are_forgiven_while_somebody_works():
    """Those that are there do the work, and nobody tries in vain at each event."""
    desk = Desk()
    desk.open(1, 5, cap=3)
    first, *others = desk.asked
    (order,) = orders(desk.tell(ev.WorkerUp(first), ev.WorkerReady(first)))
    for worker in others:
        assert desk.tell(ev.WorkerNotStarted(worker, "EAGAIN")) == []

    assert spans(desk.done(order, seconds=DEAR)) == [(first, 1, 2)]


def test_a_worker_that_gets_ready_restores_the_start_budget():
    """Two failures, a success, two failures: no row of three."""
    desk = Desk()
    desk.open(1, 3)
    for _ in range(2):
        for _ in range(START_BUDGET - 1):
            desk.tell(ev.WorkerNotStarted(desk.asked.pop(), "EAGAIN"))
        (order,) = desk.come()
        desk.dies(order.worker, running=order.start)

    assert desk.asked


def test_a_new_call_tries_again_to_start_workers():
    """Times may be better now."""
    desk = Desk()
    desk.open(1, 1)
    for _ in range(START_BUDGET):
        desk.tell(ev.WorkerNotStarted(desk.asked.pop(), "EAGAIN"))

    assert [type(command) for command in desk.open(2, 1)] == [StartWorker]


def test_a_failed_initializer_fails_every_open_call_with_its_error():
    """Once nothing of them runs any more; the worker leaves by itself, or is killed."""
    desk = Desk()
    desk.open(1, 3, cap=2)
    good, bad = desk.asked
    (order,) = orders(desk.tell(ev.WorkerUp(good), ev.WorkerReady(good), ev.WorkerUp(bad)))

    assert desk.tell(ev.InitializerFailed(bad, "error")) == [DropChunks(good, order.chunk)]
    assert desk.tell(results(order, 0, last=True)) == [FailCall(1, "initializer", None, "error")]
    assert desk.later(KILL_AFTER) == [KillWorker(bad)]
    assert desk.dies(bad) == []


def test_the_first_reason_why_the_engine_cannot_serve_is_the_one_that_is_told():
    """A pool that is closed after its initializer failed does not hide that error."""
    desk = Desk()
    desk.open(1, 3, cap=2)
    good, bad = desk.asked
    (order,) = orders(desk.tell(ev.WorkerUp(good), ev.WorkerReady(good), ev.WorkerUp(bad)))
    desk.tell(ev.InitializerFailed(bad, "error"), ev.ShutdownRequested(cancel=True))

    commands = desk.tell(results(order, 0, last=True))
    assert commands[0] == FailCall(1, "initializer", None, "error")


# ---------------------------------------------------------------------- retiring, closing


def test_an_idle_worker_is_retired_and_must_go():
    """Asked, then told, then forced."""
    desk = Desk(idle_timeout=10.0)
    desk.open(1, 1)
    (order,) = desk.come()
    assert desk.scheduler.next_deadline() is None  # busy
    desk.done(order)

    assert desk.later(10.0) == [StopWorker(order.worker)]
    assert desk.later(KILL_AFTER) == [TerminateWorker(order.worker)]
    assert desk.later(KILL_AFTER) == [KillWorker(order.worker)]
    assert desk.dies(order.worker) == []
    assert not desk.scheduler.workers


def test_work_cancels_the_retirement():
    """The deadline is cleared when a chunk is sent, and set anew at rest."""
    desk = Desk(idle_timeout=10.0)
    desk.open(1, 1)
    (order,) = desk.come()
    desk.done(order)
    desk.now = 9.0
    (order,) = orders(desk.open(2, 1))

    assert desk.scheduler.next_deadline() is None
    desk.done(order)
    assert desk.scheduler.next_deadline() == 19.0


def test_shutdown_finishes_the_open_calls_then_stops_the_workers():
    """What was submitted is finished, as Executors do."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()

    assert desk.tell(ev.ShutdownRequested(cancel=False)) == []
    assert desk.done(order) == [
        Deliver(1, 0, 1, "payload"),
        FinishCall(1),
        StopWorker(order.worker),
    ]
    assert not desk.scheduler.over
    desk.dies(order.worker)
    assert desk.scheduler.over


def test_shutdown_ends_a_stream_once_what_was_fed_is_finished():
    """Its caller wanted more, and is told that there is no more."""
    desk = Desk()
    desk.open(1, 2, ended=False)
    (order,) = desk.come()
    desk.tell(ev.ShutdownRequested(cancel=False))
    (order,) = orders(desk.done(order, seconds=DEAR))

    assert FailCall(1, "closed") in desk.done(order)


def test_shutdown_with_cancel_gives_the_open_calls_up():
    """Each fails, once nothing of it runs any more."""
    desk = Desk()
    desk.open(1, 1)
    desk.open(2, 1)
    (order,) = desk.come()

    assert desk.tell(ev.ShutdownRequested(cancel=True)) == [
        DropChunks(order.worker, order.chunk),
        FailCall(2, "closed"),
    ]
    assert desk.later(GRACE) == [TerminateWorker(order.worker)]
    assert desk.dies(order.worker, running=0) == [FailCall(1, "closed")]
    assert desk.scheduler.over


def test_shutdown_stops_a_worker_that_is_on_its_way_up():
    """It is no failed start that it then dies."""
    desk = Desk()
    desk.open(1, 1)
    (worker,) = desk.asked

    assert desk.tell(ev.ShutdownRequested(cancel=True)) == [
        FailCall(1, "closed"),
        StopWorker(worker),
    ]
    assert desk.tell(ev.WorkerUp(worker), ev.WorkerReady(worker)) == []
    assert desk.dies(worker) == []
    assert desk.scheduler.over


def test_a_call_that_is_opened_after_the_shutdown_fails_at_once():
    """The pool is closed."""
    desk = Desk()
    desk.tell(ev.ShutdownRequested(cancel=False))

    assert desk.tell(ev.CallOpened(1, 1, None, OnFailure.STOP)) == [FailCall(1, "closed")]


# ---------------------------------------------------------------------- late, and wrong


@pytest.mark.parametrize(
    "event",
    [ev.ItemsAdded(1, 3), ev.InputEnded(1), ev.ItemCancelled(1, 0), ev.CallCancelled(1)],
)
def test_what_a_caller_says_of_a_call_that_is_not_open_is_answered_with_its_end(event):
    """It could not yet know of its end; or it was interrupted before it could open it, and waits."""
    desk = Desk()
    desk.open(1, 0)

    assert desk.tell(event) == [FinishCall(1)]
    assert desk.tell(replace(event, call=2)) == [FinishCall(2)]


def test_a_deadline_that_was_cleared_meanwhile_does_nothing():
    """The event was on its way when the worker came to rest."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()
    desk.tell(ev.CallCancelled(1))
    desk.done(order)
    desk.now = GRACE

    assert desk.tell(ev.DeadlinePassed()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ev.ResultsArrived(2, 99, 0, 1),  # another chunk
        ev.ResultsArrived(2, 3, 1, 1),  # not the next item
        ev.ResultsArrived(2, 3, 0, 3),  # more than it was given
        ev.ResultsArrived(9, 3, 0, 1),  # nobody knows this worker
        ev.WorkerUp(9),
        ev.WorkerReady(9),
        ev.InitializerFailed(9, None),
        ev.WorkerDied(9, 0, IDLE),
        ev.WorkerNotStarted(9, "refused"),
    ],
)
def test_an_impossible_event_is_an_internal_error_with_the_story(wrong):
    """It is validated before anything changes: the next right event is handled."""
    desk = Desk()
    desk.open(1, 2, chunksize=2)
    (order,) = desk.come()
    assert (order.worker, order.chunk) == (2, 3)

    with pytest.raises(InternalError) as caught:
        desk.tell(wrong)
    assert any("CallOpened" in line for line in caught.value.story)
    assert desk.done(order) == [Deliver(1, 0, 2, "payload"), FinishCall(1)]


def test_the_story_leaves_the_payloads_out():
    """They may be large, and private."""
    desk = Desk()
    desk.open(1, 1)
    (order,) = desk.come()
    desk.done(order)

    assert "payload" not in "".join(desk.scheduler.story())


def test_the_call_of_a_chunk_is_known_while_its_worker_holds_it():
    """So that what a task says can be shown where its call is."""
    desk = Desk()
    desk.open(7, 1)
    (order,) = desk.come()
    of = desk.scheduler.call_of

    assert of(order.worker, order.chunk) == 7
    assert of(order.worker, order.chunk + 1) is None
    assert of(order.worker + 1, order.chunk) is None
    desk.done(order)
    assert of(order.worker, order.chunk) is None


def test_an_initializer_that_fails_in_a_worker_that_was_told_to_go_gives_it_no_more_time():
    """The call fails with that error all the same: the next worker's would fail, too."""
    desk = Desk()
    desk.open(1, 1)
    (worker,) = desk.asked
    assert KillWorker(worker) in desk.later(START_TIMEOUT)

    told = desk.tell(ev.InitializerFailed(worker, "error"))

    assert FailCall(1, "initializer", None, "error") in told
    assert not [each for each in told if getattr(each, "worker", None) == worker]
