"""Whom a dead worker accuses: a table of what its control page may say."""

from __future__ import annotations

from collections import deque

import pytest

from parmap._core.blame import FREE_DEATHS, guilty_item
from parmap._core.calls import Call
from parmap._core.events import IDLE, UNKNOWN, OnFailure
from parmap._core.workers import Chunk, Worker


def worker(stop: int = 14, *, reported: int = 0) -> Worker:
    chunk = Chunk(2, 1, 10, stop, marked=True, solo=False, reported=reported)
    return Worker(5, tuple, chunks=deque([chunk]))


def call(*, cap: int = 1) -> Call:
    return Call(1, cap, None, OnFailure.CONTINUE)


@pytest.mark.parametrize(
    ("running", "reported", "guilty"),
    [
        (10, 0, 10),
        (12, 0, 12),
        (13, 0, 13),
        (12, 2, 12),
        (11, 2, None),  # it has its outcome
        (14, 0, None),  # the next chunk's, which cannot have been begun
        (9, 0, None),
        (IDLE, 0, None),
        (UNKNOWN, 0, None),  # four suspects
        (UNKNOWN, 2, None),  # two suspects
        (UNKNOWN, 3, 13),  # one
        (UNKNOWN, 4, None),  # none: every outcome is there
        (13, 4, None),
    ],
)
def test_the_control_page_says_who(running, reported, guilty):
    """Items 10 to 13, of which so many are reported."""
    assert guilty_item(call(), worker(reported=reported), running) == guilty


@pytest.mark.parametrize(("cap", "free"), [(1, FREE_DEATHS), (2, FREE_DEATHS), (8, 16)])
def test_deaths_on_arrival_are_free_up_to_a_bound(cap, free):
    """Twice as many as the call may have workers, but a few in any case."""
    book = call(cap=cap)
    verdicts = [guilty_item(book, worker(), IDLE) for _ in range(free + 1)]

    assert verdicts == [None] * free + [10]


def test_a_worker_from_before_the_call_is_no_evidence():
    """It may be stale; there are only so many of them."""
    book = call()
    book.opened = 6

    assert [guilty_item(book, worker(), IDLE) for _ in range(50)] == [None] * 50
    assert book.free_deaths == 0
