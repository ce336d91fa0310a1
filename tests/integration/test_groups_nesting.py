"""Groups in threads, in workers, with much data: where else they are used."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from parmap import TaskErrorGroup, Worker, WorkerGroup, failure_of, parallel_map, run_workers
from support import group_tasks as tasks
from support.gates import Diary, Gate, alive, wait_until_dead
from support.tasks import START_METHODS, double, fail, hang, hang_in_c, identity

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
EVERY_METHOD = pytest.mark.parametrize("method", START_METHODS)
BIG = 100_000_000


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def diary(tmp_path):
    return Diary(tmp_path / "diary")


# ---------------------------------------------------------------------- threads


def test_many_threads_start_workers_of_one_group_at_once():
    """Each gets its own worker, and its own result."""
    barrier = threading.Barrier(8)

    with WorkerGroup() as group, ThreadPoolExecutor(8) as threads:

        def start(number):
            barrier.wait()
            return group.start(identity, number)

        workers = list(threads.map(start, range(8)))

    assert [worker.result() for worker in workers] == list(range(8))
    assert len({worker.name for worker in workers}) == 8


def test_many_threads_wait_for_one_worker(gate):
    with WorkerGroup() as group, ThreadPoolExecutor(4) as threads:
        worker = group.start(tasks.wait_and_return, gate, [1])
        waiting = [threads.submit(worker.result) for _ in range(4)]
        gate.open()
        results = [future.result() for future in waiting]

    assert results == [[1]] * 4
    assert len({id(result) for result in results}) == 1


def test_a_start_while_the_block_waits_for_the_others_is_waited_for_too(gate, diary):
    """A thread of ours starts one while the block's thread is already on its way out."""
    with WorkerGroup() as group:
        group.start(tasks.wait_and_return, gate)

        def late():
            while not group._loop._core._closed:  # type: ignore[attr-defined]  # of the Supervisor
                time.sleep(0)
            group.start(diary.write, "late")
            gate.open()

        thread = threading.Thread(target=late)
        thread.start()
    thread.join()

    assert diary.lines() == ["late"]


def test_a_thread_that_starts_workers_for_ever_is_told_when_the_group_has_ended():
    started: list[Worker[int]] = []
    told: list[str] = []

    with WorkerGroup() as group:

        def start_for_ever():
            try:
                while True:
                    started.append(group.start(identity, 1))
                    started[-1].join()
            except RuntimeError as error:
                told.append(str(error))

        thread = threading.Thread(target=start_for_ever)
        thread.start()
    thread.join(20)

    assert not thread.is_alive()
    assert "inside the `with` block" in told[0]
    assert not any(worker.is_alive() for worker in started)


@pytest.mark.parametrize("failing", [False, True])
def test_a_group_may_live_in_a_thread(failing):
    def run():
        return run_workers(fail if failing else identity, 2)

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(run)
        if failing:
            assert isinstance(future.exception(), ValueError)
        else:
            assert future.result() == [0, 1]


def test_groups_side_by_side_do_not_disturb_each_other(gate):
    with WorkerGroup() as group:
        worker = group.start(tasks.wait_and_return, gate, "value")
        with pytest.raises(TaskErrorGroup), WorkerGroup() as other:
            other.start(fail, 1)
        assert worker.is_alive()
        gate.open()
    assert worker.result() == "value"


# ---------------------------------------------------------------------- in workers


@EVERY_METHOD
def test_a_worker_may_have_workers_of_its_own(method):
    def inner(n, rank):
        return multiprocessing.parent_process().pid, n * rank

    def outer(rank):
        with WorkerGroup(start_method=method) as group:
            workers = [group.start(inner, n, rank) for n in range(2)]
            results = [worker.result() for worker in workers]
        return os.getpid(), results

    for rank, (pid, results) in enumerate(run_workers(outer, 2)):
        assert [value for _, value in results] == [0, rank]
        assert {parent for parent, _ in results} == {pid}


def test_a_failure_comes_up_through_two_groups():
    def outer(rank):
        run_workers(fail, 1)

    with pytest.raises(ValueError, match="bad item 0") as info:
        run_workers(outer, 1)

    assert failure_of(info.value).index == 0


