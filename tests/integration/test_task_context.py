"""`current_task` and `in_worker`: wherever an item runs, and nowhere else."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from parmap import (
    Pool,
    Retry,
    current_task,
    in_worker,
    parallel_imap,
    parallel_map,
    parallel_starmap,
    run_workers,
)
from parmap.testing.leaks import nothing_left_behind
from support.gates import Diary, kept_pool
from support.scripts import LIMIT
from support.tasks import START_METHODS, fail_if_odd

COUNT = 3000


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory, 2) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


def index_of(_):
    return current_task().index


def task_of(_):
    return current_task()


def test_there_is_none_outside_of_items():
    assert current_task() is None
    assert not in_worker()


@pytest.mark.parametrize("size", [None, 1, 7, 2000])
def test_tiny_items_know_their_index_whatever_the_chunks(pool, size):
    assert parallel_map(index_of, range(COUNT), pool=pool, chunksize=size) == list(range(COUNT))


def test_items_of_every_map_know_their_index(pool):
    def index_of_two(a, b):
        return current_task().index

    assert parallel_map(index_of_two, range(9), range(9), pool=pool) == list(range(9))
    assert parallel_starmap(index_of_two, [(1, 1)] * 9, pool=pool) == list(range(9))
    assert list(parallel_imap(index_of, iter("abcdefghi"), pool=pool)) == list(range(9))
    pairs = parallel_imap(lambda x: (x, index_of(x)), range(300), pool=pool, ordered=False)
    assert all(x == index for x, index in pairs)


def test_items_behind_a_failure_know_theirs(pool):
    def task(x):
        return fail_if_odd(x) + current_task().index

    results = parallel_map(task, range(400), pool=pool, on_error="return")
    assert results[::2] == list(range(0, 800, 4))


@pytest.mark.parametrize("method", START_METHODS)
def test_it_tells_the_worker_and_its_pid(method):
    with Pool(1, start_method=method, name="mine") as pool:
        [(task, pid)] = parallel_map(lambda _: (current_task(), os.getpid()), [0], pool=pool)

    assert (task.index, task.attempt, task.seed) == (0, 1, None)
    assert task.worker_name == "mine-1"
    assert task.pid == pid != os.getpid()


def test_it_is_frozen(pool):
    [task] = parallel_map(task_of, [0], pool=pool)

    with pytest.raises(dataclasses.FrozenInstanceError):
        task.index = 1


@pytest.mark.parametrize("workers", [0, 1])
def test_attempts_are_counted(workers):
    def task(x):
        if x == 1 and current_task().attempt < 3:
            raise ValueError(x)
        return current_task().attempt

    retry = Retry(attempts=3, on=ValueError)
    assert parallel_map(task, range(3), retry=retry, max_workers=workers) == [1, 3, 1]


def test_an_item_that_has_cost_its_worker_knows_that_it_runs_again(tmp_path):
    ran = Diary(tmp_path / "ran")

    def task(x):
        ran.write(current_task().attempt)
        if x == 1 and current_task().attempt == 1:
            os._exit(3)
        return current_task().attempt

    with Pool(1) as pool:
        assert parallel_map(task, range(3), retry=2, pool=pool) == [1, 2, 1]
    assert max(ran.numbers()) == 2


def test_a_submitted_call_is_item_0(pool):
    task = pool.submit(current_task).result(LIMIT)
    assert (task.index, task.attempt, task.seed) == (0, 1, None)
    assert pool.options(retry=2).submit(index_of, None).result(LIMIT) == 0


def test_inline_items_are_told_too():
    tasks = parallel_map(task_of, range(3), max_workers=0, seed=1)

    assert [task.index for task in tasks] == [0, 1, 2]
    assert {task.pid for task in tasks} == {os.getpid()}
    assert {task.worker_name for task in tasks} == {threading.current_thread().name}
    assert parallel_map(lambda _: in_worker(), [0], max_workers=0) == [False]
    assert current_task() is None


def test_between_the_items_of_an_inline_stream_there_is_none():
    for index in parallel_imap(index_of, range(3), max_workers=0):
        assert current_task() is None
        assert index < 3


@pytest.mark.parametrize("workers", [0, 1])
def test_an_inner_item_is_told_of_itself(workers):
    def outer(x):
        before = current_task()
        inner = parallel_map(lambda y: (x, current_task().index), range(2), max_workers=workers)
        assert current_task() == before
        return before.index, inner

    with Pool(1) as pool:
        assert parallel_map(outer, range(2), pool=pool) == [
            (0, [(0, 0), (0, 1)]), (1, [(1, 0), (1, 1)]),
        ]  # fmt: skip


def test_threads_of_an_item_are_told_of_it(pool):
    def task(x):
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(index_of, x).result()

    assert parallel_map(task, range(4), pool=pool) == list(range(4))


def test_what_copies_the_context_of_an_item_is_told_of_it_anywhere():
    def task(x):
        return asyncio.run(asyncio.to_thread(index_of, x))

    assert parallel_map(task, range(2), max_workers=0) == [0, 1]


def test_a_process_that_an_item_starts_is_none_and_runs_none(pool):
    def task(_):
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, mp_context=context) as processes:
            return processes.submit(_ask_both).result()

    assert parallel_map(task, [0], pool=pool) == [(None, False)]


def _ask_both():
    return current_task(), in_worker()


def test_while_arguments_and_results_are_pickled_there_is_no_item_of_another(pool):
    """At most that of the result itself."""

    class Asked:
        def __reduce__(self):
            task = current_task()
            return str, (None if task is None else task.index,)

    answers: list[object] = list(parallel_map(lambda x: Asked(), range(50), pool=pool))
    assert all(answer in ("None", str(index)) for index, answer in enumerate(answers))


def test_a_workers_initializer_runs_no_item_but_is_in_a_worker(tmp_path):
    said = Diary(tmp_path / "said")

    def initialize():
        said.write(_ask_both())

    with Pool(1, initializer=initialize) as pool:
        parallel_map(task_of, [0], pool=pool)
    assert said.lines() == ["(None, True)"]


def test_a_member_of_a_group_is_a_worker_without_an_item():
    assert run_workers(lambda rank: _ask_both(), 2) == [(None, True)] * 2


def test_items_on_threads_of_another_engine():
    with nothing_left_behind(), ThreadPoolExecutor(2, thread_name_prefix="mine") as engine:
        tasks = parallel_map(task_of, range(100), pool=engine)
        assert parallel_map(lambda _: in_worker(), [0], pool=engine) == [False]

    assert [task.index for task in tasks] == list(range(100))
    assert all(task.worker_name.startswith("mine") and task.pid == os.getpid() for task in tasks)


def test_items_in_processes_of_another_engine():
    def task(x):
        if x == 5 and current_task().attempt == 1:
            raise ValueError(x)
        return current_task(), in_worker(), os.getpid()

    with ProcessPoolExecutor(2) as engine:
        answers = parallel_map(
            task, range(100), pool=engine, seed=1, retry=Retry(attempts=2, on=ValueError)
        )
    assert [task.index for task, _, _ in answers] == list(range(100))
    assert [task.attempt for task, _, _ in answers] == [1] * 5 + [2] + [1] * 94
    assert all(inside and task.pid == pid != os.getpid() for task, inside, pid in answers)
    assert len({task.seed for task, _, _ in answers}) == 100
    assert not in_worker()
