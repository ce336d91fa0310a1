"""`timeout`: the whole call has so much time, and what there is by then is not lost."""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from parmap import (
    CallTimeoutError,
    Pool,
    Retry,
    TaskFailure,
    WorkerGroup,
    failure_of,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from support.gates import Gate, all_workers, kept_pool
from support.tasks import double, fail

FOREVER = 600


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


@pytest.mark.parametrize("mode", ["raise", "group", "return"])
def test_what_there_is_when_the_time_is_over_comes_with_the_error(mode, pool):
    """One entry per item: values, failures, and failures that say "not finished"."""

    def task(x):
        if x == 1 and mode != "raise":
            raise ValueError(x)
        return time.sleep(FOREVER) if x == 3 else x

    with pytest.raises(CallTimeoutError) as caught:
        parallel_map(task, range(4), timeout=1.0, on_error=mode, chunksize=1, pool=pool)

    results = caught.value.results
    assert isinstance(caught.value, TimeoutError)
    assert len(results) == 4
    assert (results[0], results[2]) == (0, 2)
    if mode != "raise":
        assert isinstance(results[1].error, ValueError)
        assert failure_of(results[1].error) == results[1]
    assert isinstance(results[3], TaskFailure)
    assert (results[3].index, type(results[3].error)) == (3, CallTimeoutError)


def test_items_that_never_began_have_their_entries_too(pool):
    with pytest.raises(CallTimeoutError) as caught:
        parallel_starmap(time.sleep, [(FOREVER,) for _ in range(50)], timeout=0.2, pool=pool)

    assert [each.index for each in caught.value.results] == list(range(50))
    assert "50 of 50 items" in str(caught.value)


def test_a_failure_that_came_before_is_raised_and_not_the_timeout(pool):
    def task(x):
        if x == 0:
            raise ValueError(x)
        time.sleep(FOREVER)

    with pytest.raises(ValueError, match="0"):
        parallel_map(task, range(2), timeout=0.5, chunksize=1, pool=pool)


def test_a_call_that_is_done_in_time_knows_nothing_of_it(pool):
    assert parallel_map(double, range(5), timeout=30, pool=pool) == [0, 2, 4, 6, 8]


def test_the_results_that_arrive_while_the_call_is_being_ended_are_kept(pool, tmp_path):
    """Within the grace that running items get."""

    def task(x):
        time.sleep(0.505)  # begun at once, it ends just behind the timeout
        return x

    all_workers(pool, 2, tmp_path)
    with pytest.raises(CallTimeoutError) as caught:
        parallel_map(task, range(2), timeout=0.5, chunksize=1, pool=pool)

    assert caught.value.results == [0, 1]


def test_an_endless_input_is_no_way_round_it(pool):
    with pytest.raises(CallTimeoutError) as caught:
        parallel_map(double, itertools.count(), timeout=0.2, pool=pool)

    # A chunk that still ran leaves a hole before those that were faster.
    results = caught.value.results
    assert all(isinstance(each, TaskFailure) or each == 2 * n for n, each in enumerate(results))


def test_a_lazy_map_strikes_only_where_the_next_result_is_not_ready(tmp_path, pool):
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x == 3:
            gate.wait()
        return x

    with parallel_imap(task, range(4), timeout=0.4, chunksize=1, pool=pool) as results:
        first = [next(results)]
        time.sleep(0.5)  # the consumer is slow: by then the time is over, and the results are there
        rest = [next(results), next(results)]
        with pytest.raises(CallTimeoutError):
            next(results)
        assert (first, rest) == ([0], [1, 2])
        assert list(results) == []
    gate.open()


def test_no_time_at_all_is_enough_for_what_is_inline():
    with pytest.raises(CallTimeoutError):
        parallel_map(double, [1, 2], timeout=0, max_workers=0)


@pytest.mark.parametrize("value", [-1, True, "1", float("nan")])
def test_a_timeout_that_is_none_is_refused_at_the_door(value):
    with pytest.raises((TypeError, ValueError), match="timeout"):
        parallel_map(double, [1], timeout=value)


@pytest.mark.parametrize("seconds", [1e7, 1e12, 1e300])
def test_limits_that_lie_far_off_are_no_trouble(seconds):
    """A month is more than a selector can wait for, and 300 years more than a lock can."""
    rest = Retry(2, on=ValueError, first_delay=seconds, max_delay=seconds)

    def nap(x):
        time.sleep(0.05)  # so that there is a wait
        return x

    with Pool(1) as pool, ThreadPoolExecutor(1) as threads:
        assert parallel_map(nap, [1], task_timeout=seconds, timeout=seconds, pool=pool) == [1]
        assert list(parallel_imap(nap, [1], timeout=seconds, pool=pool)) == [1]
        assert list(pool.map(nap, [1], timeout=seconds)) == [1]
        assert pool.options(task_timeout=seconds).submit(nap, 1).result(1e8) == 1
        assert parallel_map(nap, [1], timeout=seconds, pool=threads) == [1]
        for engine in (pool, threads):
            with pytest.raises(CallTimeoutError):
                parallel_map(fail, [1], retry=rest, timeout=0.1, pool=engine)
    with WorkerGroup(grace=seconds) as group:
        worker = group.start(nap, 1)
        assert worker.join(seconds)
        assert worker.result(seconds) == 1


def test_a_limit_may_be_any_real_number():
    numbers: list[Any] = [np.float32(50), np.int64(50), Fraction(50)]
    for number in numbers:
        assert parallel_map(abs, [-1], timeout=number, max_workers=0) == [1]
    with pytest.raises(ValueError, match="finite"):
        parallel_map(abs, [-1], timeout=10**400, max_workers=0)