def test_stopping_a_worker_stops_its_workers(gate, diary):
    def outer():
        with WorkerGroup() as group:
            group.start(tasks.hang_and_tidy_up, gate, diary)

    with WorkerGroup() as group:
        worker = group.start(outer)
        gate.wait()
        worker.terminate()

    assert diary.lines() == ["tidied up"]


def test_killing_a_worker_ends_its_workers(diary):
    def inner():
        diary.write(os.getpid())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(600)

    def outer():
        with WorkerGroup() as group:
            group.start(inner)

    with WorkerGroup() as group:
        worker = group.start(outer)
        (pid,) = map(int, diary.wait_for(1))
        worker.kill()
        wait_until_dead([pid], 2.0)


@EVERY_METHOD
def test_a_map_inside_a_worker(method):
    def outer(n):
        return parallel_map(double, range(n), max_workers=2)

    with WorkerGroup(start_method=method) as group:
        worker = group.start(outer, 5)
        assert worker.result() == [0, 2, 4, 6, 8]


def test_a_group_inside_an_item_of_a_map():
    def outer(n):
        return run_workers(lambda rank: rank * n, 2)

    assert parallel_map(outer, [1, 2], max_workers=2) == [[0, 1], [0, 2]]


def test_a_worker_that_leaves_a_pool_open_ends_all_the_same():
    def outer():
        from parmap import Pool

        pool = Pool(1, start_method="spawn")
        return pool.submit(os.getpid).result()

    with WorkerGroup() as group:
        worker = group.start(outer)

    wait_until_dead([worker.result()], 5.0)


# ---------------------------------------------------------------------- much data


@pytest.mark.parametrize("method", [None, "fork"])
def test_a_large_result_and_a_large_argument_arrive(method):
    data = bytearray(BIG)
    data[-1] = 7

    def target(received):
        received[0] = received[-1]
        return received

    with WorkerGroup(start_method=method) as group:
        worker = group.start(target, data)
        result = worker.result()

    assert (len(result), result[0], result[-1]) == (BIG, 7, 7)
    assert data[0] == 0


def test_a_worker_that_is_ended_while_it_sends_is_no_failure(gate):
    def target():
        gate.open()
        return bytearray(BIG)

    with WorkerGroup() as group:
        worker = group.start(target)
        gate.wait()
        worker.kill()
        worker.join()

    assert not alive(worker.pid)
    assert worker.exitcode in (0, -9)


def test_a_large_exception_arrives():
    with pytest.raises(ValueError, match="x" * 20) as info:
        run_workers(lambda rank: tasks.leave_with("raise", ValueError("x" * 10_000_000)), 1)

    assert len(str(info.value)) == 10_000_000


def test_a_value_whose_unpickling_waits_for_another_worker_of_the_group(gate):
    """Decoding runs the user's code in the caller's thread; the loop never waits for it."""
    with WorkerGroup() as group:
        other = group.start(tasks.wait_and_return, gate, "from the other")
        Curious.ask = lambda: (gate.open(), other.result())[1]
        worker = group.start(Curious)
        assert worker.result().answer == "from the other"


class Curious:
    """Asks something when it is unpickled."""

    ask: Any = staticmethod(lambda: None)
    answer: Any = None

    def __getstate__(self):
        return {"x": 1}

    def __setstate__(self, state):
        self.answer = type(self).ask()


def test_a_worker_in_c_that_hears_nothing_is_killed_after_the_grace_period(gate):
    with pytest.raises(TaskErrorGroup), WorkerGroup(grace=0.1) as group:
        worker = group.start(hang_in_c, gate)
        group.start(tasks.fail_behind, gate)

    assert worker.exitcode == -signal.SIGKILL


def test_hanging_workers_cost_no_cpu_in_the_parent(gate):
    with WorkerGroup() as group:
        worker = group.start(hang, gate)
        gate.wait()
        before = time.thread_time(), time.process_time()
        worker.join(0.3)
        assert time.process_time() - before[1] < 0.15
        worker.kill()
