"""A chunk that takes far longer than it was meant to is cut short, once, and others run its rest."""

from __future__ import annotations

import pytest

from parmap._core import events as ev
from parmap._core.chunking import OVERRUN, TARGET_SECONDS
from parmap._core.commands import Assign, CutChunks, FinishCall
from parmap._core.events import OnFailure
from parmap._core.scheduler import Scheduler
from parmap.errors import InternalError
from support.scheduling import CHEAP, DEAR, Desk, orders, results

LATE = OVERRUN * TARGET_SECONDS
SHORT = TARGET_SECONDS / 16  # eight of them are a chunk


def busy_with(items: int, *, cap: int = 1, chunksize: int | None = None) -> tuple[Desk, Assign]:
    """A worker that has just been sent a chunk of that many items, which are meant to be cheap."""
    desk = Desk()
    desk.open(1, 1, chunksize=chunksize, ended=False, cap=cap)
    (first,) = desk.come()
    desk.tell(results(first, 1, last=True, seconds=SHORT))
    commands = desk.tell(ev.ItemsAdded(1, items), ev.InputEnded(1))
    return desk, orders(commands)[0]


def cuts(commands) -> list[CutChunks]:
    return [command for command in commands if isinstance(command, CutChunks)]


def test_it_is_cut_when_it_is_overdue_and_not_before():
    desk, order = busy_with(8)

    assert desk.later(LATE * 0.9) == []
    assert desk.later(LATE * 0.2) == [CutChunks(order.worker, order.chunk)]
    assert cuts(desk.later(10 * LATE)) == []


def test_what_it_gives_back_is_run_by_another_worker_at_once():
    """While the item at which it was cut still runs."""
    desk, order = busy_with(8, cap=2)
    desk.later(LATE)
    desk.tell(ev.ChunkCut(order.worker, order.chunk, order.start + 3))

    assert desk.come()[0].start == order.start + 3


def test_the_cut_chunk_ends_with_the_item_that_was_being_run():
    desk, order = busy_with(8)
    desk.later(LATE)
    desk.tell(ev.ChunkCut(order.worker, order.chunk, order.start + 1))
    (again,) = orders(desk.tell(results(order, 1, last=True, seconds=1.0)))
    assert again.start == order.start + 1

    with pytest.raises(InternalError):
        desk.tell(results(again, 100))


def test_a_chunk_of_one_item_is_left_alone():
    desk, _ = busy_with(1)
    assert desk.later(100 * LATE) == []


def test_a_size_that_the_caller_has_fixed_is_kept_whole():
    desk, _ = busy_with(4, chunksize=4)
    assert desk.later(100 * LATE) == []


def test_an_item_that_goes_alone_by_the_callers_wish_gives_back_the_one_behind_it():
    """Nobody's size is changed by that, and whoever is free runs it."""
    desk, order = busy_with(3, chunksize=1)

    (cut,) = cuts(desk.later(LATE))
    assert cut.chunk > order.chunk
    desk.tell(ev.ChunkCut(order.worker, order.chunk, order.stop))
    assert desk.scheduler.calls[1].waiting == 2


def test_a_second_chunk_is_watched_from_when_it_becomes_the_first():
    """Not from when it was sent, nor from when the one before it was."""
    desk, first = busy_with(16)  # two chunks are there
    desk.later(LATE * 0.6)
    desk.done(first, seconds=8 * SHORT)

    assert cuts(desk.later(LATE * 0.6)) == []
    assert len(cuts(desk.later(LATE * 0.6))) == 1


def test_a_worker_that_is_being_cut_is_sent_nothing():
    """What it gives back is not known yet, and would go with it."""
    desk = Desk()
    desk.open(1, 1, chunksize=None, ended=False)
    (first,) = desk.come()
    desk.tell(results(first, 1, last=True, seconds=SHORT))
    desk.tell(ev.ItemsAdded(1, 8))
    assert len(cuts(desk.later(LATE))) == 1

    assert orders(desk.tell(ev.ItemsAdded(1, 8))) == []


def test_a_worker_that_was_told_to_go_is_not_cut_as_well():
    desk, _ = busy_with(8)
    desk.tell(ev.CallCancelled(1, hurry=True))
    assert cuts(desk.later(LATE)) == []


def test_an_answer_about_a_chunk_that_is_not_the_first_is_our_own_bug():
    """The worker answers while it runs the chunk, and closes it afterwards."""
    desk, order = busy_with(8)
    with pytest.raises(InternalError):
        desk.tell(ev.ChunkCut(order.worker, order.chunk + 1, order.start))


def test_a_call_that_is_sent_ahead_is_an_ordinary_call_from_then_on():
    """It had gone to the worker before the core was told."""
    desk = Desk()
    desk.open(1, 1)
    (first,) = desk.come()
    desk.done(first)
    choice = desk.scheduler.send_ahead("f", 1, now=desk.now)
    assert choice is not None
    opened = ev.CallOpened(2, 1, None, OnFailure.STOP, items=1, name="f")
    assert desk.tell(ev.SentAhead(opened, *choice)) == []
    report = ev.ResultsArrived(choice[0], choice[1], 0, 1, last=True)

    assert desk.tell(report)[-1] == FinishCall(2)


