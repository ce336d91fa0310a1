"""Workers that are started again, and workers that say when they are ready."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest

import parmap
from parmap import (
    Restart,
    SerializationError,
    TaskErrorGroup,
    WorkerGroup,
    WorkerLostError,
    failure_of,
    report_ready,
    run_workers,
)
from support import group_tasks as tasks
from support.gates import Diary, Gate, wait_until
from support.tasks import START_METHODS, BreaksInPickle, fail, hang, identity

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
EVERY_METHOD = pytest.mark.parametrize("method", START_METHODS)
FAR = 3600.0


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def diary(tmp_path):
    return Diary(tmp_path / "diary")


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "parmap")


# ---------------------------------------------------------------------- restarts


@pytest.mark.parametrize(
    ("method", "how"), [(None, "raise"), *((method, "die") for method in START_METHODS)]
)
def test_a_failing_worker_is_started_again_within_its_budget(diary, method, how):
    with WorkerGroup(start_method=method) as group:
        worker = group.start(tasks.die_first, 2, diary, how, restart=Restart(max_restarts=2))
        assert worker.result() == "start 3"

    pids = diary.numbers()
    assert len(set(pids)) == 3
    assert (worker.pid, worker.exitcode) == (pids[-1], 0)


@pytest.mark.parametrize("how", ["raise", "die"])
def test_when_the_budget_is_spent_the_failure_counts(gate, diary, how):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        sibling = group.start(hang, gate)
        group.start(tasks.die_first, 9, diary, how, restart=Restart(max_restarts=2))

    (error,) = info.value.exceptions
    assert type(error) is (ValueError if how == "raise" else WorkerLostError)
    assert failure_of(error).attempts == 3
    assert "attempt 3" in error.__notes__[-1]
    assert len(diary.lines()) == 3
    assert sibling.exitcode == -signal.SIGTERM


def test_no_restarts_means_none(diary):
    with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
        group.start(tasks.die_first, 1, diary, restart=Restart(max_restarts=0))

    assert len(diary.lines()) == 1


def test_a_restart_leaves_the_others_alone(gate, diary):
    with WorkerGroup() as group:
        other = group.start(tasks.wait_and_return, gate, "value")
        group.start(tasks.die_first, 1, diary, restart=Restart()).join()
        assert other.is_alive()
        gate.open()
    assert other.result() == "value"


def test_a_restart_waits_for_its_delay(diary):
    begun = time.monotonic()
    with WorkerGroup() as group:
        group.start(tasks.die_first, 1, diary, restart=Restart(delay=0.3))

    assert time.monotonic() - begun >= 0.3
    assert len(diary.lines()) == 2


def pending(group, diary):
    """A worker that has failed and is to be started again in an hour."""
    worker = group.start(tasks.die_first, 1, diary, restart=Restart(delay=FAR))
    diary.wait_for(1)
    sleeping = group._loop._core._members[1]
    wait_until(lambda: sleeping.state.name == "WAITING", "the death of the first process")
    return worker


def test_a_worker_that_waits_for_its_restart_is_alive(diary):
    with WorkerGroup() as group:
        worker = pending(group, diary)
        assert worker.is_alive()
        assert worker.exitcode is None
        assert not worker.join(0)
        worker.terminate()
        assert worker.join()
    assert len(diary.lines()) == 1


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_worker_that_waits_for_its_restart_can_be_ended(diary, end):
    with WorkerGroup() as group:
        worker = pending(group, diary)
        getattr(worker, end)()

    with pytest.raises(WorkerLostError, match="ended by its owner"):
        worker.result()


def test_a_block_that_raises_does_not_wait_for_a_restart(diary):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = pending(group, diary)
        raise RuntimeError("body")

    assert len(info.value.exceptions) == 1
    assert not worker.is_alive()


def test_a_failure_elsewhere_does_not_wait_for_a_restart(diary):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = pending(group, diary)
        group.start(fail, 1)

    assert len(info.value.exceptions) == 1
    with pytest.raises(WorkerLostError, match="stopped with its group"):
        worker.result()


def test_a_worker_that_its_owner_ends_is_not_started_again(gate):
    with WorkerGroup() as group:
        worker = group.start(hang, gate, restart=Restart())
        gate.wait()
        worker.terminate()

    assert worker.exitcode == -signal.SIGTERM


def test_the_log_tells_of_a_restart(diary, caplog):
    caplog.set_level(logging.WARNING, "parmap")
    with WorkerGroup() as group:
        group.start(tasks.die_first, 1, diary, name="flaky", restart=Restart())

    (record,) = caplog.records
    assert record.getMessage() == "worker flaky: raised (exit code 1), starting it again in 0 s"


def test_arguments_are_the_same_at_each_start(diary):
    def collect(items):
        items.append(len(items))
        diary.write(items)
        if len(diary.lines()) < 3:
            os._exit(1)

    with WorkerGroup() as group:
        group.start(collect, [], restart=Restart())

    assert diary.lines() == ["[0]", "[0]", "[0]"]


@pytest.mark.parametrize(
    "fields",
    [{"max_restarts": -1}, {"max_restarts": 1.5}, {"within": -1}, {"delay": float("inf")}],
)
def test_a_budget_is_checked_at_the_door(fields):
    with pytest.raises((TypeError, ValueError), match=next(iter(fields))):
        Restart(**fields)


# ---------------------------------------------------------------------- readiness


@EVERY_METHOD
def test_a_worker_says_that_it_is_ready_and_runs_on(gate, method):
    def serve():
        report_ready({"port": 8080})
        gate.wait()
        return "served"

    with WorkerGroup(start_method=method) as group:
        server = group.start(serve)
        assert group.ready(server, timeout=20) == {"port": 8080}
        assert group.ready(server) == {"port": 8080}
        assert server.is_alive()
        gate.open()
        assert server.result() == "served"
        assert group.ready(server) == {"port": 8080}


def test_the_latest_news_counts(diary, gate):
    def serve():
        for number in range(3):
            report_ready(number)
        diary.write("said")
        gate.wait()

    with WorkerGroup() as group:
        server = group.start(serve)
        diary.wait_for(1)
        wait_until(lambda: group.ready(server) == 2, "the latest news")
        gate.open()


def test_any_thread_of_the_worker_may_say_so():
    def serve():
        thread = threading.Thread(target=report_ready, args=("from a thread",))
        thread.start()
        thread.join()

    with WorkerGroup() as group:
        assert group.ready(group.start(serve)) == "from a thread"


def test_nothing_is_a_value_too():
    with WorkerGroup() as group:
        assert group.ready(group.start(report_ready)) is None


def test_waiting_for_readiness_has_a_timeout(gate):
    with WorkerGroup() as group:
        worker = group.start(tasks.wait_and_return, gate, name="slow")
        with pytest.raises(TimeoutError, match="worker slow was not ready within 0"):
            group.ready(worker, timeout=0)
        gate.open()


def test_a_worker_that_dies_first_raises_what_its_result_raises():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(fail, 1)
        with pytest.raises(ValueError, match="bad item 1"):
            group.ready(worker)
        group.ready(worker)

    assert len(info.value.exceptions) == 1


def test_a_worker_that_returns_without_a_word_is_an_error_of_the_program():
    with WorkerGroup() as group:
        worker = group.start(identity, 1, name="silent")
        with pytest.raises(RuntimeError, match="worker silent returned without calling"):
            group.ready(worker)


def test_news_that_cannot_be_pickled_raises_where_it_is_waited_for(gate):
    def serve():
        report_ready(BreaksInPickle())
        gate.wait()

    with WorkerGroup() as group:
        worker = group.start(serve)
        with pytest.raises(SerializationError):
            group.ready(worker)
        gate.open()


def test_after_a_restart_the_old_news_is_forgotten(diary, gate, tmp_path):
    again = Gate(tmp_path / "again")

    def serve():
        diary.write("start")
        count = len(diary.lines())
        if count == 2:
            gate.wait()
        report_ready(count)
        if count == 1:
            again.wait()
            os._exit(1)

    with WorkerGroup() as group:
        worker = group.start(serve, restart=Restart())
        assert group.ready(worker) == 1
        again.open()
        diary.wait_for(2)
        with pytest.raises(TimeoutError):
            group.ready(worker, timeout=0)
        gate.open()
        assert group.ready(worker) == 2


def test_outside_a_worker_of_a_group_there_is_nobody_to_tell():
    with pytest.raises(RuntimeError, match="this process is none"):
        report_ready()
    with pytest.raises(RuntimeError, match="this process is none"):
        parmap.parallel_map(report_ready, [1], max_workers=1)


def test_a_process_that_a_worker_forks_is_no_worker():
    def target(rank):
        pid = os.fork()
        if pid:
            return os.waitpid(pid, 0)[1]
        try:
            report_ready()
        except RuntimeError:
            os._exit(0)
        os._exit(1)

    assert run_workers(target, 1) == [0]
