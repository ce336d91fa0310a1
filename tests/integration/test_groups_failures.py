"""Groups that go wrong: who is stopped, what is raised, and how often."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from typing import Any

import pytest

from parmap import (
    RemoteError,
    SerializationError,
    TaskErrorGroup,
    WorkerGroup,
    WorkerLostError,
    WorkerStartError,
    failure_of,
    run_workers,
)
from support import group_tasks as tasks
from support.gates import Diary, Gate, alive, wait_until
from support.tasks import (
    START_METHODS,
    BreaksInPickle,
    BreaksInUnpickle,
    fail,
    hang,
    identity,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
EVERY_METHOD = pytest.mark.parametrize("method", START_METHODS)


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def diary(tmp_path):
    return Diary(tmp_path / "diary")


def the_only_one(group: TaskErrorGroup) -> Any:
    (error,) = group.exceptions
    return error


def functions_in(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


# ---------------------------------------------------------------------- the first failure


@EVERY_METHOD
def test_the_first_failure_stops_the_others_whose_finally_blocks_run(gate, diary, method):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup(start_method=method) as group:
        hanging = group.start(tasks.hang_and_tidy_up, gate, diary)
        failing = group.start(tasks.fail_behind, gate)

    error = the_only_one(info.value)
    assert repr(error) == "ValueError('failed')"
    assert diary.lines() == ["tidied up"]
    assert (hanging.exitcode, failing.exitcode) == (-signal.SIGTERM, 1)
    with pytest.raises(WorkerLostError, match="stopped with its group"):
        hanging.result()


@EVERY_METHOD
def test_who_ignores_sigterm_is_killed_after_the_grace_period(gate, method):
    begun = time.monotonic()
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup(start_method=method, grace=0.2) as g:
        deaf = g.start(tasks.hang_deaf, gate)
        g.start(tasks.fail_behind, gate)

    assert len(info.value.exceptions) == 1
    assert deaf.exitcode == -signal.SIGKILL
    assert time.monotonic() - begun >= 0.2


def test_sigterm_is_not_lost_in_a_finaliser(gate, diary, capfd):
    """Python swallows what strikes there: it comes again."""
    with WorkerGroup() as group:
        worker = group.start(tasks.hang_in_a_finaliser, gate, diary)
        gate.wait()
        worker.terminate()

    assert worker.exitcode == -signal.SIGTERM
    assert diary.lines() == ["tidied up"]
    assert capfd.readouterr().err == ""


def test_who_goes_when_told_is_not_kept_waiting_for_the_grace_period(gate, diary):
    begun = time.monotonic()
    with pytest.raises(TaskErrorGroup), WorkerGroup(grace=60) as group:
        group.start(tasks.hang_and_tidy_up, gate, diary)
        group.start(tasks.fail_behind, gate)

    assert time.monotonic() - begun < 20


def test_what_a_stopped_worker_raises_in_its_cleanup_is_no_failure(gate):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        stumbling = group.start(tasks.hang_and_stumble, gate)
        group.start(tasks.fail_behind, gate)

    assert [repr(error) for error in info.value.exceptions] == ["ValueError('failed')"]
    with pytest.raises(WorkerLostError, match="stopped with its group"):
        stumbling.result()


def test_a_worker_that_returns_when_told_has_returned(gate):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        returning = group.start(tasks.return_when_told, gate)
        group.start(tasks.fail_behind, gate)

    assert len(info.value.exceptions) == 1
    assert returning.result() == "told"


def test_several_that_fail_by_themselves_are_all_told_of(gate):
    """The second cannot be reached by the signal: it fails all the same, and by itself."""

    def fail_deaf():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        gate.open()
        while signal.SIGTERM not in signal.sigpending():
            time.sleep(0.001)
        raise KeyError("second")

    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(fail_deaf)
        group.start(tasks.fail_behind, gate, "first")

    assert [repr(e) for e in info.value.exceptions] == ["ValueError('first')", "KeyError('second')"]


@EVERY_METHOD
def test_a_worker_that_dies_is_a_failure(gate, method):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup(start_method=method) as group:
        group.start(tasks.leave_with, "signal", signal.SIGUSR1, name="crashing")
        group.start(hang, gate)

    error = the_only_one(info.value)
    assert isinstance(error, WorkerLostError)
    assert "worker crashing was killed by SIGUSR1" in str(error)


def test_somebody_elses_sigterm_is_a_failure(gate):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(hang, gate)
        gate.wait()
        # Again if need be: an exception that strikes inside a finaliser is swallowed by Python.
        while worker.is_alive():
            os.kill(worker.pid, signal.SIGTERM)
            worker.join(1.0)

    error = the_only_one(info.value)
    assert (type(error), error.signal) == (WorkerLostError, "SIGTERM")


def test_a_worker_that_its_owner_ended_does_not_stop_the_others(gate, tmp_path):
    done = Gate(tmp_path / "done")
    with WorkerGroup() as group:
        stumbling = group.start(tasks.hang_and_stumble, gate)
        other = group.start(tasks.wait_and_return, done, "value")
        gate.wait()
        stumbling.terminate()
        stumbling.join()
        assert other.is_alive()
        done.open()
    assert other.result() == "value"


def test_a_start_after_a_failure_gives_a_worker_that_was_stopped(diary):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(fail, 1).join()
        late = group.start(diary.write, "late")
        assert late.join()
        assert (late.pid, late.exitcode) == (None, None)

    assert len(info.value.exceptions) == 1
    assert diary.lines() == []
    with pytest.raises(WorkerLostError, match="stopped with its group"):
        late.result()


@EVERY_METHOD
def test_a_process_that_cannot_be_started_is_a_failure(gate, method, monkeypatch):
    from parmap._launch import contexts, zygote

    def refuse(self, name, control):
        raise OSError("no more processes")

    with pytest.raises(TaskErrorGroup) as info, WorkerGroup(start_method=method) as group:
        group.start(hang, gate)
        gate.wait()
        monkeypatch.setattr(zygote.ZygoteLauncher, "start", refuse)
        monkeypatch.setattr(contexts.ContextLauncher, "start", refuse)
        refused = group.start(identity, 1, name="late")
        assert refused.join()

    error = the_only_one(info.value)
    assert isinstance(error, WorkerStartError)
    assert "worker late could not be started: OSError: no more processes" in str(error)
    assert "ulimit -u, -v, -n" in error.hint


# ---------------------------------------------------------------------- what run_workers raises


def deep(rank):
    def deeper():
        raise ValueError(rank)

    if rank == 1:
        deeper()
    time.sleep(600)


def test_run_workers_raises_the_failure_itself_with_its_real_traceback():
    with pytest.raises(ValueError, match="1") as info:
        run_workers(deep, 3)

    assert functions_in(info.value)[-2:] == ["deep", "deeper"]
    assert "__call__" not in functions_in(info.value)
    assert failure_of(info.value).others == ()


def test_the_first_failure_knows_the_others(gate):
    def target(rank):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        if rank == 0:
            gate.wait()
            raise ValueError("first")
        gate.open()
        while signal.SIGTERM not in signal.sigpending():
            time.sleep(0.001)
        raise KeyError(rank)

    with pytest.raises(ValueError, match="first") as info:
        run_workers(target, 2)

    (other,) = failure_of(info.value).others
    assert (other.index, repr(other.error)) == (1, "KeyError(1)")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("k"), GeneratorExit()])
def test_run_workers_raises_what_is_no_exception_as_it_is(error):
    with pytest.raises(type(error)) as info:
        run_workers(lambda rank: tasks.leave_with("raise", error), 1)

    assert info.value.args == error.args
    assert failure_of(info.value).index == 0


def test_run_workers_ends_who_is_left_when_a_worker_is_lost(gate):
    def target(rank):
        if rank == 0:
            gate.wait()
            os._exit(5)
        hang(gate)

    with pytest.raises(WorkerLostError, match="exited with status 5") as info:
        run_workers(target, 3)

    assert (info.value.index, info.value.exitcode) == (0, 5)


# ---------------------------------------------------------------------- what a group raises


def test_the_bodys_own_error_comes_in_front_and_stops_the_workers(gate):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(hang, gate)
        gate.wait()
        raise RuntimeError("body")

    assert [repr(error) for error in info.value.exceptions] == ["RuntimeError('body')"]
    assert worker.exitcode == -signal.SIGTERM


def test_the_bodys_error_and_a_workers_failure_come_together():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(fail, 1).join()
        raise RuntimeError("body")

    assert [type(error) for error in info.value.exceptions] == [RuntimeError, ValueError]


def test_a_failure_that_the_body_raised_from_result_is_there_once():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(fail, 1).result()

    error = the_only_one(info.value)
    assert functions_in(error)[-1] == "fail"
    assert "bad item 1" in str(error)


@pytest.mark.parametrize("wait", ["result", "ready"])
def test_a_wait_for_a_worker_that_is_stopped_ends_with_the_failure_and_adds_no_error(gate, wait):
    """The body waits for one; another one fails."""
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        hanging = group.start(hang, gate)
        group.start(tasks.fail_behind, gate)
        with pytest.raises(ValueError, match="failed"):
            hanging.result()
        if wait == "result":
            hanging.result()
        group.ready(hanging)

    assert [repr(error) for error in info.value.exceptions] == ["ValueError('failed')"]


def test_an_error_that_the_body_made_of_such_news_is_its_own(gate):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        hanging = group.start(hang, gate)
        group.start(tasks.fail_behind, gate)
        try:
            hanging.result()
        except ValueError as error:
            raise LookupError("no partner") from error

    assert [type(error) for error in info.value.exceptions] == [LookupError, ValueError]


def test_a_handled_failure_of_a_worker_is_raised_at_the_end_all_the_same():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(fail, 1)
        with pytest.raises(ValueError, match="bad item"):
            worker.result()

    assert len(info.value.exceptions) == 1


@pytest.mark.parametrize("how", ["left alone", "raised by result"])
def test_a_system_exit_of_a_worker_is_the_cause_of_what_stands_for_it(how):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(tasks.leave_with, "sys.exit", 3)
        if how == "raised by result":
            worker.result()

    error = the_only_one(info.value)
    assert isinstance(error, RemoteError)
    assert repr(error.__cause__) == "SystemExit(3)"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_leaves_the_program_goes_through_the_block_as_itself(gate, error):
    with pytest.raises(type(error)) as info, WorkerGroup() as group:
        worker = group.start(hang, gate)
        gate.wait()
        raise error

    assert info.value is error
    assert worker.exitcode == -signal.SIGTERM


def test_except_star_takes_what_it_names():
    caught: list[Exception] = []
    try:
        with WorkerGroup() as group:
            group.start(fail, 1)
    except* ValueError as errors:
        caught += errors.exceptions

    assert len(caught) == 1


def test_the_same_failure_asked_for_again_does_not_grow():
    with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
        worker = group.start(fail, 1)

    lengths, errors = set(), []
    for _ in range(3):
        with pytest.raises(ValueError, match="bad item") as info:
            worker.result()
        lengths.add(len(functions_in(info.value)))
        errors.append(info.value)
    assert len(lengths) == 1
    assert errors[0] is errors[1] is errors[2]


def test_the_printed_group_shows_the_bodys_error_once():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup():
        raise RuntimeError("only once")

    assert "".join(traceback.format_exception(info.value)).count("RuntimeError: only once") == 1


# ---------------------------------------------------------------------- what cannot travel


def test_an_argument_that_cannot_be_pickled_is_refused_at_the_door():
    with WorkerGroup() as group:
        with pytest.raises(SerializationError, match=r"args.*cannot be sent to the worker"):
            group.start(identity, BreaksInPickle())
        assert group.start(identity, 1).result() == 1
        assert "0 of 1" in repr(group) or "1 of 1" in repr(group)


def test_an_argument_that_cannot_be_unpickled_fails_its_worker():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(identity, BreaksInUnpickle())

    error = the_only_one(info.value)
    assert (type(error), error.direction) == (SerializationError, "to worker")
    assert repr(error.__cause__) == "RuntimeError('I do not arrive')"
    assert worker.exitcode == 1


@pytest.mark.parametrize("value", [threading.Lock, BreaksInPickle])
def test_a_result_that_cannot_be_pickled_is_the_workers_failure(value):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(value)

    error = the_only_one(info.value)
    assert (type(error), error.direction) == (SerializationError, "to caller")
    assert worker.exitcode == 1


def test_a_result_that_cannot_be_unpickled_raises_where_it_is_asked_for():
    with WorkerGroup() as group:
        worker = group.start(BreaksInUnpickle)

    for _ in range(2):
        with pytest.raises(SerializationError, match="RuntimeError") as info:
            worker.result()
    assert info.value.direction == "to caller"
    with pytest.raises(SerializationError):
        run_workers(lambda rank: BreaksInUnpickle(), 1)


def test_an_exception_that_cannot_travel_has_a_stand_in():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(tasks.raise_odd)

    error = the_only_one(info.value)
    assert (type(error), error.code) == (tasks.OddError, 7) or type(error) is RemoteError
    assert functions_in(error)[-1] == "raise_odd"


def test_nobody_is_left_when_all_fail_at_once(diary):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        workers = [group.start(tasks.meet_and_fail, diary, 8) for _ in range(8)]

    assert 1 <= len(info.value.exceptions) <= 8
    assert not any(alive(worker.pid) for worker in workers)
    wait_until(lambda: all(not worker.is_alive() for worker in workers))
