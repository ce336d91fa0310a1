"""How long an item has run: never given up early, and hardly late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parmap._core import events as ev
from parmap._core.calls import Call
from parmap._core.commands import Command, EndLateWorker, KillWorker, LookAt, Loss, SettleLost
from parmap._core.deadlines import BEGIN_WITHIN, LOOKS, ItemClock
from parmap._core.events import IDLE, UNKNOWN
from parmap._core.losses import DUMP_PATIENCE
from parmap._core.retry import RetryPolicy
from support.pretend_world import Fate, World
from support.scheduling import DEAR, Desk, orders, results


def marked_clock(limit: float = 8.0) -> ItemClock:
    clock = ItemClock(limit)
    clock.restart(0.0, marked=True)
    return clock


def test_a_marked_item_is_looked_at_only_when_its_time_could_be_over():
    """One look per limit: deadlines cost nothing while nothing is late."""
    clock = marked_clock()
    assert clock.look_at == 8.0

    clock.saw(3, 5.0, 8.0)  # the item that runs now began later than the clock

    assert (clock.late(8.0), clock.look_at) == (None, 13.0)
    clock.saw(3, 5.0, 13.0)
    assert clock.late(13.0) == 3


def test_a_chunk_that_has_not_been_begun_is_not_timed():
    """It waits, say for the function's imports: waiting does not count."""
    clock = marked_clock()

    for now in (8.0, 16.0, 100.0):
        clock.saw(IDLE, None, now)
        assert clock.late(now) is None
        assert not clock.is_broken(now)
    clock.saw(IDLE, None, BEGIN_WITHIN)
    assert clock.is_broken(BEGIN_WITHIN)


def test_a_question_without_an_answer_means_that_no_item_has_begun_since():
    """A tiny item stuck in C: known is that one of the chunk's is late, and not which."""
    clock = ItemClock(8.0)
    clock.restart(0.0, marked=False)
    assert clock.look_at == 8.0 / LOOKS

    clock.saw(UNKNOWN, None, 1.0)
    clock.saw(UNKNOWN, None, 8.9)
    assert (clock.late(8.9), clock.look_at) == (None, 9.0)
    clock.saw(UNKNOWN, None, 9.0)
    assert clock.late(9.0) == UNKNOWN


def test_answers_that_go_on_are_progress():
    """Tiny items that have all become dear are no late item."""
    clock = ItemClock(8.0)
    clock.restart(0.0, marked=False)
    for now in range(1, 40):
        clock.saw(now, None, float(now))
        assert clock.late(float(now)) is None


def test_an_answer_that_stays_the_same_is_a_late_item():
    """Stuck in Python: it can say where."""
    clock = ItemClock(8.0)
    clock.restart(0.0, marked=False)
    clock.saw(UNKNOWN, None, 1.0)
    late = []
    for now in range(2, 13):
        clock.saw(5, None, float(now))
        late.append(clock.late(float(now)))

    assert late == [None] * 9 + [5, 5]


