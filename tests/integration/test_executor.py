"""`Pool` as a `concurrent.futures.Executor`: `map`, `submit`, `shutdown`, with asyncio.

Beside CPython's own tests (tests/compat), and instead of those that only the original can pass.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import traceback
from concurrent.futures import CancelledError, Executor, as_completed

import pytest

from parmap import Pool, PoolClosedError, SerializationError, WorkerLostError
from support.gates import Diary, Gate, alive, kept_pool, wait_until, wait_until_dead
from support.scripts import output_of
from support.tasks import double, fail_if_odd


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


# ---------------------------------------------------------------------- map


def test_map_gives_what_the_builtin_gives(pool):
    assert isinstance(pool, Executor)
    assert list(pool.map(pow, range(9), range(7))) == list(map(pow, range(9), range(7)))
    assert list(pool.map(lambda x: x + 1, range(20), chunksize=6)) == list(range(1, 21))
    assert list(pool.map(double, [])) == []
    assert list(pool.map(double)) == []


def test_map_reads_and_runs_everything_at_once(pool, tmp_path):
    """Who calls it for its effects throws the results away."""
    diary = Diary(tmp_path / "diary")
    pool.map(diary.write, (number for number in range(9)))

    assert sorted(diary.wait_for(9)) == [str(number) for number in range(9)]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_with_a_buffersize_the_input_is_read_chunk_by_chunk(pool, chunksize):
    """As in Python 3.14: so many chunks when it is called, and one more for each that is taken."""
    read = itertools.count()
    results = pool.map(double, read, buffersize=2, chunksize=chunksize)
    assert next(read) == 2 * chunksize

    for number in range(2 * chunksize):
        assert next(results) == 2 * number
    assert next(read) == 4 * chunksize + 1
    results.close()
    assert list(results) == []


def test_a_buffer_larger_than_the_input(pool):
    assert list(pool.map(double, range(4), buffersize=100)) == [0, 2, 4, 6]
    assert list(pool.map(double, buffersize=2)) == []


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"buffersize": "2"}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": 2.0}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"chunksize": 0}, ValueError, "chunksize must be at least 1"),
        ({"timeout": "soon"}, TypeError, "timeout must be a number"),
    ],
)
def test_wrong_options_of_map_are_refused_at_once(pool, options, error, told):
    with pytest.raises(error, match=told):
        pool.map(double, [1], **options)


def test_map_raises_in_place_and_is_exhausted_then(pool):
    results = pool.map(fail_if_odd, [0, 2, 3, 4], chunksize=4)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ValueError, match="odd 3") as caught:
        next(results)

    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail_if_odd"
    assert list(results) == []


def test_an_input_that_raises(pool):
    def broken():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        pool.map(double, broken())
    results = pool.map(double, broken(), buffersize=1)
    assert next(results) == 2
    with pytest.raises(LookupError):
        next(results)


def test_a_map_that_is_too_slow_raises_and_lets_go(pool, tmp_path):
    gate, diary = Gate(tmp_path / "gate"), Diary(tmp_path / "diary")

    def wait(number):
        diary.write(number)
        gate.wait()

    results = pool.map(wait, range(20), timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    wait_until(lambda: pool.statistics().waiting == 0, "what waits to be dropped")
    gate.open()
    assert list(results) == []
    wait_until(lambda: pool.statistics().calls == 0, "what had been sent to end")
    assert len(diary.lines()) <= 4  # two workers, at most two in each


def test_a_map_dropped_half_way_cancels_what_nobody_has_begun(pool, tmp_path):
    gate, diary = Gate(tmp_path / "gate"), Diary(tmp_path / "diary")

    def wait(number):
        diary.write(number)
        if number:
            gate.wait()

    results = pool.map(wait, range(50))
    next(results)
    del results
    wait_until(lambda: pool.statistics().waiting == 0, "what waits to be dropped")
    gate.open()
    wait_until(lambda: pool.statistics().calls == 0, "what had been sent to end")
    assert len(diary.lines()) <= 5


def test_a_lost_worker_costs_its_own_item_of_a_map(pool):
    def die(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results = pool.map(die, range(6), chunksize=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(WorkerLostError):
        next(results)


def test_the_results_of_a_map_stay_here(pool):
    with pytest.raises(SerializationError):
        pickle.dumps(pool.map(double, [1]))


def test_a_map_of_a_view_keeps_its_limits_and_is_waited_for(pool, tmp_path):
    diary = Diary(tmp_path / "diary")

    def fail_once(number):
        diary.write(number)
        if diary.lines().count(str(number)) == 1:
            os._exit(3)
        return number

    with pool.options(retry=2) as view:
        results = view.map(fail_once, range(3))
    assert list(results) == [0, 1, 2]
    with pytest.raises(PoolClosedError):
        view.map(double, [1])


# ---------------------------------------------------------------------- the end of a pool


def test_a_map_finishes_when_its_pool_is_shut_down_without_waiting():
    pool = Pool(2)
    results = pool.map(double, (number for number in range(30)))
    pool.shutdown(wait=False)

    assert list(results) == [2 * number for number in range(30)]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_map_finishes_when_its_pool_is_dropped():
    results = Pool(2).map(double, range(10))

    assert list(results) == [2 * number for number in range(10)]


def test_a_map_that_has_not_read_all_of_its_input_says_that_its_pool_was_shut_down():
    with Pool(2) as pool:
        results = pool.map(double, itertools.count(), buffersize=3)

    assert [next(results), next(results), next(results)] == [0, 2, 4]
    with pytest.raises(PoolClosedError):
        next(results)


def test_shutdown_can_cancel_what_no_worker_has_begun(tmp_path):
    gate, diary = Gate(tmp_path / "gate"), Diary(tmp_path / "diary")

    def wait(number):
        diary.write(number)
        gate.wait()
        return number

    with Pool(1) as pool:
        results = pool.map(wait, range(40))
        futures = [pool.submit(wait, number) for number in range(40)]
        diary.wait_for(1)
        pool.shutdown(wait=False, cancel_futures=True)
        gate.open()
    assert sum(future.cancelled() for future in futures) >= 38
    assert all(future.done() for future in futures)
    assert next(results) == 0
    with pytest.raises(CancelledError):
        list(results)


def test_no_worker_outlives_the_pool():
    with Pool(3) as pool:
        pids = set(pool.map(lambda _: os.getpid(), range(6)))
        assert all(map(alive, pids))

    wait_until_dead(list(pids))


def test_nothing_can_be_submitted_after_the_interpreters_shutdown(tmp_path):
    source = """
        import atexit
        from parmap import Pool, PoolClosedError

        @atexit.register
        def run_last():
            try:
                pool.submit(id, None)
            except RuntimeError as error:
                print(type(error).__name__)

        pool = Pool(1)
        pool.submit(id, 42).result()
    """
    assert output_of(source, tmp_path).split() == ["PoolClosedError"]


# ---------------------------------------------------------------------- workers and tasks


def test_a_killed_worker_costs_its_own_task_and_the_pool_goes_on(pool):
    lost = pool.submit(os._exit, 3)
    kept = [pool.submit(double, number) for number in range(10)]

    assert isinstance(lost.exception(), WorkerLostError)
    assert [future.result() for future in kept] == [2 * number for number in range(10)]


def _refuse():
    raise LookupError("no database here")


def test_an_initializer_that_fails_is_the_error_of_every_task():
    with Pool(1, initializer=_refuse) as pool:
        with pytest.raises(LookupError, match="no database"):
            pool.submit(double, 1).result()
        with pytest.raises(LookupError, match="no database"):
            list(pool.map(double, [1, 2]))


def test_many_tasks_that_wait_need_no_more_workers_than_allowed(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    futures = [pool.submit(gate.wait) for _ in range(30)]
    assert pool.statistics().workers <= pool.max_workers
    gate.open()

    assert len(list(as_completed(futures))) == 30


def test_one_worker_serves_tasks_that_follow_each_other():
    with Pool(4) as pool:
        assert len({pool.submit(os.getpid).result() for _ in range(5)}) == 1


def test_a_worker_is_replaced_after_so_many_tasks():
    with Pool(1, max_tasks_per_child=3) as pool:
        pids = list(pool.map(lambda _: os.getpid(), range(6)))

    assert len(set(pids)) == 2
    assert pids[0] == pids[2]
    assert pids[3] == pids[5]


def test_a_task_fails_with_its_own_traceback(pool):
    with pytest.raises(ValueError, match="odd 1") as caught:
        pool.submit(fail_if_odd, 1).result()

    assert "raise ValueError" in "".join(traceback.format_exception(caught.value))


class Bad:
    """Cannot be pickled, or cannot be unpickled."""

    def __init__(self, error, *, late):
        self.error = error
        self.late = late

    def __reduce__(self):
        if not self.late:
            raise self.error("as it should")
        return _raise, (self.error,)


def _raise(error):
    raise error("as it should")


@pytest.mark.parametrize("error", [pickle.PicklingError, SystemExit])
def test_what_cannot_be_pickled_costs_its_own_task(pool, error):
    with pytest.raises((SerializationError, SystemExit)):
        pool.submit(id, Bad(error, late=False))
    for late in (False, True):
        with pytest.raises(SerializationError):
            pool.submit(Bad, error, late=late).result()
    with pytest.raises(SerializationError):
        pool.submit(id, Bad(error, late=True)).result()

    assert pool.submit(double, 2).result() == 4


def test_asyncio_runs_what_it_hands_out(pool):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, double, x) for x in range(8)))

    assert asyncio.run(main()) == [2 * x for x in range(8)]
