"""Groups that go well: SPMD and mixed, and what a worker is from inside and from outside."""

from __future__ import annotations

import functools
import multiprocessing
import operator
import os
import pickle
import signal
import time
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

import pytest

import parmap
from parmap import (
    CallTimeoutError,
    SerializationError,
    TaskErrorGroup,
    Worker,
    WorkerGroup,
    WorkerLostError,
    failure_of,
    run_workers,
)
from support import group_tasks as tasks
from support.gates import Diary, Gate, alive, wait_until, wait_until_dead
from support.tasks import START_METHODS, identity, segfault

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
EVERY_METHOD = pytest.mark.parametrize("method", START_METHODS)


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def diary(tmp_path):
    return Diary(tmp_path / "diary")


# ---------------------------------------------------------------------- run_workers


def test_each_worker_gets_its_rank_and_the_same_arguments():
    assert run_workers(tasks.add_to_rank, 3, 10, factor=2) == [20, 22, 24]


def test_all_run_at_the_same_time_in_processes_of_their_own(diary):
    pids = run_workers(lambda rank: diary.meet(4), 4)

    assert len({os.getpid(), *pids}) == 5


def test_one_worker_is_a_group_too():
    assert run_workers(identity, 1) == [0]


def test_a_closure_and_what_it_holds_travel():
    base = {"base": 5}

    class Point:
        def __init__(self, x):
            self.x = x

    points = run_workers(lambda rank: Point(rank + base["base"]), 2)

    assert [type(point) for point in points] == [Point, Point]
    assert [point.x for point in points] == [5, 6]


def test_names_are_given_or_made_of_the_function_and_the_rank():
    def name(rank):
        return multiprocessing.current_process().name

    assert run_workers(name, 2) == ["name-0", "name-1"]
    assert run_workers(name, 2, names=["left", "right"]) == ["left", "right"]
    assert run_workers(name, 2, names=tuple("ab")) == ["a", "b"]


def test_fifty_workers_at_once():
    assert run_workers(identity, 50) == list(range(50))


def test_a_call_that_takes_too_long_ends_and_gives_what_was_there():
    def target(rank):
        if rank == 1:
            time.sleep(600)
        return rank

    with pytest.raises(CallTimeoutError) as info:
        run_workers(target, 2, timeout=1.0)

    first, second = cast("list[Any]", info.value.results)
    assert first == 0 or isinstance(first.error, WorkerLostError)  # a busy machine may be late
    assert isinstance(second.error, WorkerLostError)
    assert isinstance(info.value, TimeoutError)


@pytest.mark.parametrize("count", [[1, 2], range(3), "3", 2.0, None, True])
def test_a_count_that_is_no_number_is_most_likely_the_items(count):
    text = "^count is the number of processes; to run over items use parallel_map"
    with pytest.raises(TypeError, match=text):
        run_workers(identity, count)


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_a_type_error_too(count):
    with pytest.raises(TypeError, match=r"^count is the number of processes"):
        run_workers(identity, count)


@pytest.mark.parametrize("names", ["ab", [1, 2], 3])
def test_names_must_be_strings(names):
    with pytest.raises(TypeError, match="names must be"):
        run_workers(identity, 2, names=names)


def test_there_must_be_a_name_for_each():
    with pytest.raises(ValueError, match="one for each worker"):
        run_workers(identity, 2, names=["a"])


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_a_timeout_must_be_a_duration(timeout):
    with pytest.raises(ValueError, match="timeout"):
        run_workers(identity, 1, timeout=timeout)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="target must be callable"):
        run_workers(cast("Any", 3), 2)


@pytest.mark.parametrize("ours", ["names", "timeout"])
def test_a_parameter_with_a_name_of_ours_is_refused_and_the_cure_named(ours):
    namespace: dict[str, Any] = {}
    exec(f"def target(rank, {ours}=1): return rank, {ours}", namespace)

    with pytest.raises(TypeError, match=rf"functools\.partial\(fn, {ours}="):
        run_workers(namespace["target"], 1)


# ---------------------------------------------------------------------- a group


@EVERY_METHOD
def test_workers_with_different_functions_give_results_of_their_own(method):
    captured = 7
    with WorkerGroup(start_method=method) as group:
        power = group.start(pow, 2, 10)
        closure = group.start(lambda: captured * 2)
        by_name = group.start(tasks.add_to_rank, 1, 2, factor=3, name="third")

        assert (power.result(), closure.result(), by_name.result()) == (1024, 14, 9)
    assert power.result() == 1024


