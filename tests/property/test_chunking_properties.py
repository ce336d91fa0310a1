"""Chunk sizes for any costs, any input, any number of workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parmap._core.calls import Call
from parmap._core.chunking import (
    CHEAPEST_SECONDS,
    FEW,
    GROWTH,
    LEAST_SECONDS,
    LONG_SECONDS,
    MANY,
    MAX_BYTES,
    MAX_BYTES_OF_FEW,
    TARGET_SECONDS,
    UNHURRIED_SECONDS,
    ChunkSizer,
)
from parmap._core.events import OnFailure

REPORTS = st.lists(
    st.tuples(
        st.integers(0, 10_000),  # items
        st.floats(0, 1e4, allow_nan=False),  # seconds
        st.integers(0, 1 << 40),  # bytes
    ),
    max_size=10,
)
WAITING = st.integers(1, 10**7)
WORKERS = st.integers(1, 1000)


def measured(reports: list[tuple[int, float, int]], fixed: int | None = None) -> ChunkSizer:
    sizer = ChunkSizer(fixed)
    for items, seconds, nbytes in reports:
        sizer.measured(items, seconds, nbytes)
    return sizer


@given(REPORTS, WAITING, st.booleans(), WORKERS)
def test_a_chunk_has_at_least_one_item_and_no_more_than_wait(reports, waiting, more, workers):
    """So every call gets on, and nothing is sent that is not there."""
    size = measured(reports).size(waiting, more_to_come=more, workers=workers)

    assert 1 <= size <= waiting


@given(REPORTS, WAITING, st.booleans(), WORKERS)
def test_growth_is_bounded_by_what_has_been_proven(reports, waiting, more, workers):
    """A cost that jumps is met by a chunk that is wrong by one factor at the most, or that was worth
    no more than a message."""
    proven = max((items for items, _, _ in reports), default=0)
    sizer = measured(reports)
    size = sizer.size(waiting, more_to_come=more, workers=workers)

    cost = 1.0 if sizer.cost is None else max(sizer.cost.seconds, CHEAPEST_SECONDS)
    assert size <= max(1, GROWTH * proven, LEAST_SECONDS / cost)


@given(REPORTS, WAITING, WORKERS)
def test_the_last_chunks_get_smaller_so_that_all_workers_end_together(reports, waiting, workers):
    """Nobody takes more than half of its fair share of the rest, or than a message is worth."""
    sizer = measured(reports)
    size = sizer.size(waiting, more_to_come=False, workers=workers)

    worth = sizer.cost is not None and size * sizer.cost.seconds <= LEAST_SECONDS * 1.000001
    assert worth or size <= -(-waiting // (2 * workers))


@given(
    st.integers(1, 1000),
    st.floats(1e-9, 10),
    st.integers(0, 1 << 24),
    st.integers(1, 20),
    WAITING,
    st.booleans(),
)
def test_a_chunk_of_like_items_keeps_to_its_seconds_and_bytes(
    items, cost, nbytes, times, waiting, more
):
    """Except that one item always travels, and that a few may be large."""
    sizer = measured([(items, items * cost, items * nbytes)] * times)
    size = sizer.size(waiting, more_to_come=more, workers=4)

    longest = max(TARGET_SECONDS, min(LONG_SECONDS if more else UNHURRIED_SECONDS, MANY * cost))
    assert size == 1 or size * cost <= longest * 1.000001
    most = MAX_BYTES_OF_FEW if size <= FEW else MAX_BYTES
    assert size == 1 or size * nbytes <= most


@given(st.integers(1, 10_000), REPORTS, WAITING, st.booleans(), WORKERS)
def test_a_fixed_size_is_exact(fixed, reports, waiting, more, workers):
    """Only the rest is smaller."""
    size = measured(reports, fixed).size(waiting, more_to_come=more, workers=workers)

    assert size == min(fixed, waiting)


@given(
    st.lists(st.integers(0, 200), max_size=8),
    st.one_of(st.none(), st.integers(1, 50)),
    st.lists(st.sampled_from([1e-7, 1e-5, 1e-3, 1.0]), min_size=1, max_size=20),
    st.integers(1, 8),
)
def test_the_chunks_together_are_the_input(batches, fixed, costs, workers):
    """In order, nothing twice, nothing left, however the input came and whatever it cost."""
    call = Call(1, workers, fixed, OnFailure.CONTINUE)
    for count in batches:
        call.add(count)
    call.input_ended = True
    items: list[int] = []
    turn = 0
    while call.pieces:
        piece = call.take(workers)
        count = piece.stop - piece.start
        assert fixed is None or count == fixed or not call.pieces
        items += range(piece.start, piece.stop)
        call.sizer.measured(count, count * costs[turn % len(costs)], count)
        turn += 1

    assert items == list(range(sum(batches)))
    assert call.waiting == 0
