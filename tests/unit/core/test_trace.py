"""Events as plain data and back; and a core whose books are checked after each event."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, get_args

import pytest

from parmap._core import events as ev
from parmap._core.events import OnFailure
from parmap._core.retry import RetryPolicy
from parmap._core.states import WorkerState
from parmap._core.trace import WatchedScheduler, check, from_plain, to_plain
from parmap.errors import InternalError
from support.scheduling import Desk

if TYPE_CHECKING:
    from parmap._core.workers import Worker

OPENED = ev.CallOpened(1, 2, None, OnFailure.STOP, 3.0, RetryPolicy(attempts=3, first_delay=1.0))
EVENTS = [
    OPENED,
    ev.ItemsAdded(1, 5),
    ev.ResultsArrived(1, 2, 0, 3, (1,), last=True, elapsed=0.5),
    ev.ChunkCut(1, 2, 3),
    ev.WorkerDied(1, -9, 0, None),
    ev.Looked(1, ev.UNKNOWN),
    ev.DeadlinePassed(),
    ev.ShutdownRequested(True),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_json_as_it_was(event):
    assert from_plain(json.loads(json.dumps(to_plain(event)))) == event


def test_what_is_opaque_to_the_core_is_not_written():
    """It may be anything, and the decisions do not depend on it."""
    event = ev.ResultsArrived(1, 2, 0, 1, payload=object())

    back = from_plain(json.loads(json.dumps(to_plain(event))))
    assert back == replace(event, payload=None)


def test_every_kind_of_event_that_a_core_is_told_can_be_written():
    """But for calls within: `SentAhead` holds an event itself."""
    kinds = set(get_args(ev.Event))
    assert all(each.name.isidentifier() for kind in kinds for each in fields(kind))
    assert {type(event) for event in EVENTS} <= kinds


class Watched(Desk):
    """A desk whose core is checked, and with everything that it was told."""

    def __init__(self, *, checked: bool = True) -> None:
        super().__init__()
        self.told: list[tuple[float, ev.Event]] = []
        self.scheduler = WatchedScheduler(
            checked=checked, tell=lambda now, event: self.told.append((now, event))
        )


def test_a_watched_core_decides_as_any_other_and_tells_each_event_first():
    desk, plain = Watched(), Desk()
    assert desk.open(1, 2) == plain.open(1, 2)
    (order,) = desk.come()
    assert plain.come() == [order]
    assert desk.done(order) == plain.done(order)
    assert [type(event) for _, event in desk.told[:3]] == [
        ev.CallOpened, ev.ItemsAdded, ev.InputEnded,
    ]  # fmt: skip


def test_an_unwatched_core_tells_nobody_and_finds_nothing():
    core = WatchedScheduler(checked=False)
    core.handle(OPENED, now=0.0)
    core.calls[1].waiting = 5
    core.handle(ev.DeadlinePassed(), now=1.0)

    with pytest.raises(InternalError, match="0 items wait, not 5"):
        check(core)


def busy() -> tuple[Desk, Worker]:
    desk = Watched()
    desk.open(1, 3)
    (order,) = desk.come()
    return desk, desk.scheduler.workers[order.worker]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda core, worker: setattr(worker, "state", WorkerState.DEAD), "is dead, and in"),
        (lambda core, worker: setattr(worker, "chunks", type(worker.chunks)()), "with nothing"),
        (lambda core, worker: setattr(worker, "state", WorkerState.IDLE), "not busy, and has work"),
        (lambda core, worker: worker.chunks.extend([worker.chunks[0]] * 2), "has too much"),
        (lambda core, worker: core.calls.clear(), "serves a call that is over"),
        (lambda core, worker: core.calls[1].workers.clear(), "serve it"),
        (lambda core, worker: setattr(core.calls[1], "fed", 1), "items wait that nobody fed"),
        (lambda core, worker: core.calls[1].resting.update({0: 5.0}), "a rest is forgotten"),
    ],
)
def test_books_that_do_not_agree_are_found_at_the_next_event(what, said):
    """With the story that led there."""
    desk, worker = busy()
    check(desk.scheduler)
    what(desk.scheduler, worker)

    with pytest.raises(InternalError, match=f"the books are wrong: .*{said}") as info:
        check(desk.scheduler)
    assert "WorkerReady" in str(info.value.story)


def test_a_worker_on_its_way_out_may_still_have_work():
    desk, _ = busy()
    desk.tell(ev.CallCancelled(1, hurry=True))
    check(desk.scheduler)