@EVERY_METHOD
def test_a_worker_knows_who_it_is(method):
    with WorkerGroup(start_method=method) as group:
        worker = group.start(tasks.who_am_i, name="producer")
        told = worker.result()

    me = multiprocessing.current_process()
    assert told == {
        "name": "producer",
        "pid": worker.pid,
        "alive": True,
        "os pid": worker.pid,
        "comm": "producer",
        "logged": f"producer {worker.pid}",
        "parent": (me.name, os.getpid(), True),
        "main": True,
    }
    assert worker.name == "producer"


@pytest.mark.parametrize("name", ["ein Name mit Lücken", "名前" * 20, "a/b", "x" * 99, "\ud800"])
def test_any_string_is_a_name(name):
    with WorkerGroup() as group:
        told = group.start(tasks.who_am_i, name=name).result()

    assert told["name"] == name
    if name.isascii():
        assert told["comm"] == name[:15]


def test_ps_shows_the_name_while_the_worker_runs(gate):
    with WorkerGroup() as group:
        worker = group.start(tasks.wait_and_return, gate, name="shown-by-ps")
        comm = f"/proc/{worker_pid(worker)}/comm"
        wait_until(lambda: Path(comm).read_text() == "shown-by-ps\n", "the name in ps")
        gate.open()


def worker_pid(worker):
    return wait_until(lambda: worker.pid, "the process")


def test_a_name_is_made_of_the_function_when_none_is_given():
    with WorkerGroup() as group:
        workers: list[Worker[Any]] = [
            group.start(tasks.who_am_i),
            group.start(functools.partial(int, 3)),
        ]
        assert workers[0].result()["name"] == "who_am_i-1"
    assert [worker.name for worker in workers] == ["who_am_i-1", "partial-2"]


def test_a_name_must_be_a_string():
    with WorkerGroup() as group, pytest.raises(TypeError, match="name must be a string, not int"):
        group.start(identity, 1, name=cast("Any", 5))


def test_what_is_no_worker_and_no_timeout_is_refused():
    with WorkerGroup() as group:
        worker = group.start(identity, 1)
        with pytest.raises(TypeError, match="worker must be what start"):
            group.ready(cast("Any", 5))
        for wait in (worker.join, worker.result, lambda timeout: group.ready(worker, timeout)):
            with pytest.raises(
                TypeError, match="timeout must be a number of seconds or None, not str"
            ):
                wait(cast("Any", "soon"))
        assert worker.join(float("inf"))
        assert worker.result(-1) == 1


@EVERY_METHOD
def test_a_worker_has_a_pid_as_soon_as_it_was_started(gate, method):
    with WorkerGroup(start_method=method) as group:
        worker = group.start(gate.wait)
        pid = worker.pid
        assert pid is not None
        assert alive(pid)
        gate.open()
    assert worker.pid == pid


@pytest.mark.parametrize("ours", ["name", "restart"])
def test_a_parameter_of_the_function_with_a_name_of_ours_is_refused(ours):
    namespace: dict[str, Any] = {}
    exec(f"def target({ours}): return {ours}", namespace)

    with WorkerGroup() as group, pytest.raises(TypeError, match=rf"partial\(fn, {ours}="):
        group.start(namespace["target"], 1)


@pytest.mark.parametrize("parameters", ["name, /", "*name", "**name"])
def test_a_parameter_that_no_keyword_can_fill_is_no_clash(parameters):
    namespace: dict[str, Any] = {}
    exec(f"def target({parameters}): return 7", namespace)
    arguments = [] if parameters == "**name" else [1]

    with WorkerGroup() as group:
        assert group.start(namespace["target"], *arguments, name="ours").result() == 7


@pytest.mark.parametrize("ours", ["name", "restart"])
def test_the_cure_for_such_a_parameter_cures(ours):
    namespace: dict[str, Any] = {}
    exec(f"def target(x, {ours}): return x, {ours}", namespace)

    with WorkerGroup() as group:
        worker = group.start(functools.partial(namespace["target"], **{ours: "bound"}), 1)
        assert worker.result() == (1, "bound")


# ---------------------------------------------------------------------- exit codes


