"""A call within an item gets what its outer call leaves idle, and BLAS threads their share."""

from __future__ import annotations

import math
import os

import pytest

from parmap import Pool, _cpus, _nesting, options, parallel_imap, parallel_map, run_workers
from support.scripts import output_of
from support.tasks import pid_of

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
           "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")  # fmt: skip


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch):
    monkeypatch.setattr(_cpus, "usable_cpus", lambda: 8)
    monkeypatch.setattr(_cpus, "_recent", (-math.inf, 1))
    monkeypatch.setattr(options, "usable_cpus", lambda: 8)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)


def budget(_=None):
    return _nesting.budget


def test_a_call_with_fewer_workers_than_cpus_leaves_the_rest_to_its_items():
    assert parallel_map(budget, range(9), max_workers=1) == [8] * 9
    assert set(parallel_map(budget, range(9), max_workers=2)) == {4}


def test_a_call_with_fewer_items_than_workers_does_so_too():
    assert parallel_map(budget, range(2)) == [4, 4]
    assert parallel_map(budget, range(3), max_workers=3) == [2] * 3
    assert parallel_map(budget, range(1), max_workers=2) == [8]


def test_each_call_tells_the_warm_workers_anew():
    with Pool(2) as pool:
        for _ in range(2):
            assert parallel_map(budget, range(4), pool=pool) == [4] * 4
            assert parallel_map(budget, [0], pool=pool) == [8]
            assert parallel_map(budget, [0], pool=pool) == [8]
        assert next(parallel_imap(budget, iter([0]), pool=pool)) == 4  # nobody knows how many come
        assert pool.submit(budget).result() == 8


def test_the_members_of_a_group_share_the_cpus():
    assert set(run_workers(budget, 2)) <= {4, 8}  # the first may not know of the second
    assert run_workers(budget, 1) == [8]


def test_where_nothing_is_left_an_inner_call_runs_inline():
    def inner(_):
        return {os.getpid()} == set(parallel_map(pid_of, range(3)))

    assert all(parallel_map(inner, range(16), max_workers=8, chunksize=8))


def test_what_an_inner_call_asks_for_is_a_cap_and_gets_a_worker_at_least():
    def inner(asked):
        pids = set(parallel_map(pid_of, range(30), max_workers=asked, chunksize=1))
        return len(pids), os.getpid() in pids

    with Pool(4) as pool:
        (one, is_inline), (most, within), (none, inline) = parallel_map(
            inner, [1, 7, 0], pool=pool, chunksize=3
        )
    assert (one, is_inline) == (1, False)
    assert most <= 2  # 8 CPUs, and 3 items: so many for each
    assert not within
    assert (none, inline) == (1, True)


def test_an_inner_call_with_a_deadline_gets_a_worker_of_its_own():
    def inner(_):
        return os.getpid() in parallel_map(pid_of, [0], task_timeout=60)

    with Pool(8) as pool:
        assert parallel_map(inner, range(8), pool=pool, chunksize=8) == [False] * 8


def variables(_=None):
    return [os.environ.get(name) for name in THREADS]


def test_the_threads_of_libraries_are_limited_before_anything_is_imported():
    with Pool(2) as pool:
        assert parallel_map(variables, [0], pool=pool) == [["4"] * 6]
        os.environ["PARMAP_TEST_OTHER"] = "x"  # the worker takes the environment over anew
        try:
            assert parallel_map(variables, [0], pool=pool) == [["4"] * 6]
        finally:
            del os.environ["PARMAP_TEST_OTHER"]
    assert parallel_map(variables, [0]) == [["1"] * 6]  # the shared pool may grow to all CPUs
    assert run_workers(variables, 1) == [["8"] * 6]
    assert variables() == [None] * 6


def test_what_the_user_has_set_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with Pool(2) as pool:
        assert parallel_map(variables, [0], pool=pool) == [["3", None, None, None, None, None]]
        monkeypatch.delenv("OMP_NUM_THREADS")
        monkeypatch.setenv("MKL_NUM_THREADS", "5")
        assert parallel_map(variables, [0], pool=pool) == [["4", "4", "5", "4", "4", "4"]]


def test_an_initializer_that_sets_them_wins_until_the_surroundings_change():
    def initialize():
        os.environ["OMP_NUM_THREADS"] = "7"

    with Pool(2, initializer=initialize) as pool:
        assert parallel_map(variables, [0], pool=pool)[0][0] == "7"


def test_a_worker_does_not_give_its_own_share_to_its_workers():
    def inner(_):
        return parallel_map(variables, [0], max_workers=1)

    with Pool(1) as pool:
        assert parallel_map(inner, [0], pool=pool) != [[["8"] * 6]]


@pytest.mark.slow
def test_a_library_that_was_loaded_before_a_fork_is_limited_too(tmp_path):
    pytest.importorskip("threadpoolctl")
    source = """
        import numpy
        from threadpoolctl import threadpool_info, threadpool_limits
        from parmap import Pool, _cpus, parallel_map

        _cpus.usable_cpus = lambda: 3

        def threads(_):
            import numpy
            return max(each["num_threads"] for each in threadpool_info())

        threadpool_limits(2)
        with Pool(3, start_method="fork") as pool:
            print(parallel_map(threads, [0], pool=pool), threads(0))
    """

    assert output_of(source, tmp_path) == "[1] 2\n"
