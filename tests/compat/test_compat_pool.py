"""`parmap.compat.Pool`: what multiprocessing's users rely on, and what they get beyond it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings

import pytest

from parmap import PoolClosedError, SerializationError, TaskFailure, WorkerLostError
from parmap.compat import AsyncResult, Pool
from parmap.testing.leaks import nothing_left_behind
from support.gates import Gate
from support.scripts import LIMIT, output_of
from support.tasks import add, double, fail, fail_if_odd, recall, remember


@pytest.fixture(autouse=True)
def _leaks():
    with nothing_left_behind():
        yield


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool
    pool.join()


def test_every_call_gives_what_multiprocessing_gives(pool):
    assert pool.apply(add, (1,), {"y": 2}) == 3
    assert pool.apply_async(add, (1, 2)).get(LIMIT) == 3
    assert pool.map(double, range(10), 3) == [double(x) for x in range(10)]
    assert pool.map_async(double, iter(range(3))).get(LIMIT) == [0, 2, 4]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.starmap_async(add, [(1, 2)]).get(LIMIT) == [3]
    assert list(pool.imap(double, range(5), 2)) == [0, 2, 4, 6, 8]
    assert sorted(pool.imap_unordered(double, range(5))) == [0, 2, 4, 6, 8]


def test_lambdas_and_closures_travel(pool):
    factor = 3

    assert pool.map(lambda x: x * factor, range(3)) == [0, 3, 6]


class Nothing(Exception):
    def __len__(self):
        return 0


def test_a_falsy_error_is_raised_as_any_other(pool):
    def refuse(*_):
        raise Nothing

    for call in (
        lambda: pool.apply(refuse),
        lambda: pool.apply_async(refuse).get(LIMIT),
        lambda: pool.map(refuse, [1]),
        lambda: pool.starmap_async(refuse, [(1,)]).get(LIMIT),
        lambda: pool.imap(refuse, [1]).next(LIMIT),
    ):
        with pytest.raises(Nothing):
            call()


def test_every_item_runs_and_then_the_first_error_is_raised(pool, tmp_path):
    def touch_then_fail(x):
        (tmp_path / str(x)).touch()
        raise ValueError(x)

    with pytest.raises(ValueError, match=r"^0"):
        pool.map(touch_then_fail, range(20))

    assert len(list(tmp_path.iterdir())) == 20


def test_an_error_has_the_real_traceback_and_nothing_stands_before_it(pool):
    with pytest.raises(ValueError, match="boom") as caught:
        pool.apply(fail, (ValueError("boom"),))

    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
    assert caught.value.__cause__ is None


def test_imap_raises_in_place_and_goes_on(pool):
    results = pool.imap(fail_if_odd, range(4))

    assert next(results) == 0
    with pytest.raises(ValueError, match="odd 1"):
        next(results)
    assert next(results) == 2
    with pytest.raises(ValueError, match="odd 3"):
        next(results)
    assert list(results) == []
    assert list(results) == []


def test_items_read_before_the_input_fails_come_before_its_error(pool):
    def items():
        yield from range(7)
        raise LookupError("no more")

    results = pool.imap(double, items(), 4)

    assert [next(results) for _ in range(7)] == [double(x) for x in range(7)]
    with pytest.raises(LookupError, match="no more"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_a_failure_that_a_task_returns_is_a_result(pool):
    (given,) = pool.map(lambda _: TaskFailure(5, ValueError("mine"), 1), [0])

    assert isinstance(given, TaskFailure)
    assert given.index == 5


def test_calls_start_at_once_and_end_though_nobody_takes_their_results(tmp_path):
    with Pool(2) as pool:
        results = pool.imap(lambda x: (tmp_path / str(x)).touch(), range(30))
        pool.close()
        pool.join()

        assert len(list(tmp_path.iterdir())) == 30
        assert list(results) == [None] * 30


def test_a_result_that_is_late_raises_both_timeout_errors(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    result = pool.apply_async(gate.wait)
    results = pool.imap(lambda gate: gate.wait(), [gate])

    for ask in (lambda: result.get(0.01), lambda: results.next(timeout=0.01)):
        with pytest.raises(multiprocessing.TimeoutError):
            ask()
        with pytest.raises(TimeoutError):
            ask()
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    gate.open()
    result.wait(LIMIT)
    assert result.successful()


def test_callbacks_are_called_once_and_before_anybody_who_waits(pool):
    told = []

    pool.apply_async(add, (1, 2), callback=told.append, error_callback=told.append).wait(LIMIT)
    pool.map_async(double, [1, 2], callback=told.append).wait(LIMIT)
    pool.map_async(fail_if_odd, [1], callback=told.append, error_callback=told.append).wait(LIMIT)

    assert told[:2] == [3, [2, 4]]
    assert isinstance(told[2], ValueError)
    assert len(told) == 3


def test_a_worker_that_dies_fails_its_own_item_only(pool):
    results = pool.imap(lambda x: os.kill(os.getpid(), signal.SIGKILL) if x == 1 else x, range(3))

    assert next(results) == 0
    with pytest.raises(WorkerLostError):
        next(results)
    assert next(results) == 2
    assert pool.apply(add, (1, 2)) == 3


def test_an_argument_that_cannot_be_pickled_raises_and_the_pool_goes_on(pool):
    with pytest.raises(SerializationError, match="Lock"):
        pool.map(double, [threading.Lock()])

    assert pool.map(double, [1]) == [2]


def test_terminate_ends_what_runs_and_whoever_waits_is_told(tmp_path):
    pool = Pool(1)
    began = Gate(tmp_path / "began")
    never = Gate(tmp_path / "never")

    def hold(_):
        began.open()
        never.wait()

    running = pool.map_async(hold, range(100))
    began.wait()
    pool.terminate()
    pool.join()

    with pytest.raises(PoolClosedError):
        running.get(LIMIT)


def test_a_closed_pool_takes_nothing_and_join_wants_it_closed(tmp_path):
    pool = Pool(1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    pool.join()

    for call in (pool.map, pool.imap, pool.map_async, pool.starmap, pool.imap_unordered):
        with pytest.raises(ValueError, match="not running"):
            call(double, [1])
    with pytest.raises(ValueError, match="not running"):
        pool.apply(double, (1,))
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_an_initializer_runs_in_each_worker():
    with Pool(1, remember, ("seen",)) as pool:
        assert pool.apply(recall) == ["seen"]
    pool.join()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_context_tells_the_start_method(method):
    with Pool(1, context=multiprocessing.get_context(method)) as pool:
        assert pool.map(double, [1]) == [2]
    pool.join()


def test_a_worker_is_replaced_after_its_tasks():
    with Pool(1, maxtasksperchild=1) as pool:
        pids = {pool.apply(os.getpid) for _ in range(3)}
    pool.join()

    assert len(pids) == 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"processes": 0}, ValueError),
        ({"processes": "2"}, TypeError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"maxtasksperchild": "12"}, ValueError),
        ({"initializer": 3}, TypeError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(arguments, error):
    (name,) = arguments
    with pytest.raises(error, match=name):
        Pool(**arguments)


def test_wrong_calls_are_refused_at_once(pool):
    with pytest.raises(TypeError, match="func must be callable"):
        pool.map_async(3, [1])
    with pytest.raises(TypeError, match="iterable"):
        pool.imap(double, 3)
    with pytest.raises(ValueError, match="chunksize"):
        pool.imap(double, [1], 0)
    with pytest.raises(SerializationError, match="make a Pool there"):
        pickle.dumps(pool)


def test_a_pool_that_is_dropped_while_it_runs_warns_and_ends():
    pool = Pool(1)
    pool.apply(double, (1,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()

    assert [w.category for w in caught] == [ResourceWarning]
    assert __file__ in str(caught[0].message)


def test_a_program_may_end_with_a_call_in_progress(tmp_path):
    program = """
        import pathlib, time
        from parmap.compat import Pool
        pool = Pool(2)
        began = pathlib.Path("began")
        def task(x):
            began.touch()
            time.sleep(600)
        result = pool.map_async(task, range(10))
        while not began.exists():
            result.wait(0.01)
        print("over")
        """

    assert output_of(program, tmp_path) == "over\n"


def test_reprs_tell_the_state(pool):
    assert repr(pool) == "<parmap.compat.Pool running, at most 2 workers>"
    result: AsyncResult[int] = pool.apply_async(add, (1, 2))
    result.get(LIMIT)
    assert repr(result) == "<AsyncResult ready>"
