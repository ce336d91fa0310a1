"""The page that a parent and one worker share: who writes which word, and what an answer answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from parmap._wire.control import CONTROL_BYTES, NOTHING, SOMETHING, Control


@pytest.fixture
def sides():
    """The parent's and the worker's view of one page."""
    page: Any = SimpleNamespace(buf=bytearray(CONTROL_BYTES))
    return Control(page), Control(page)


def test_each_side_reads_what_the_other_has_written(sides):
    parent, worker = sides
    assert (parent.running, parent.began, worker.drop) == (NOTHING, 0, 0)
    worker.running, worker.began = SOMETHING, 123
    parent.drop = 7

    assert (parent.running, parent.began, worker.drop) == (SOMETHING, 123, 7)


def test_an_answer_counts_for_the_last_question_only(sides):
    """An old one would tell of an item that is over by now."""
    parent, worker = sides
    assert parent.answered is None
    parent.ask()
    assert parent.answered is None
    worker.answer(0)
    assert parent.answered == 0
    parent.ask()
    assert parent.answered is None
    worker.answer(5)
    assert parent.answered == 5


def test_a_page_that_was_let_go_of_can_be_unmapped(sides):
    parent, _ = sides
    parent.release()
    with pytest.raises(ValueError, match="released"):
        parent.drop = 1
