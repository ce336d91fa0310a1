"""How many items travel together, in numbers."""

from __future__ import annotations

import math

import pytest

from parmap._core.chunking import (
    CHEAPEST_SECONDS,
    COARSE_SECONDS,
    FEW,
    GROWTH,
    LEAST_SECONDS,
    LONG_SECONDS,
    MARK_SECONDS,
    MAX_BYTES,
    MAX_BYTES_OF_FEW,
    MOST_KNOWN,
    OVERRUN,
    PREFETCH_SECONDS,
    TARGET_SECONDS,
    UNHURRIED_SECONDS,
    ChunkSizer,
    Cost,
    Costs,
)


def sizer(*reports: tuple[int, float, int], fixed: int | None = None) -> ChunkSizer:
    made = ChunkSizer(fixed)
    for items, seconds, nbytes in reports:
        made.measured(items, seconds, nbytes)
    return made


@pytest.mark.parametrize(
    ("reports", "waiting", "more", "workers", "size"),
    [
        ([], 1000, True, 4, 1),  # nothing is bet before the cost is known
        ([(1, 1e-4, 0)], 1000, True, 4, GROWTH),
        ([(1, 2e-5, 0), (8, 16e-5, 0)], 1000, True, 4, 8 * GROWTH),
        ([(1, 1e-6, 0)], 1000, True, 4, 300),  # what is worth a message is no bet
        ([(100, 100e-6, 0)], 10**6, True, 4, 800),
        ([(1000, 1000e-6, 0)], 10**6, True, 4, 3000),  # 3 ms of work
        ([(1, 0.01, 0)], 1000, True, 4, 1),
        ([(100, 1e-4, 100 * MAX_BYTES)], 1000, True, 4, FEW),  # large, but few
        ([(100, 1e-4, 100 * MAX_BYTES_OF_FEW // 3)], 1000, True, 4, 3),
        ([(100, 1e-4, 100 * MAX_BYTES_OF_FEW + 1)], 1000, True, 4, 1),
        ([(100, 1e-4, 100 * MAX_BYTES // 50)], 1000, True, 4, 50),
        ([(100, 1e-1, 0)], 16, False, 4, 2),  # guided
        ([(100, 1e-1, 0)], 7, False, 4, 1),
        ([(100, 1e-4, 0)], 16, False, 4, 16),  # but no less than a message is worth
        ([(1000, 1e-3, 0)], 2000, False, 4, 300),
        ([(100, 1e-4, 0)], 5, True, 4, 5),
        ([(100, 0.0, 0)], 10**6, True, 4, int(LEAST_SECONDS / CHEAPEST_SECONDS)),  # it stood still
    ],
)
def test_the_size_of_a_chunk(reports, waiting, more, workers, size):
    """From what has been measured, what waits, and who shares it."""
    assert sizer(*reports).size(waiting, more_to_come=more, workers=workers) == size


def test_a_chunk_for_an_engine_whose_messages_are_dear_is_longer():
    """But never longer than is allowed."""
    report = (100, 100e-3, 0)  # 1 ms each
    for longest, size in [(math.inf, 800), (0.1, 100)]:
        made = ChunkSizer(None, longest, target=8.0)
        made.measured(*report)
        assert made.size(10**6, more_to_come=True, workers=1000) == size


@pytest.mark.parametrize(("fixed", "waiting", "size"), [(5, 100, 5), (5, 3, 3), (1, 9, 1)])
def test_a_fixed_size_is_kept_to_the_letter(fixed, waiting, size):
    """Whatever the items cost."""
    made = sizer((10, 10.0, 10**9), fixed=fixed)

    assert made.size(waiting, more_to_come=False, workers=8) == size
    assert made.patience(5) is None


def test_dearer_items_count_at_once_and_cheaper_ones_half():
    """Too large a chunk costs the balance of the whole call."""
    made = sizer((100, 100e-6, 0), (100, 10_000e-6, 0))
    assert made.size(10**6, more_to_come=True, workers=1) == 100  # 100 µs each, at once
    made.measured(100, 2000e-6, 0)
    assert made.size(10**6, more_to_come=True, workers=1) == 166  # 60 µs, half way


def test_a_chunk_may_take_longer_if_that_is_not_because_of_many_items():
    """Many make it slow by their number; a message less is worth more where it takes few."""
    for cost, size in [(1e-6, 3000), (3e-6, 1000), (5e-6, 1000), (10e-6, 1000), (50e-6, 200)]:
        assert (
            abs(sizer((1000, 1000 * cost, 0)).size(10**6, more_to_come=True, workers=1) - size) <= 1
        )


def test_a_report_of_nothing_teaches_nothing():
    """A chunk that was given back unrun has no cost."""
    assert sizer((0, 5.0, 0)).size(100, more_to_come=True, workers=1) == 1
    assert sizer((0, 5.0, 0)).marks(FEW + 1)


@pytest.mark.parametrize(
    ("cost", "marks"), [(None, True), (MARK_SECONDS, True), (MARK_SECONDS / 2, False)]
)
def test_dear_and_unknown_items_are_marked(cost, marks):
    """Below 20 µs the mark itself would show."""
    assert sizer(*([] if cost is None else [(1, cost, 0)])).marks(FEW + 1) is marks


def test_a_few_items_are_marked_however_tiny():
    """A message costs more than all their marks, and a death is then known to its item."""
    assert sizer((1, MARK_SECONDS / 2, 0)).marks(FEW)


@pytest.mark.parametrize(
    ("cost", "fixed", "waiting", "prefetches"),
    [
        (None, None, 9, False),
        (PREFETCH_SECONDS / 2, None, 9, True),
        (PREFETCH_SECONDS / 2, None, 4, False),  # held back for whoever is free first
        (COARSE_SECONDS / 2, None, 1, True),
        (PREFETCH_SECONDS, None, 9, False),
        (PREFETCH_SECONDS / 20, 10, 9, True),
        (PREFETCH_SECONDS / 20, 30, 9, False),
    ],
)
def test_a_second_chunk_waits_only_behind_a_short_one(cost, fixed, waiting, prefetches):
    """Fifty milliseconds, counted for the whole chunk."""
    reports = [] if cost is None else [(1, cost, 0)]
    assert sizer(*reports, fixed=fixed).prefetches(waiting, workers=4) is prefetches


def test_what_an_earlier_call_has_learned_is_where_a_later_one_begins():
    """No item is spent on finding out; but growth goes on from what was proven."""
    made = sizer()
    made.recall(sizer((3, 6e-5, 0)).cost)

    assert made.size(10**6, more_to_come=True, workers=4) == 3 * GROWTH


def test_a_call_that_has_measured_nothing_has_nothing_to_tell():
    """And whoever recalls that begins with one item."""
    made = sizer()
    made.recall(sizer().cost)

    assert made.size(10**6, more_to_come=True, workers=4) == 1


def test_an_adaptive_chunk_that_overruns_is_cut_short():
    """Four times as long as meant."""
    assert sizer().patience(1) == OVERRUN * TARGET_SECONDS


def test_dear_items_are_given_the_time_that_they_take():
    """Or whatever waits behind one of them would be taken back each time."""
    assert sizer((1, 1.0, 0)).patience(1) == OVERRUN * 1.0


def test_a_long_chunk_of_many_has_no_longer_excess_than_a_short_one():
    many = sizer((1, 0.010, 0))
    assert many.patience(1) == pytest.approx(OVERRUN * 0.010)
    assert many.patience(5) == pytest.approx(0.050 + (OVERRUN - 1) * LONG_SECONDS)


@pytest.mark.parametrize(("more", "seconds"), [(True, LONG_SECONDS), (False, UNHURRIED_SECONDS)])
def test_where_no_result_is_taken_before_the_last_chunks_are_longer(more, seconds):
    size = sizer(*[(8, 0.008, 0)] * 9).size(10**6, more_to_come=more, workers=2)
    assert 0.9 * seconds <= size * 0.001 <= seconds


@pytest.mark.parametrize(
    ("waiting", "fixed", "chunks"), [(0, None, 0), (7, None, 7), (7, 3, 3), (6, 3, 2), (0, 3, 0)]
)
def test_how_many_chunks_the_waiting_items_make(waiting, fixed, chunks):
    """An item each where nobody knows yet."""
    assert sizer(fixed=fixed).chunks(waiting) == chunks


@pytest.mark.parametrize(
    ("reports", "fixed", "appetite"),
    [([], None, 12), ([], 5, 60), ([(1, 1e-4, 0)], None, 12 * GROWTH)],
)
def test_appetite_is_three_chunks_for_each_of_four_workers(reports, fixed, appetite):
    """One runs, one waits at the worker, one is on its way."""
    assert sizer(*reports, fixed=fixed).appetite(4) == appetite


def test_what_is_large_is_given_the_time_to_arrive():
    """Or it would be taken back on its way, and sent again, for ever on a slow machine."""
    light, heavy = sizer((1, 0.0, 100)), sizer((1, 0.0, 10_000_000))

    assert heavy.patience(1) == light.patience(1) + heavy.transit(1) - light.transit(1)
    assert heavy.transit(1) > OVERRUN * TARGET_SECONDS


def test_each_cut_doubles_that_time_and_each_report_takes_it_back():
    made = sizer((1, 0.0, 1_000_000))
    usual = made.transit(1)
    for _ in range(3):
        made.was_cut()
    assert made.transit(1) == 8 * usual

    for _ in range(5):
        made.measured(1, 0.0, 1_000_000)
    assert made.transit(1) == usual


def test_only_the_functions_that_were_called_last_are_remembered():
    """A program that makes a new function for each call does not grow."""
    costs = Costs()
    for name in range(MOST_KNOWN):
        costs.remember(name, Cost(1.0, 0.0, 1))
    costs.remember(0, Cost(2.0, 0.0, 1))
    costs.remember("new", Cost(3.0, 0.0, 1))

    assert costs.of(1) is None
    assert (costs.of(0), costs.of("new")) == (Cost(2.0, 0.0, 1), Cost(3.0, 0.0, 1))