@EVERY_METHOD
@pytest.mark.parametrize(
    ("how", "code", "exitcode"),
    [("sys.exit", 3, 3), ("os._exit", 4, 4), ("raise", ValueError(), 1), ("signal", 9, -9)],
)
def test_the_exit_code_tells_how_it_ended(method, how, code, exitcode):
    with pytest.raises(TaskErrorGroup), WorkerGroup(start_method=method) as group:
        worker = group.start(tasks.leave_with, how, code)

    assert worker.exitcode == exitcode


@pytest.mark.parametrize(
    ("how", "code", "exitcode"),
    [
        ("sys.exit", "a message", 1),
        ("sys.exit", -1, 255),
        ("os._exit", 0, 0),
        ("raise", KeyboardInterrupt(), 1),
        ("signal", signal.SIGSEGV, -signal.SIGSEGV),
        ("signal", signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_the_exit_code_is_what_a_process_of_multiprocessing_would_have(how, code, exitcode, capfd):
    with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
        worker = group.start(tasks.leave_with, how, code)

    assert worker.exitcode == exitcode
    assert capfd.readouterr().err == ("a message\n" if code == "a message" else "")


@pytest.mark.parametrize("code", [0, None])
def test_leaving_with_status_0_is_no_failure(code):
    with WorkerGroup() as group:
        worker = group.start(tasks.leave_with, "sys.exit", code)

    assert (worker.exitcode, worker.result()) == (0, None)


def test_why_it_died_is_told_in_words():
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(tasks.leave_with, "signal", 9, name="victim")

    (error,) = info.value.exceptions
    assert isinstance(error, WorkerLostError)
    assert "worker victim was killed by SIGKILL" in str(error)
    assert (error.exitcode, error.signal, error.attempts, error.index) == (-9, "SIGKILL", 1, 0)
    assert error.peak_rss is not None
    assert error.peak_rss > 1 << 20
    assert error.oom_kills in (0, None)  # None where the kernel does not tell


@EVERY_METHOD
def test_the_last_stack_of_one_that_crashed_is_shown(method):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup(start_method=method) as group:
        group.start(segfault)

    (error,) = info.value.exceptions
    assert isinstance(error, WorkerLostError)
    assert error.stack is not None
    assert "in segfault" in error.stack
    assert error.stack in str(error)


# ---------------------------------------------------------------------- a Worker from outside


@EVERY_METHOD
def test_a_worker_is_alive_until_it_has_ended(gate, method):
    with WorkerGroup(start_method=method) as group:
        worker = group.start(tasks.wait_and_return, gate, "value")

        assert worker.is_alive()
        assert worker.exitcode is None
        assert not worker.join(0)
        with pytest.raises(TimeoutError, match="has not ended within 0"):
            worker.result(0)
        gate.open()
        assert worker.join()
        assert not worker.is_alive()
        assert worker.exitcode == 0
        assert not alive(worker.pid)
        assert worker.result(0) == "value"


@EVERY_METHOD
def test_the_sentinel_is_for_waiting_together_with_others(gate, tmp_path, method):
    never = Gate(tmp_path / "never")
    with WorkerGroup(start_method=method) as group:
        first = group.start(tasks.wait_and_return, gate)
        sentinel = first.sentinel
        second = group.start(tasks.wait_and_return, never)  # under fork it has copies of it all
        wait_until(lambda: second.pid, "the second")

        assert connection.wait([sentinel, second.sentinel], timeout=0) == []
        gate.open()
        assert connection.wait([sentinel, second.sentinel], timeout=20) == [sentinel]
        assert not first.is_alive()
        never.open()
    assert connection.wait([second.sentinel, first.sentinel], timeout=0) != []
    assert first.sentinel == sentinel


@EVERY_METHOD
def test_terminate_lets_finally_run_and_is_no_failure(gate, diary, method):
    with WorkerGroup(start_method=method) as group:
        worker = group.start(tasks.hang_and_tidy_up, gate, diary)
        gate.wait()
        worker.terminate()
        assert worker.join()

    assert worker.exitcode == -signal.SIGTERM
    assert diary.lines() == ["tidied up"]


@EVERY_METHOD
def test_kill_ends_it_at_once_and_is_no_failure(gate, method):
    with WorkerGroup(start_method=method) as group:
        worker = group.start(tasks.hang_deaf, gate)
        other = group.start(identity, 5)
        gate.wait()
        worker.kill()
        assert worker.join()

        with pytest.raises(WorkerLostError, match="ended by its owner"):
            worker.result()
    assert (worker.exitcode, other.result()) == (-9, 5)


def test_a_worker_can_be_ended_before_it_has_begun():
    with WorkerGroup() as group:
        workers = [group.start(time.sleep, 600) for _ in range(2)]
        workers[0].terminate()
        workers[1].kill()

    assert [worker.exitcode for worker in workers] == [-15, -9]


def test_ending_a_worker_twice_or_after_its_end_does_no_harm():
    with WorkerGroup() as group:
        worker = group.start(identity, 1)
        worker.join()
        for end in (worker.terminate, worker.kill, worker.terminate):
            end()
    worker.kill()

    assert worker.result() == 1


@pytest.mark.parametrize("handle", ["worker", "group"])
def test_handles_stay_in_their_process(handle):
    with WorkerGroup() as group:
        handles: dict[str, object] = {"group": group, "worker": group.start(identity, 1)}
        with pytest.raises(SerializationError, match="stays in the process"):
            pickle.dumps(handles[handle])
        with pytest.raises(SerializationError):
            group.start(identity, handles[handle])


def test_reprs_tell_the_state(gate):
    with WorkerGroup() as group:
        worker = group.start(tasks.wait_and_return, gate, name="w")
        pid = worker_pid(worker)
        assert repr(worker) == f"<Worker w: running, pid {pid}>"
        assert "1 of 1 workers alive" in repr(group)
        gate.open()
    assert repr(worker) == "<Worker w: returned, exit code 0>"
    assert "0 of 1 workers alive" in repr(group)


# ---------------------------------------------------------------------- the block


def test_a_normal_end_of_the_block_waits_for_all(diary):
    with WorkerGroup() as group:
        for _ in range(3):
            group.start(diary.meet, 3)

    assert len(diary.lines()) == 3


def test_an_empty_block_is_fine():
    with WorkerGroup():
        pass


def test_workers_are_started_inside_the_block_only():
    group = WorkerGroup()
    with pytest.raises(RuntimeError, match="inside the `with` block"):
        group.start(identity, 1)
    with group:
        pass
    with pytest.raises(RuntimeError, match="inside the `with` block"):
        group.start(identity, 1)
    assert "0 of 0" in repr(group)


def test_a_group_is_used_once():
    group = WorkerGroup()
    with group:
        pass
    with pytest.raises(RuntimeError, match="used once"):
        group.__enter__()


@pytest.mark.parametrize("grace", [-1, "2", float("inf")])
def test_a_grace_period_is_a_duration(grace):
    with pytest.raises((TypeError, ValueError), match="grace"):
        WorkerGroup(grace=grace)


def test_an_unknown_start_method_is_refused():
    with pytest.raises(ValueError, match="forkserver"):
        WorkerGroup(start_method="magic")


def test_a_restart_policy_must_be_one():
    with WorkerGroup() as group, pytest.raises(TypeError, match=r"parmap\.Restart"):
        group.start(identity, 1, restart=cast("Any", 3))


def test_a_worker_that_nobody_holds_runs_all_the_same(diary):
    with WorkerGroup() as group:
        group.start(diary.write, "ran")

    assert diary.lines() == ["ran"]


def test_a_forked_child_hears_no_news_of_its_parents_workers(gate):
    """It asks, and is not kept waiting for ever."""
    with WorkerGroup() as group:
        worker = group.start(tasks.wait_and_return, gate)
        pid = os.fork()
        if pid == 0:
            quiet = not worker.join()
            try:
                group.start(identity, 1)
            except RuntimeError:
                os._exit(0 if quiet else 2)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        gate.open()
    assert worker.exitcode == 0


def test_the_parents_signal_does_not_reach_a_stranger(gate):
    """A worker that is gone is not signalled, whoever has its pid now."""
    with WorkerGroup() as group:
        worker = group.start(identity, 1)
        worker.join()
        wait_until_dead([worker.pid])
        worker.kill()


def test_a_failure_knows_its_rank_and_worker():
    def target(rank):
        return operator.truediv(1, rank - 1)

    with pytest.raises(ZeroDivisionError) as info:
        run_workers(target, 2, names=["a", "b"])

    failure = failure_of(info.value)
    assert (failure.index, failure.attempts, failure.error) == (1, 1, info.value)
    assert any("worker b (pid " in note for note in info.value.__notes__)


def test_the_names_of_this_chapter_are_public():
    assert {"Restart", "Worker", "WorkerGroup", "report_ready", "run_workers"} <= set(
        parmap.__all__
    )
