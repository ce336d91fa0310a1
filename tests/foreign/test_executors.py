"""The same call on somebody else's Executor: same order, errors, tracebacks, laziness."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import traceback
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parmap import (
    Channel,
    PoolClosedError,
    Retry,
    SerializationError,
    TaskErrorGroup,
    TaskFailure,
    WorkerLostError,
    failure_of,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from parmap.testing.leaks import nothing_left_behind
from support.gates import Gate
from support.scripts import LIMIT
from support.tasks import add, double, fail_if_odd, identity


@pytest.fixture(params=["threads", "processes"], scope="module")
def engine(request):
    with nothing_left_behind():
        if request.param == "threads":
            with ThreadPoolExecutor(2) as executor:
                yield executor
        else:
            with ProcessPoolExecutor(2) as executor:
                yield executor


def test_results_come_in_order(engine):
    assert parallel_map(double, range(1000), pool=engine) == [double(x) for x in range(1000)]
    assert parallel_map(add, [1, 2], [3, 4], pool=engine) == [4, 6]
    assert parallel_starmap(add, [(1, 2)], pool=engine) == [3]
    assert list(parallel_imap(double, iter(range(100)), pool=engine)) == [2 * x for x in range(100)]
    assert sorted(parallel_imap(double, range(9), ordered=False, pool=engine)) == list(
        range(0, 18, 2)
    )
    assert parallel_map(double, [], pool=engine) == []
    assert parallel_map(double, range(7), chunksize=3, pool=engine) == [2 * x for x in range(7)]


def test_lambdas_and_classes_of_the_caller_travel(engine):
    class Point:
        def __init__(self, x):
            self.x = x

    factor = 3
    points = parallel_map(lambda x: Point(x * factor), range(4), pool=engine)

    assert [point.x for point in points] == [0, 3, 6, 9]
    assert all(type(point) is Point for point in points)


def test_an_error_has_its_frames_its_note_and_its_item(engine):
    with pytest.raises(ValueError, match="odd 1") as caught:
        parallel_map(fail_if_odd, [0, 1], pool=engine)

    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail_if_odd"
    assert "item 1 (1)" in caught.value.__notes__[0]
    failure = failure_of(caught.value)
    assert failure is not None
    assert failure.index == 1


def test_failures_are_returned_or_grouped(engine):
    results = parallel_map(fail_if_odd, range(4), pool=engine, on_error="return")
    assert [type(each) is TaskFailure for each in results] == [False, True, False, True]

    with pytest.raises(TaskErrorGroup) as caught:
        parallel_map(fail_if_odd, range(4), pool=engine, on_error="group")
    assert len(caught.value.exceptions) == 2
    assert caught.value.results[::2] == [0, 2]


def test_an_ordered_stream_raises_in_place(engine):
    results = parallel_imap(fail_if_odd, [0, 2, 4, 5, 6], pool=engine)

    assert list(itertools.islice(results, 3)) == [0, 2, 4]
    with pytest.raises(ValueError, match="odd 5"):
        next(results)
    assert list(results) == []


def test_an_endless_input_is_read_only_as_far_as_it_is_needed(engine):
    read = itertools.count()

    with parallel_imap(double, read, pool=engine, buffersize=10) as results:
        assert list(itertools.islice(results, 50)) == [2 * x for x in range(50)]

    assert next(read) <= 60


def test_what_cannot_travel_fails_its_own_item(engine):
    if isinstance(engine, ThreadPoolExecutor):
        pytest.skip("threads pickle nothing")
    results = parallel_map(identity, [1, threading.Lock(), 3], pool=engine, on_error="return")

    assert results[::2] == [1, 3]
    assert isinstance(results[1].error, SerializationError)

    bad = parallel_map(
        lambda x: threading.Lock() if x else x, [0, 1], pool=engine, on_error="return"
    )
    assert bad[0] == 0
    assert bad[1].error.direction == "to caller"


class Arrival:
    """Fails when it is unpickled."""

    def __init__(self, error):
        self.error = error

    def __setstate__(self, state):
        raise state["error"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(5)], ids=repr)
def test_an_argument_that_fails_to_arrive_says_so_as_in_a_worker_of_parmap(error, engine):
    """Also one that exits: it is not the task that did."""
    if isinstance(engine, ThreadPoolExecutor):
        pytest.skip("threads pickle nothing")
    results = parallel_map(identity, [1, Arrival(error), 3], pool=engine, on_error="return")

    assert results[::2] == [1, 3]
    refusal = results[1].error
    assert isinstance(refusal, SerializationError)
    assert (refusal.direction, refusal.path) == ("to worker", "args")
    assert repr(refusal.__cause__) == repr(error)


def test_a_handle_is_refused_with_a_sentence_where_the_engine_pickles(engine):
    channel = Channel()
    if isinstance(engine, ThreadPoolExecutor):
        assert parallel_map(type, [channel], pool=engine) == [Channel]
        return
    with pytest.raises(SerializationError, match=r"parmap's own workers") as caught:
        parallel_map(identity, [channel], pool=engine)
    assert (caught.value.path, caught.value.direction) == ("args[0]", "to worker")
    with pytest.raises(SerializationError, match=r"parmap's own workers") as caught:
        parallel_map(lambda _: Channel(), [1], pool=engine)
    assert (caught.value.path, caught.value.direction) == ("result", "to caller")


def test_progress_counts_items(engine):
    told = []
    parallel_map(double, range(50), pool=engine, progress=told.append)

    assert (told[-1].done, told[-1].failed, told[-1].total) == (50, 0, 50)


def test_nothing_of_a_call_that_failed_runs_on():
    ran = []
    with ThreadPoolExecutor(2) as engine:

        def note(x):
            ran.append(x)
            if x == 5:
                raise ValueError(x)

        with pytest.raises(ValueError, match="5"):
            parallel_map(note, range(10_000), pool=engine)
        at_the_end = len(ran)
        engine.submit(int).result(LIMIT)  # whatever was queued before it has run

        assert len(ran) == at_the_end < 10_000


def test_ctrl_c_does_not_wait_for_what_runs(tmp_path):
    gc.collect()  # or it may strike in a finaliser of another test's garbage, where Python drops it
    began, gate = Gate(tmp_path / "began"), Gate(tmp_path / "gate")

    def hold(_):
        began.open()
        gate.wait()

    def interrupt():
        began.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with ThreadPoolExecutor(2) as engine:
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                parallel_map(hold, range(4), pool=engine)
        finally:
            gate.open()
            thread.join()


def test_an_engine_that_breaks_says_so_itself():
    with ProcessPoolExecutor(1) as engine, pytest.raises(BrokenProcessPool):
        parallel_map(lambda x: os._exit(3) if x == 2 else x, range(5), pool=engine)


def test_an_engine_that_was_shut_down_says_so_itself():
    engine = ThreadPoolExecutor(1)
    engine.shutdown()

    with pytest.raises(RuntimeError, match="shutdown"):
        parallel_map(double, [1], pool=engine)


class Losing(Executor):
    """Runs in threads, and loses each chunk that holds a given item, as Dask does with its worker:
    along with what merely waits beside it."""

    def __init__(self, poison: object) -> None:
        self._engine = ThreadPoolExecutor(1)
        self._poison = poison
        self._beside: list[Future[object]] = []

    def submit(self, fn, /, *args, **kwargs):
        future: Future[object] = Future()
        self._beside = [each for each in self._beside if not each.done()] + [future]
        self._engine.submit(self._run, future, fn)
        return future

    def _run(self, future: Future[object], fn):
        if future.done():
            return
        if self._poison in fn._items:
            for each in list(self._beside):
                if not each.done():
                    each.set_exception(RuntimeError("worker died"))
        else:
            future.set_result(fn())

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._engine.shutdown(wait, cancel_futures=cancel_futures)


@given(items=st.integers(1, 60), poison=st.integers(0, 59))
def test_an_engine_that_loses_chunks_costs_the_guilty_item_only(items, poison):
    with Losing(poison) as engine:
        results = parallel_map(double, range(items), pool=engine, on_error="return")

    wrong = [index for index, each in enumerate(results) if each != double(index)]
    assert wrong == ([poison] if poison < items else [])
    for index in wrong:
        assert isinstance(results[index].error, WorkerLostError)
        assert isinstance(results[index].error.__cause__, RuntimeError)


def test_an_engine_that_cancels_a_chunk_ends_the_call():
    class Cancelling(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with Cancelling(1) as engine, pytest.raises(PoolClosedError, match="cancelled"):
        parallel_map(double, [1], pool=engine)


def test_wrong_combinations_are_refused(engine):
    with pytest.raises(TypeError, match="either pool or max_workers"):
        parallel_map(double, [1], pool=engine, max_workers=2)
    with pytest.raises(TypeError, match="Executor"):
        parallel_map(double, [1], pool=3)


def test_a_stream_that_is_closed_lets_the_engine_go_on(engine):
    results = parallel_imap(double, itertools.count(), pool=engine)
    assert next(results) == 0
    results.close()

    assert parallel_map(double, [1], pool=engine) == [2]


def test_failures_are_tried_again_and_rest_in_between(engine, tmp_path):
    def fail_twice(x):
        tries = len(list(tmp_path.glob(f"{x}-*")))
        (tmp_path / f"{x}-{tries}").touch()
        if x % 5 == 3 and tries < 2:
            raise OSError(x)
        return x

    retry = Retry(attempts=3, on=(OSError,), first_delay=0.01)
    assert parallel_map(fail_twice, range(20), pool=engine, retry=retry) == list(range(20))
    assert len(list(tmp_path.iterdir())) == 20 + 2 * 4


def test_the_last_attempt_is_told(engine):
    results = parallel_map(
        fail_if_odd, range(3), pool=engine, on_error="return", retry=Retry(2, ValueError)
    )

    assert results[::2] == [0, 2]
    assert results[1].attempts == 2
    assert "attempt 2" in results[1].error.__notes__[-1]


def test_a_limit_that_the_engine_cannot_keep_is_refused(engine):
    with pytest.raises(ValueError, match="task_timeout cannot be kept"):
        parallel_map(double, [1], pool=engine, task_timeout=1)