def test_nothing_is_sent_ahead_of_an_open_call():
    """Although there is a worker for it: the books are needed then."""
    desk = Desk()
    desk.open(1, 2, cap=2)
    for order in desk.come():
        desk.done(order)
    assert desk.scheduler.send_ahead("f", 1, now=0.0) is not None
    desk.open(2, 1)

    assert desk.scheduler.send_ahead("f", 1, now=0.0) is None


def test_nothing_is_sent_ahead_of_unknown_cost_or_without_a_worker():
    desk = Desk()
    assert desk.scheduler.send_ahead("f", 1, now=0.0) is None
    desk.open(1, 1)
    (order,) = desk.come()
    assert desk.scheduler.send_ahead("f", 1, now=0.0) is None
    desk.done(order)
    assert desk.scheduler.send_ahead("f", 2, now=0.0) is None
    assert desk.scheduler.send_ahead("f", 1, now=0.0) is not None


def test_many_items_are_sent_ahead_if_they_are_known_to_be_cheap():
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, None, OnFailure.STOP, items=1, name="f"))
    (order,) = desk.come()
    desk.done(order, seconds=CHEAP)

    assert desk.scheduler.send_ahead("f", 50, now=0.0) is not None
    assert desk.scheduler.send_ahead("f", 500, now=0.0) is None


def test_the_rest_of_a_worker_begins_anew_when_something_is_sent_ahead():
    """Or it would be retired in the middle of many short maps."""
    desk = Desk(idle_timeout=10.0)
    desk.open(1, 1)
    (order,) = desk.come()
    desk.done(order)
    desk.now = 9.0
    assert desk.scheduler.send_ahead("f", 1, now=desk.now) is not None

    assert desk.later(9.0) == []


def test_what_is_behind_a_large_item_is_not_taken_back_while_it_may_be_on_its_way():
    """It would have to be sent again; where that takes long, for ever."""
    desk = Desk()
    desk.open(1, 1, chunksize=None, ended=False)
    (first,) = desk.come()
    desk.tell(
        ev.ResultsArrived(
            first.worker, first.chunk, 0, 1, last=True, elapsed=CHEAP, nbytes=8_000_000
        )
    )
    assert len(orders(desk.tell(ev.ItemsAdded(1, 2)))) == 2

    assert cuts(desk.later(10 * LATE)) == []
    assert len(cuts(desk.later(100 * LATE))) == 1


def test_the_chunk_behind_the_one_that_is_cut_comes_back_whole():
    """It was there before the cut; both rests wait again, and the worker closes both as they are."""
    desk, first = busy_with(64)
    _, behind = desk.scheduler.workers[first.worker].chunks
    assert behind.start == first.stop < behind.stop
    items_behind = behind.stop - behind.start
    waited = desk.scheduler.calls[1].waiting
    while not cuts(desk.later(LATE)):
        assert desk.now < 100 * LATE

    desk.tell(ev.ChunkCut(first.worker, first.chunk, first.start + 1))

    given_back = first.stop - first.start - 1 + items_behind
    assert desk.scheduler.calls[1].waiting == waited + given_back
    both = [
        results(first, 1, last=True, seconds=DEAR),
        ev.ResultsArrived(first.worker, behind.id, behind.start, 0, last=True),
    ]
    again = orders(desk.tell(*both))[0]
    assert again.start == first.start + 1


def test_what_is_given_back_does_not_count_against_the_tasks_that_a_worker_may_run():
    desk = Desk()
    desk.scheduler = Scheduler(max_tasks=8)
    desk.open(1, 8, chunksize=8)
    (order,) = desk.come()
    worker = desk.scheduler.workers[order.worker]
    assert worker.tasks_left == 0

    desk.tell(ev.ChunkCut(order.worker, order.chunk, 3))

    assert worker.tasks_left == 5


def test_several_items_are_sent_ahead_only_if_they_are_known_to_be_short():
    """They would all be one worker's, and nobody could take them from it."""
    for seconds, goes in [(CHEAP, True), (1.0, False)]:
        desk = Desk()
        desk.tell(
            ev.CallOpened(1, 1, None, OnFailure.STOP, name="f"),
            ev.ItemsAdded(1, 1), ev.InputEnded(1),
        )  # fmt: skip
        assert desk.scheduler.send_ahead("f", 5, now=0.0) is None
        (order,) = desk.come()
        desk.done(order, seconds=seconds)

        assert desk.scheduler.send_ahead("another", 5, now=0.0) is None
        assert (desk.scheduler.send_ahead("f", 5, now=0.0) is not None) is goes


def test_items_that_went_ahead_and_came_back_are_counted():
    desk = Desk()
    before = desk.scheduler.tally.items

    desk.scheduler.came_ahead(3)

    assert desk.scheduler.tally.items == before + 3
