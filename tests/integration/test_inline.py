"""`max_workers=0`: the same call in this very process, for debugging."""

from __future__ import annotations

import itertools
import os
import threading
import traceback

import pytest

from parmap import (
    CallTimeoutError,
    Progress,
    Retry,
    TaskErrorGroup,
    TaskFailure,
    failure_of,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from support.tasks import add, double, fail_if_odd, pid_of


def test_it_runs_here_one_after_the_other_in_order():
    order: list[int] = []
    assert parallel_map(order.append, range(5), max_workers=0) == [None] * 5
    assert order == list(range(5))
    assert set(parallel_map(pid_of, range(3), max_workers=0)) == {os.getpid()}


def test_nothing_is_pickled():
    lock = threading.Lock()
    assert parallel_map(lambda x: x, [lock], max_workers=0) == [lock]
    items = [[1]]
    parallel_map(lambda x: x.append(2), items, max_workers=0)
    assert items == [[1, 2]]


def test_it_gives_what_workers_give():
    assert parallel_map(add, [1, 2], [3, 4], max_workers=0) == [4, 6]
    assert parallel_starmap(add, [(1, 2)], max_workers=0) == [3]
    assert list(parallel_imap(double, range(5), max_workers=0)) == [0, 2, 4, 6, 8]
    assert list(parallel_imap(double, range(5), max_workers=0, ordered=False)) == [0, 2, 4, 6, 8]
    assert parallel_map(double, [], max_workers=0) == []


def test_a_failure_is_the_original_object_with_one_note():
    error = ValueError("mine")

    def task(x):
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        parallel_map(task, [1], max_workers=0)
    assert caught.value is error
    assert len(error.__notes__) == 1
    assert failure_of(error).index == 0
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "task"


def test_the_first_failure_ends_it_at_once():
    ran = []

    def task(x):
        ran.append(x)
        return fail_if_odd(x)

    with pytest.raises(ValueError, match="odd 1"):
        parallel_map(task, range(10), max_workers=0)
    assert ran == [0, 1]


def test_the_other_modes_run_everything():
    results = parallel_map(fail_if_odd, range(4), on_error="return", max_workers=0)
    assert [type(r) for r in results] == [int, TaskFailure, int, TaskFailure]
    with pytest.raises(TaskErrorGroup) as caught:
        parallel_map(fail_if_odd, range(4), on_error="group", max_workers=0)
    assert [str(e) for e in caught.value.exceptions] == ["odd 1", "odd 3"]


@pytest.mark.parametrize("how", [SystemExit, GeneratorExit])
def test_exits_are_failures_of_their_items(how):
    def task(x):
        raise how("mine")

    [failure] = parallel_map(task, [1], on_error="return", max_workers=0)
    assert isinstance(failure.error, how)
    with pytest.raises(how):
        parallel_map(task, [1], max_workers=0)


def test_stop_iteration_becomes_a_runtime_error():
    def task(x):
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(parallel_imap(task, range(3), max_workers=0))


def test_a_lazy_map_is_lazy():
    read = []

    def items():
        for x in itertools.count():
            read.append(x)
            yield x

    with parallel_imap(double, items(), max_workers=0) as results:
        assert read == []
        assert [next(results), next(results)] == [0, 2]
        assert len(read) <= 4
    assert list(results) == []


def test_a_lazy_map_raises_in_place_and_is_then_exhausted():
    results = parallel_imap(fail_if_odd, range(5), max_workers=0)
    assert next(results) == 0
    with pytest.raises(ValueError, match="odd 1"):
        next(results)
    assert list(results) == []


def test_the_input_error_comes_after_the_earlier_items():
    def items():
        yield 2
        raise KeyError("input")

    results = parallel_imap(double, items(), max_workers=0)
    assert next(results) == 4
    with pytest.raises(KeyError):
        next(results)


def test_progress_is_told():
    told: list[Progress] = []
    parallel_map(fail_if_odd, range(4), on_error="return", progress=told.append, max_workers=0)
    assert (told[-1].done, told[-1].failed, told[-1].total) == (4, 2, 4)


@pytest.mark.parametrize("call", [parallel_map, lambda *a, **o: list(parallel_imap(*a, **o))])
def test_the_timeout_of_the_call_is_kept_where_an_item_rests_between_two_attempts(call):
    ran = []

    def refuse(x):
        ran.append(x)
        raise OSError(x)

    with pytest.raises(CallTimeoutError):
        call(
            refuse, [1, 2], retry=Retry(on=OSError, first_delay=500, max_delay=500),
            timeout=0.05, max_workers=0,
        )  # fmt: skip
    assert ran == [1]


def test_an_item_may_close_the_stream_that_it_is_of():
    ran = []

    def close(x):
        ran.append(x)
        results.close()

    results = parallel_imap(close, range(3), max_workers=0)
    list(results)

    assert ran == [0]


def test_calls_nest():
    assert parallel_map(
        lambda x: parallel_map(lambda y: x * y, range(3), max_workers=0), range(2), max_workers=0
    ) == [[0, 0, 0], [0, 1, 2]]
