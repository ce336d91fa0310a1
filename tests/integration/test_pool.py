"""`Pool`: an Executor whose workers serve any call, run its initializer, and end when it ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import pickle
import threading

import pytest

import parmap
from parmap import (
    Pool,
    PoolClosedError,
    SerializationError,
    parallel_imap,
    parallel_map,
    parallel_starmap,
    shutdown,
)
from support.gates import Diary, Gate, alive, all_workers, kept_pool, wait_until, wait_until_dead
from support.scripts import LIMIT, output_of
from support.tasks import (
    START_METHODS,
    add,
    double,
    fail,
    identity,
    pid_of,
    recall,
    remember,
    write_and_wait,
)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


def test_one_pool_serves_every_kind_of_call(pool):
    assert parallel_map(double, range(5), pool=pool) == [0, 2, 4, 6, 8]
    assert parallel_starmap(add, [(1, 2)], pool=pool) == [3]
    assert list(parallel_imap(double, range(5), pool=pool)) == [0, 2, 4, 6, 8]
    assert sorted(parallel_imap(double, range(3), ordered=False, pool=pool)) == [0, 2, 4]
    assert pool.submit(add, 1, y=2).result(LIMIT) == 3
    assert list(pool.map(add, [1, 2], [3, 4])) == [4, 6]


def test_calls_reuse_the_workers(pool):
    first = set(parallel_map(pid_of, range(100), pool=pool))
    assert set(parallel_map(pid_of, range(100), pool=pool)) & first
    assert len(first | set(parallel_map(pid_of, range(100), pool=pool))) <= 2


def test_workers_start_only_when_there_is_work():
    with Pool(4) as pool:
        assert "0 workers" in repr(pool)
        assert pool.submit(double, 1).result(LIMIT) == 2
        assert "1 workers" in repr(pool)


@pytest.mark.parametrize("method", START_METHODS)
def test_the_initializer_runs_once_in_each_worker(method, tmp_path):
    ran = Diary(tmp_path / "ran")

    def prepare(tag):
        remember(tag)
        ran.write(os.getpid())

    with Pool(2, initializer=prepare, initargs=("tag",), start_method=method) as pool:
        pids = all_workers(pool, 2, tmp_path)
        seen = parallel_map(recall, range(20), pool=pool)

    assert seen == [["tag"]] * 20
    assert sorted(ran.numbers()) == sorted(pids)


def test_the_initializer_may_come_from_a_module_of_the_callers_path(tmp_path):
    with Pool(1, initializer=remember, initargs=(1, 2)) as pool:
        assert pool.submit(recall).result(LIMIT) == [1, 2]


def test_the_initializer_sees_the_callers_surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("PARMAP_TEST_VARIABLE", "here")
    monkeypatch.chdir(tmp_path)

    def prepare():
        remember(os.environ.get("PARMAP_TEST_VARIABLE"), os.getcwd())

    with Pool(1, initializer=prepare) as pool:
        assert pool.submit(recall).result(LIMIT) == ["here", str(tmp_path)]


def test_what_an_item_writes_to_a_module_stays_in_its_worker():
    with Pool(1) as pool:
        pool.submit(remember, 1).result(LIMIT)
        assert pool.submit(recall).result(LIMIT) == [1]
    with Pool(1) as pool:
        assert pool.submit(recall).result(LIMIT) == []


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_context_of_multiprocessing_tells_the_start_method(method):
    with Pool(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(double, 2).result(LIMIT) == 4


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"max_workers": "2"}, TypeError),
        ({"start_method": "thread"}, ValueError),
        ({"name": 3}, TypeError),
        ({"mp_context": 3}, TypeError),
        ({"initializer": 3}, TypeError),
        ({"initializer": print, "initargs": 3}, TypeError),
        ({"mp_context": multiprocessing, "start_method": "fork"}, TypeError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        Pool(**arguments)


def test_fork_shares_what_the_parent_has_and_the_default_does_not():
    remember("of the parent")
    try:
        with Pool(1, start_method="fork") as pool:
            assert pool.submit(recall).result(LIMIT) == ["of the parent"]
        with Pool(1) as pool:
            assert pool.submit(recall).result(LIMIT) == []
    finally:
        recall.__globals__["seen"].clear()


def test_futures_are_those_of_the_standard_library(pool):
    futures = [pool.submit(double, x) for x in range(10)]
    done, waiting = concurrent.futures.wait(futures, timeout=LIMIT)
    assert not waiting
    assert sorted(f.result() for f in done) == list(range(0, 20, 2))
    assert {f.result() for f in concurrent.futures.as_completed(futures)} == set(range(0, 20, 2))
    assert isinstance(pool.submit(fail, 1).exception(LIMIT), ValueError)
    assert isinstance(pool, concurrent.futures.Executor)


def test_asyncio_can_run_in_it(pool):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, double, x) for x in range(5)))

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]


def test_a_future_tells_that_it_runs_and_can_then_not_be_cancelled(tmp_path):
    diary, gate = Diary(tmp_path / "d"), Gate(tmp_path / "gate")
    with Pool(1) as pool:
        running = pool.submit(write_and_wait, diary, gate, 1)
        diary.wait_for(1)
        assert running.running()
        assert not running.cancel()
        gate.open()
        assert running.result(LIMIT) == 1


def test_a_waiting_future_can_be_cancelled_and_never_runs(tmp_path):
    diary, gate = Diary(tmp_path / "d"), Gate(tmp_path / "gate")
    with Pool(1) as pool:
        running = pool.submit(write_and_wait, diary, gate, 1)
        diary.wait_for(1)
        waiting = [pool.submit(write_and_wait, diary, gate, x) for x in (2, 3, 4)]
        assert waiting[1].cancel()
        assert waiting[1].cancelled()
        gate.open()
        assert [running.result(LIMIT), waiting[0].result(LIMIT), waiting[2].result(LIMIT)] == [
            1,
            2,
            4,
        ]
        with pytest.raises(concurrent.futures.CancelledError):
            waiting[1].result(LIMIT)
    assert diary.lines() == ["1", "2", "4"]


def test_leaving_the_block_finishes_what_was_submitted(tmp_path):
    diary = Diary(tmp_path / "d")
    with Pool(2) as pool:
        futures = [pool.submit(diary.write, x) for x in range(50)]
    assert all(f.done() for f in futures)
    assert sorted(diary.numbers()) == list(range(50))


def test_shutdown_without_wait_returns_at_once_and_finishes_the_work(tmp_path):
    gate = Gate(tmp_path / "gate")
    pool = Pool(1)
    [pid] = all_workers(pool, 1, tmp_path)
    future = pool.submit(gate.wait)
    pool.shutdown(wait=False)
    assert not future.done()
    gate.open()
    future.result(LIMIT)
    wait_until_dead([pid])
    pool.shutdown()


def test_shutdown_can_drop_what_no_worker_has_begun(tmp_path):
    diary, gate = Diary(tmp_path / "d"), Gate(tmp_path / "gate")
    pool = Pool(1)
    running = pool.submit(write_and_wait, diary, gate, 0)
    diary.wait_for(1)
    waiting = [pool.submit(write_and_wait, diary, gate, x) for x in range(1, 9)]
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    pool.shutdown()
    assert running.result(LIMIT) == 0
    assert all(f.cancelled() for f in waiting)
    assert diary.lines() == ["0"]


def test_shutdown_waits_for_a_map_of_another_thread(tmp_path):
    diary, gate = Diary(tmp_path / "d"), Gate(tmp_path / "gate")
    pool = Pool(1)
    results = []
    thread = threading.Thread(
        target=lambda: results.extend(
            parallel_map(lambda x: write_and_wait(diary, gate, x), range(3), pool=pool)
        )
    )
    thread.start()
    diary.wait_for(1)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    thread.join()
    pool.shutdown()
    assert results == [0, 1, 2]


def test_a_closed_pool_refuses_every_call(tmp_path):
    pool = Pool(1)
    [pid] = all_workers(pool, 1, tmp_path)
    pool.shutdown()
    assert not alive(pid)
    assert "closed" in repr(pool)
    for call in (
        lambda: pool.submit(double, 1),
        lambda: parallel_map(double, [1], pool=pool),
        lambda: parallel_imap(double, [1], pool=pool),
        lambda: pool.map(double, [1]),
    ):
        with pytest.raises(PoolClosedError) as caught:
            call()
        assert isinstance(caught.value, RuntimeError)
    pool.shutdown()
    with pool:
        pass


def test_a_pool_that_is_dropped_ends_its_workers(tmp_path):
    pool = Pool(2)
    pids = all_workers(pool, 2, tmp_path)
    future = pool.submit(double, 2)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del pool
    gc.collect()
    assert future.result(LIMIT) == 4
    wait_until_dead(pids)


def test_a_block_that_raises_ends_its_workers(tmp_path):
    with pytest.raises(ZeroDivisionError), Pool(1) as pool:
        pids = all_workers(pool, 1, tmp_path)
        _ = 1 / 0
    wait_until_dead(pids)


def test_a_pool_cannot_be_pickled(pool):
    with pytest.raises(SerializationError, match="Pool"):
        pickle.dumps(pool)


def test_the_name_of_a_pool_names_its_workers_in_errors():
    with Pool(1, name="readers") as pool:
        assert "readers" in repr(pool)
        with pytest.raises(ValueError, match="bad item") as caught:
            parallel_map(fail, [1], pool=pool)
    assert "worker readers-1" in caught.value.__notes__[0]


def test_the_shared_pool_ends_on_request_and_comes_back():
    pids = parallel_map(pid_of, range(10), max_workers=1)
    shutdown()
    assert not any(map(alive, pids))
    shutdown()
    assert not set(parallel_map(pid_of, range(10), max_workers=1)) & set(pids)


def test_shutdown_of_the_shared_pool_fails_calls_that_use_it(tmp_path):
    diary = Diary(tmp_path / "d")
    gate = Gate(tmp_path / "never")
    errors = []

    def call():
        try:
            parallel_map(lambda x: write_and_wait(diary, gate, x), range(2), max_workers=2)
        except PoolClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    diary.wait_for(2)
    shutdown()
    thread.join()
    assert len(errors) == 1


def test_the_environment_sets_the_default_number_of_workers(monkeypatch):
    monkeypatch.setenv("PARMAP_MAX_WORKERS", "0")
    assert parallel_map(pid_of, [1]) == [os.getpid()]
    monkeypatch.setenv("PARMAP_MAX_WORKERS", "1")
    assert len(set(parallel_map(pid_of, range(20), chunksize=1))) == 1
    monkeypatch.setenv("PARMAP_MAX_WORKERS", "many")
    with pytest.raises(ValueError, match="PARMAP_MAX_WORKERS"):
        parallel_map(pid_of, [1])


def test_many_pools_may_live_at_once(tmp_path):
    pools = [Pool(1) for _ in range(4)]
    futures = [pool.submit(pid_of, 0) for pool in pools]
    assert len({f.result(LIMIT) for f in futures}) == 4
    for pool in pools:
        pool.shutdown()


def test_concurrent_calls_share_the_workers_fairly(tmp_path):
    """A short call is served while a long one runs."""
    stop = Gate(tmp_path / "stop")
    with Pool(2) as pool:
        long = parallel_imap(identity, iter(lambda: stop.is_open, True), pool=pool, buffersize=500)
        thread = threading.Thread(target=lambda: [None for _ in long])
        thread.start()
        assert parallel_map(double, range(100), pool=pool) == list(range(0, 200, 2))
        assert pool.submit(double, 1).result(LIMIT) == 2
        stop.open()
        thread.join()


def test_a_thousand_submitted_calls_are_no_burden(tmp_path):
    """The standard library takes a fifth of a second for them, the script's watchdog bites at 20."""
    source = """
        from parmap import Pool
        with Pool(2) as pool:
            print(sum(pool.map(abs, range(1000))))
    """
    assert output_of(source, tmp_path) == f"{sum(range(1000))}\n"


def test_the_result_of_a_future_may_be_waited_for_in_a_callback(tmp_path):
    source = """
        import threading
        from parmap import Pool
        done = threading.Event()
        with Pool(1) as pool:
            def callback(future):
                print(pool.submit(abs, -4).result())
                done.set()
            pool.submit(abs, -1).add_done_callback(callback)
            done.wait()
    """
    assert output_of(source, tmp_path) == "4\n"


def test_idle_workers_take_no_cpu(pool, tmp_path):
    from support.gates import cpu_seconds

    pids = all_workers(pool, 2, tmp_path)
    before = sum(map(cpu_seconds, pids)), os.times()
    threading.Event().wait(0.3)  # not to be right: the time in which nothing may be used
    after = sum(map(cpu_seconds, pids)), os.times()
    assert after[0] - before[0] <= 0.02
    assert after[1].user + after[1].system - before[1].user - before[1].system <= 0.05


def test_the_names_are_where_users_look_for_them():
    assert parmap.Pool.__module__ == "parmap.pool"
    assert wait_until(lambda: parmap.shutdown is shutdown)