@given(
    st.lists(st.floats(0.01, 3.0), min_size=1, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.booleans(),
)
def test_no_item_is_given_up_early_whatever_is_seen_when(lengths, in_python, marked):
    """Items of any length; those in Python answer at once, the others when they are done."""
    limit, now, item, began = 1.0, 0.0, 0, 0.0
    clock = ItemClock(limit)
    clock.restart(0.0, marked=marked)
    asked, answer = False, None
    while True:
        while item < len(lengths) and began + lengths[item] <= clock.look_at:
            began += lengths[item]
            item += 1
            if asked and answer is None and item < len(lengths):
                answer = item  # at the latest between two items
        now = clock.look_at
        if item == len(lengths):
            break
        if asked and in_python[item]:
            answer = item
        if marked:
            clock.saw(item, began, now)
        else:
            clock.saw(UNKNOWN if answer is None else answer, None, now)
            asked, answer = True, None if answer is not None or not asked else answer
        late = clock.late(now)
        if late is None:
            # marked: to the instant; else a look for the question, one for the answer, one more
            assert now - began < limit * (1 if marked else 1 + 3.01 / LOOKS) + 1e-6
            continue
        guilty = [
            place
            for place in range(item + 1)
            if min(lengths[place], now - sum(lengths[:place])) >= limit - 1e-6
        ]
        assert late == guilty[-1] if marked else late in (*guilty, UNKNOWN)
        assert guilty
        break


# ---------------------------------------------------------------------- what is done about it


def timed(**options) -> tuple[Desk, int]:
    """A worker that has one item of a call with a limit of 8 seconds."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, 1, ev.OnFailure.CONTINUE, 8.0, **options))
    desk.tell(ev.ItemsAdded(1, 1), ev.InputEnded(1))
    (order,) = desk.come()
    return desk, order.worker


def test_a_late_item_costs_its_worker_and_is_told_as_late():
    """Look, end, and tell once the worker is dead."""
    desk, worker = timed()

    assert desk.later(8.0) == [LookAt(worker)]
    assert desk.tell(ev.Looked(worker, 0, 0.0))[0] == EndLateWorker(worker)
    assert SettleLost(1, 0, "who", -9, 1, Loss.LATE) in desk.dies(worker, 0)


def test_a_late_worker_that_does_not_go_is_killed_with_its_family():
    """It may block every signal but one."""
    desk, worker = timed()
    desk.later(8.0)
    desk.tell(ev.Looked(worker, 0, 0.0))

    assert desk.later(DUMP_PATIENCE) == [KillWorker(worker, family=True)]


def test_a_result_that_comes_after_its_deadline_and_before_the_death_counts():
    """Last words are heard, and what the worker was at then is nobody's fault."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, 2, ev.OnFailure.CONTINUE, 8.0), ev.ItemsAdded(1, 2))
    (order,) = desk.come()
    desk.later(8.0)
    desk.tell(ev.Looked(order.worker, 0, 0.0))
    desk.tell(results(order, 1))

    commands = desk.dies(order.worker, running=1)

    assert not [command for command in commands if isinstance(command, SettleLost)]
    assert [(o.start, o.stop, o.attempt) for o in desk.come()] == [(1, 2, 1)]


def test_a_late_item_is_retried_only_where_lateness_is_a_reason():
    """`on` is exactly what is retried."""
    for lost, late, again in ((True, False, 0), (False, True, 1)):
        desk, worker = timed(retry=RetryPolicy(attempts=2, lost=lost, late=late))
        desk.later(8.0)
        desk.tell(ev.Looked(worker, 0, 0.0))
        commands = desk.dies(worker, 0)
        assert len([c for c in commands if isinstance(c, SettleLost)]) == 1 - again
        desk.later(0.0)
        assert [order.attempt for order in desk.come()] == [2] * again


def test_a_worker_that_never_begins_is_killed_and_its_item_goes_elsewhere():
    """Somebody has stopped it, or its imports hang: no item is to blame."""
    desk, worker = timed()
    commands: list[Command] = []
    while not commands:
        desk.later(desk.scheduler.next_deadline() - desk.now)
        commands = desk.tell(ev.Looked(worker, IDLE))

    assert desk.now >= BEGIN_WITHIN
    assert commands[0] == KillWorker(worker, family=True)
    assert not [c for c in desk.dies(worker) if isinstance(c, SettleLost)]
    assert [order.start for order in desk.come()] == [0]


def test_a_look_at_a_worker_that_is_at_its_second_chunk_ends_nobody():
    """The report on the first has come and was not heard: the parent itself was stopped."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, 1, ev.OnFailure.CONTINUE, 8.0), ev.ItemsAdded(1, 4))
    (first,) = desk.come()
    desk.done(first, seconds=1e-6)
    desk.later(20.0)

    assert desk.tell(ev.Looked(first.worker, 2, 1.0)) == []


@pytest.mark.parametrize(("limit", "size"), [(None, 3000), (60.0, 3000), (0.008, 1000)])
def test_chunks_are_no_longer_than_a_look(limit, size):
    """So that tiny items of a call with a short limit are seldom asked about."""
    sizer = Call(1, 1, None, ev.OnFailure.CONTINUE, limit).sizer
    for items in (1, 8, 64, 512, 2000):
        sizer.measured(items, items * 1e-6, 0)

    assert sizer.size(10**6, more_to_come=True, workers=1) == size


# ---------------------------------------------------------------------- among many tiny items


@pytest.mark.parametrize("fate", [Fate.SLOW, Fate.STUBBORN])
def test_a_tiny_item_that_never_ends_is_found_among_its_neighbours(fate):
    """In Python it can say where it is stuck; in C its chunk is run again one by one."""
    world = World(limit=1)
    fates = tuple(fate if index == 50 else Fate.FINE for index in range(60))
    call = world.open_call(cap=1, chunksize=20, fates=fates, task_timeout=1.0)
    world.feed(call, 60)

    world.run_to_the_end()

    assert world.ended[call] == "finished"


def test_dear_neighbours_of_which_none_is_late_are_left_in_peace():
    """Tiny items that become dear: each is within its limit, their chunk is not."""
    world = World(limit=1)
    call = world.open_call(
        cap=1, chunksize=40, fates=(Fate.FINE,) * 40 + (Fate.SLOW,) * 40, task_timeout=1.0
    )
    world.feed(call, 80)
    while world.hum():
        pass
    (process,) = world.processes.values()
    for _ in range(40):
        assert process.alive
        for _ in range(9):
            world.wait(0.1)
            world.reply(process)
        world.come_to_an_end(process)
        world.hum()
        world.hum()
    world.run_to_the_end()

    assert world.newest == process.number


def test_dear_items_that_go_one_by_one_need_no_questions():
    """They are marked."""
    desk = Desk()
    desk.tell(ev.CallOpened(1, 1, 1, ev.OnFailure.CONTINUE, 8.0), ev.ItemsAdded(1, 3))
    (order,) = desk.come()
    (again,) = orders(desk.done(order, seconds=DEAR))

    assert again.marked


def test_an_item_that_began_later_than_its_chunk_could_is_given_the_rest_of_its_time():
    """A look shows when; the next one is due exactly when its time is over."""
    desk, worker = timed()
    desk.later(8.0)

    assert desk.tell(ev.Looked(worker, 0, 5.0)) == []
    assert desk.later(4.9) == []
    assert desk.later(0.1) == [LookAt(worker)]


def test_a_look_at_a_worker_that_had_to_leave_meanwhile_says_nothing():
    """Dead or on its way: its item is no longer wanted."""
    desk, worker = timed()
    assert desk.later(8.0) == [LookAt(worker)]
    desk.tell(ev.CallCancelled(1, hurry=True))
    assert desk.tell(ev.Looked(worker, 0, 0.0)) == []

    desk.dies(worker)
    assert desk.tell(ev.Looked(worker, 0, 0.0)) == []
