"""The books of one call: what waits, in which order, and when it is over."""

from __future__ import annotations

import pytest

from parmap._core.calls import Call, Piece
from parmap._core.events import OnFailure


def call(items: int = 0, *, chunksize: int | None = 3) -> Call:
    book = Call(1, 4, chunksize, OnFailure.CONTINUE)
    book.add(items)
    return book


def waiting(book: Call) -> list[tuple[int, int]]:
    assert book.waiting == sum(piece.stop - piece.start for piece in book.pieces)
    return [(piece.start, piece.stop) for piece in book.pieces]


def test_items_that_are_added_bit_by_bit_make_one_piece():
    """A lazy input must not make short chunks."""
    book = call(2)
    book.add(3)
    book.add(0)

    assert waiting(book) == [(0, 5)]


def test_no_items_make_no_piece():
    """An empty piece would wait for ever."""
    book = call(0)
    book.input_ended = True

    assert book.finished


def test_skipped_items_take_their_indexes_and_never_wait():
    """A checkpoint has them; nothing else of the call may notice."""
    book = call(2)
    book.add(2, skipped=3)
    book.add(1)

    assert waiting(book) == [(0, 2), (5, 8)]
    assert book.fed == 8


def test_items_behind_the_end_are_not_wanted_however_many_before_them_are_skipped():
    """A call that has stopped takes nothing in."""
    book = call(1)
    book.stop(0)
    book.add(2, skipped=3)

    assert (waiting(book), book.fed) == ([], 6)


def test_a_chunk_is_cut_from_the_front():
    """And what is left stays there."""
    book = call(5)

    assert book.take(1) == Piece(0, 3)
    assert waiting(book) == [(3, 5)]


def test_a_solo_piece_is_taken_item_by_item():
    """Also where the size is fixed."""
    book = call(0)
    book.requeue([Piece(0, 3, solo=True)])

    assert book.take(1) == Piece(0, 1, solo=True)
    assert list(book.pieces) == [Piece(1, 3, solo=True)]


def test_items_that_are_added_behind_suspects_are_no_suspects():
    """They wait apart."""
    book = call(3)
    suspects = [Piece(piece.start, piece.stop, solo=True) for piece in (book.take(1),)]
    book.requeue(suspects)
    book.add(2)

    assert list(book.pieces) == [Piece(0, 3, solo=True), Piece(3, 5)]


def test_what_is_requeued_stands_in_front_lowest_first():
    """Whatever the order in which it is told."""
    book = call(10)
    first, second = book.take(1), book.take(1)
    book.requeue([second, first])

    assert waiting(book) == [(0, 3), (3, 6), (6, 10)]


@pytest.mark.parametrize(
    ("stop", "left"), [(0, []), (2, [(0, 2)]), (4, [(0, 3), (3, 4)]), (9, [(0, 3), (3, 9)])]
)
def test_stop_keeps_what_comes_before_and_cuts_the_piece_in_between(stop, left):
    """A piece that straddles the end keeps its front."""
    book = call(10)
    book.requeue([book.take(1)])
    book.stop(stop)

    assert waiting(book) == left
    assert [book.wants(stop - 1), book.wants(stop)] == [True, False]


def test_the_end_never_moves_back_up():
    """Of several failures the lowest index counts."""
    book = call(10)
    book.stop(3)
    book.stop(5)

    assert book.stop_at == 3


def test_after_a_stop_nothing_is_taken_in_any_more():
    """Neither new items nor what comes back from behind the end."""
    book = call(6)
    piece = book.take(1)
    book.stop(2)
    book.add(5)
    book.requeue([piece])

    assert waiting(book) == [(0, 2)]
    assert book.fed == 11


@pytest.mark.parametrize(
    ("index", "left"),
    [
        (0, [(1, 3), (3, 7)]),
        (1, [(0, 1), (2, 3), (3, 7)]),
        (2, [(0, 2), (3, 7)]),
        (5, [(0, 3), (3, 5), (6, 7)]),
        (7, [(0, 3), (3, 7)]),
    ],
)
def test_withdrawing_an_item_leaves_all_others_in_their_order(index, left):
    """At the start, in the middle, at the end of a piece, or nowhere."""
    book = call(7)
    book.requeue([book.take(1)])
    book.withdraw(index)

    assert waiting(book) == left


@pytest.mark.parametrize(
    ("items", "chunksize", "serving", "demand"),
    [(0, 1, 0, 0), (0, 1, 3, 3), (2, 1, 1, 3), (9, 1, 0, 4), (9, 5, 0, 2), (3, None, 0, 3)],
)
def test_demand_is_those_who_serve_and_one_for_each_chunk_up_to_the_cap(
    items, chunksize, serving, demand
):
    """The cap is 4."""
    assert call(items, chunksize=chunksize).demand(serving) == demand


def test_a_call_is_over_when_nothing_waits_nothing_runs_and_nothing_can_come():
    """All three."""
    book = call(1)
    assert not book.finished
    book.input_ended = True
    assert not book.finished
    book.take(1)
    book.workers.add(7)
    assert not book.finished
    book.workers.clear()
    assert book.finished


def test_a_call_that_was_stopped_is_over_although_its_input_is_open():
    """Nobody wants what might still come."""
    book = call(4)
    book.stop(0)

    assert book.finished
