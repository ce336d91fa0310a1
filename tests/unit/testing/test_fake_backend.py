"""`FakeBackend`: a test decides how each item ends, and when."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from parmap import PoolClosedError, Retry, TaskFailure, WorkerLostError, parallel_imap, parallel_map
from parmap.testing import FakeBackend


@pytest.fixture
def backend():
    with FakeBackend(workers=3) as fake:
        yield fake


@pytest.fixture
def threads(backend):  # ends after the backend, which frees whoever waits
    with ThreadPoolExecutor() as executor:
        yield executor
        backend.shutdown()


def test_results_have_the_order_of_the_items_whatever_the_order_of_their_ends(backend, threads):
    call = threads.submit(parallel_map, str.upper, ["a", "b", "c"], pool=backend)
    a, b, c = backend.wait_for(3)

    for task in (c, a, b):
        task.finish()

    assert call.result() == ["A", "B", "C"]
    assert [(task.index, task.item, task.attempt) for task in (a, b, c)] == [
        (0, "a", 1), (1, "b", 1), (2, "c", 1),
    ]  # fmt: skip


def test_a_stream_gives_what_has_ended_first(backend, threads):
    results = parallel_imap(str.upper, ["a", "b"], ordered=False, pool=backend)
    first = threads.submit(next, results)
    a, b = backend.wait_for(2)

    b.finish()

    assert first.result() == "B"
    a.finish("made up")
    assert list(results) == ["made up"]


def test_a_failure_is_the_items_own(backend, threads):
    call = threads.submit(parallel_map, abs, [1, 2], pool=backend, on_error="return")
    one, two = backend.wait_for(2)
    error = OSError("the disk is full")

    one.fail(error)
    two.finish()

    failure, result = call.result()
    assert isinstance(failure, TaskFailure)
    assert failure.error is error
    assert result == 2


def test_a_loss_is_charged_and_retried(backend, threads):
    call = threads.submit(parallel_map, abs, [-1], pool=backend, retry=Retry(2))

    backend.wait_for()[0].lose()
    (again,) = backend.wait_for()

    assert again.attempt == 2
    again.finish()
    assert call.result() == [1]


def test_a_loss_without_retry_is_a_lost_worker(backend, threads):
    call = threads.submit(parallel_map, abs, [-1, -2], pool=backend, on_error="return")
    one, two = backend.wait_for(2)

    one.lose(exitcode=-11)
    two.finish()

    failure, result = call.result()
    assert isinstance(failure.error, WorkerLostError)
    assert (failure.error.index, failure.error.signal, result) == (0, "SIGSEGV", 2)


def test_only_so_many_run_at_a_time():
    with FakeBackend(workers=1) as backend:
        futures = [backend.submit(abs, -number) for number in range(3)]

        (first,) = backend.running
        first.finish()
        (second,) = backend.running

        assert (first.item, second.item) == ((0,), (-1,))
        assert [future.done() for future in futures] == [True, False, False]
        assert futures[2].cancel()
        second.finish()
        assert backend.running == []
        with pytest.raises(CancelledError):
            futures[2].result()


def test_submitted_tasks_end_in_the_same_ways(backend):
    futures = [backend.submit(abs, -number) for number in range(3)]
    one, two, three = backend.running

    one.finish()
    two.fail(OSError())
    three.lose()

    assert futures[0].result() == 0
    assert isinstance(futures[1].exception(), OSError)
    assert isinstance(futures[2].exception(), WorkerLostError)


def test_what_a_function_raises_is_its_tasks_error(backend):
    future = backend.submit(int, "x")

    backend.running[0].finish()

    assert isinstance(future.exception(), ValueError)


def test_a_task_ends_once(backend):
    backend.submit(abs, 1)
    (task,) = backend.running
    task.finish()

    with pytest.raises(RuntimeError, match="does not run"):
        task.lose()


def test_shutdown_frees_who_waits(threads):
    backend = FakeBackend(1)
    call = threads.submit(parallel_map, abs, [1, 2], pool=backend)
    backend.wait_for(1)

    backend.shutdown()

    assert isinstance(call.exception(), PoolClosedError)
    with pytest.raises(PoolClosedError):
        backend.submit(abs, 1)


def test_waiting_in_vain_says_how_many_there_are(backend):
    with pytest.raises(TimeoutError, match="0 tasks run"):
        backend.wait_for(1, timeout=0)
    with pytest.raises(ValueError, match="never more than 3"):
        backend.wait_for(4)
    with pytest.raises(ValueError, match="workers"):
        FakeBackend(0)


def test_a_task_may_be_ended_from_any_thread(backend):
    future = backend.submit(threading.get_ident)
    (task,) = backend.running
    thread = threading.Thread(target=task.finish)
    thread.start()
    thread.join()

    assert future.result() == thread.ident
    assert "FakeBackend of 3 workers: 0 tasks run, 0 wait" in repr(backend)
