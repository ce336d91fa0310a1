"""The state table of an end: what is legal, and that all else is loud."""

from __future__ import annotations

import pytest

from parmap._channel import ends
from parmap.errors import InternalError


def test_a_closed_or_dead_end_never_lives_again():
    reachable = {after for (state, _), after in ends.MOVES.items() if state == ends.CLOSED}

    assert not reachable & ends.ALIVE
    assert not [move for state, move in ends.MOVES if state == ends.DEAD]


def test_closing_twice_is_legal():
    assert ends.after(ends.after(ends.OPEN, ends.CLOSE), ends.CLOSE) == ends.CLOSED


def test_an_end_left_to_the_parent_opens_again_when_it_is_used():
    assert ends.after(ends.after(ends.OPEN, ends.FORK), ends.JOIN) == ends.OPEN


def test_an_illegal_move_is_our_bug_and_says_so():
    with pytest.raises(InternalError, match="closed cannot join"):
        ends.after(ends.CLOSED, ends.JOIN)
