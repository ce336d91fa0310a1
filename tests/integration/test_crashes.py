"""A worker that dies costs the item that it was running, and nothing else; nothing ever hangs."""

# mypy: disable-error-code="attr-defined"
# What is looked at is what a lost worker's error has, and only that.

from __future__ import annotations

import ctypes
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor

import pytest

from parmap import (
    Pool,
    TaskErrorGroup,
    TaskFailure,
    WorkerLostError,
    WorkerStartError,
    failure_of,
    parallel_imap,
    parallel_map,
    shutdown,
)
from parmap._launch.zygote import Nursery
from support.gates import Diary, Gate, alive, all_workers, wait_until, wait_until_dead
from support.scripts import LIMIT, output_of
from support.tasks import (
    START_METHODS,
    KillsInPickle,
    KillsInUnpickle,
    double,
    exit_now,
    hang,
    identity,
    kill_self,
    pid_of,
    segfault,
)


def exhaust_memory(_=None):
    """As a program that the kernel, or its own limit, stops."""
    soft = 400 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))
    hoard = []
    while True:
        hoard.append(bytearray(8 * 1024 * 1024))


def abort(_=None):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


DEATHS = {
    "SIGKILL": (kill_self, -9, "SIGKILL", "out of memory"),
    "segfault": (segfault, -11, "SIGSEGV", "segmentation fault"),
    "abort": (abort, -6, "SIGABRT", "abort"),
    "exit 0": (lambda: exit_now(0), 0, None, "exited with status 0"),
    "exit 3": (lambda: exit_now(3), 3, None, "exited with status 3"),
    "SIGTERM by itself": (lambda: kill_self(signal.SIGUSR1), -10, "SIGUSR1", "SIGUSR1"),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("chunksize", [None, 100], ids=["adaptive", "one chunk"])
def test_a_worker_that_dies_costs_only_the_item_it_was_running(death, chunksize, tmp_path):
    die, exitcode, name, words = DEATHS[death]
    ran = Diary(tmp_path / "ran")

    def task(x):
        ran.write(x)
        if x == 37:
            die()
        return x

    with Pool(2) as pool:
        results = parallel_map(task, range(100), on_error="return", chunksize=chunksize, pool=pool)
        after = parallel_map(double, range(10), pool=pool)

    lost = results[37]
    assert type(lost) is TaskFailure
    assert [r for r in results if r is not lost] == [x for x in range(100) if x != 37]
    error = lost.error
    assert isinstance(error, WorkerLostError)
    assert (error.index, error.exitcode, error.signal, error.attempts) == (37, exitcode, name, 1)
    assert words in str(error)
    assert isinstance(error, BrokenExecutor)
    assert failure_of(error) is lost
    assert after == list(range(0, 20, 2))
    assert ran.numbers().count(37) <= 2  # once more, alone, if it was too cheap to be marked


@pytest.mark.parametrize("method", START_METHODS)
def test_every_start_method_survives_deaths(method):
    def task(x):
        if x % 10 == 3:
            kill_self()
        return x

    with Pool(2, start_method=method) as pool:
        results = parallel_map(task, range(30), on_error="return", pool=pool)
        assert parallel_map(double, [1], pool=pool) == [2]

    lost = [r for r in results if isinstance(r, TaskFailure)]
    assert [(r.index, r.error.exitcode) for r in lost] == [(3, -9), (13, -9), (23, -9)]
    assert [r for r in results if isinstance(r, int)] == [x for x in range(30) if x % 10 != 3]


@pytest.mark.parametrize("count", [5000, 300])
def test_among_many_tiny_items_only_the_guilty_one_is_lost(count, tmp_path):
    """They are too cheap to be marked one by one: the guilty one must be found all the same."""
    guilty = count * 2 // 3

    def task(x):
        if x == guilty:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with Pool(2) as pool:
        parallel_map(identity, range(20_000), pool=pool)  # what an item costs is known by call
        results = parallel_map(task, range(count), on_error="return", chunksize=count, pool=pool)

    lost = results[guilty]
    assert isinstance(lost, TaskFailure)
    assert isinstance(lost.error, WorkerLostError)
    assert (lost.index, lost.error.index, lost.attempts) == (guilty, guilty, 1)
    assert [r for r in results if r is not lost] == [x for x in range(count) if x != guilty]


def test_killers_among_a_hundred_thousand_tiny_items_are_found_one_by_one():
    guilty = {77_777, 88_888}

    def task(x):
        if x in guilty:
            os._exit(9)
        return x

    with Pool(2) as pool:
        results = parallel_map(task, range(100_000), on_error="return", pool=pool)

    lost = [r for r in results if isinstance(r, TaskFailure)]
    assert [(r.index, r.error.exitcode, r.attempts) for r in lost] == [
        (77_777, 9, 1), (88_888, 9, 1),
    ]  # fmt: skip
    assert [r for r in results if isinstance(r, int)] == [
        x for x in range(100_000) if x not in guilty
    ]


def test_results_that_had_arrived_are_not_run_again(tmp_path):
    ran, gate = Diary(tmp_path / "ran"), Gate(tmp_path / "gate")

    def task(x):
        ran.write(x)
        if x == 50:
            gate.wait()
            kill_self()
        return x

    with Pool(1) as pool:
        results = parallel_imap(task, range(60), chunksize=1, on_error="return", pool=pool)
        taken = [next(results) for _ in range(50)]
        gate.open()
        taken += list(results)

    assert [r for r in taken if isinstance(r, int)] == [x for x in range(60) if x != 50]
    assert [ran.numbers().count(x) for x in range(51)] == [1] * 51


def test_every_item_may_kill_its_worker():
    with Pool(2) as pool:
        results = parallel_map(exit_now, range(1, 13), on_error="return", pool=pool)
        assert parallel_map(double, [1, 2], pool=pool) == [2, 4]

    assert [(r.index, r.error.exitcode) for r in results] == [(i, i + 1) for i in range(12)]


def test_a_lost_worker_in_each_mode():
    def task(x):
        if x == 3:
            kill_self()
        return x

    with Pool(2) as pool:
        with pytest.raises(WorkerLostError, match="SIGKILL") as caught:
            parallel_map(task, range(10), pool=pool)
        assert caught.value.index == 3
        with pytest.raises(TaskErrorGroup) as group:
            parallel_map(task, range(10), on_error="group", pool=pool)
        assert [type(e) for e in group.value.exceptions] == [WorkerLostError]
        results = parallel_imap(task, range(10), pool=pool)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(WorkerLostError):
            next(results)
        assert list(results) == []
        with pytest.raises(WorkerLostError):
            pool.submit(kill_self).result(LIMIT)
        assert pool.submit(double, 2).result(LIMIT) == 4


def test_the_error_of_a_lost_worker_has_the_note():
    with Pool(1) as pool, pytest.raises(WorkerLostError) as caught:
        parallel_map(exit_now, [4], pool=pool)
    [note] = caught.value.__notes__
    assert re.match(r"parmap: item 0 \(4\), worker pool-\d+-1 \(pid \d+\), attempt 1", note)


def test_a_worker_that_is_killed_from_outside_while_it_runs_costs_its_item(tmp_path):
    started, gate = Diary(tmp_path / "started"), Gate(tmp_path / "gate")

    def task(x):
        started.write(os.getpid())
        gate.wait()
        return x

    def kill_the_first():
        os.kill(int(started.wait_for(2)[0]), signal.SIGKILL)
        gate.open()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with Pool(2) as pool:
        results = parallel_map(task, range(6), on_error="return", chunksize=1, pool=pool)
    killer.join()

    lost = [r for r in results if isinstance(r, TaskFailure)]
    assert len(lost) == 1
    assert lost[0].index in (0, 1)
    assert lost[0].error.signal == "SIGKILL"


def test_idle_workers_that_are_killed_between_calls_cost_nothing(tmp_path):
    with Pool(2) as pool:
        for _ in range(3):
            pids = all_workers(pool, 2, tmp_path)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            # Also while the pool has not seen the deaths yet.
            assert parallel_map(double, range(50), pool=pool) == list(range(0, 100, 2))


def test_idle_workers_of_the_shared_pool_that_are_killed_cost_nothing(tmp_path):
    pids = set(parallel_map(pid_of, range(50), max_workers=2))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until_dead(list(pids))

    assert not set(parallel_map(pid_of, range(50), max_workers=2)) & pids


def test_a_worker_that_is_stopped_and_then_killed_costs_nothing_while_idle(tmp_path):
    with Pool(1) as pool:
        [pid] = all_workers(pool, 1, tmp_path)
        os.kill(pid, signal.SIGSTOP)
        future = pool.submit(double, 4)
        os.kill(pid, signal.SIGKILL)
        assert future.result(LIMIT) == 8


@pytest.mark.parametrize("chunksize", [1, 10])
def test_an_argument_that_kills_on_arrival_costs_its_own_item(chunksize):
    items = [*range(5), KillsInUnpickle(), *range(6, 10)]
    with Pool(2) as pool:
        results = parallel_map(identity, items, on_error="return", chunksize=chunksize, pool=pool)

    assert isinstance(results[5].error, WorkerLostError)
    assert results[5].index == 5
    assert [r for r in results if isinstance(r, int)] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


@pytest.mark.parametrize("chunksize", [1, 10])
def test_a_result_that_kills_when_pickled_costs_its_own_item(chunksize):
    def task(x):
        return KillsInPickle() if x == 5 else x

    with Pool(2) as pool:
        results = parallel_map(task, range(10), on_error="return", chunksize=chunksize, pool=pool)

    assert isinstance(results[5].error, WorkerLostError)
    assert [r for r in results if isinstance(r, int)] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_a_function_that_kills_on_arrival_fails_the_items_and_never_hangs():
    bomb = KillsInUnpickle()

    def task(x):
        return bomb

    with Pool(2) as pool:
        results = parallel_map(task, range(4), on_error="return", pool=pool)
        assert parallel_map(double, [1], pool=pool) == [2]
    assert [type(r.error) for r in results] == [WorkerLostError] * 4


def test_a_memory_error_is_an_ordinary_error():
    def task(x):
        return exhaust_memory() if x == 2 else x

    with Pool(2) as pool:
        results = parallel_map(task, range(5), on_error="return", pool=pool)
    assert type(results[2].error) in (MemoryError, WorkerLostError)
    assert [r for r in results if isinstance(r, int)] == [0, 1, 3, 4]


def test_a_child_that_a_task_leaves_behind_does_not_hide_its_workers_death(tmp_path):
    """The grandchild holds copies of every descriptor of the worker."""
    child = Diary(tmp_path / "child")

    def task(x):
        pid = os.fork()
        if pid == 0:
            import time

            time.sleep(60)
            os._exit(0)
        child.write(pid)
        kill_self()

    try:
        with Pool(1) as pool:
            results = parallel_map(task, [1], on_error="return", pool=pool)
        assert isinstance(results[0].error, WorkerLostError)
    finally:
        for pid in child.numbers():
            os.kill(pid, signal.SIGKILL)


def test_a_task_that_closes_its_descriptors_is_lost_but_nothing_hangs():
    def task(x):
        if x == 1:
            os.closerange(3, 256)
        return x

    with Pool(1) as pool:
        results = parallel_map(task, range(3), on_error="return", chunksize=1, pool=pool)
        assert parallel_map(double, [1], pool=pool) == [2]
    assert (results[0], results[2]) == (0, 2)


def test_a_task_that_forks_and_lets_the_child_return_does_no_harm():
    """The child runs on in our loop; it must not answer in its parent's place."""

    def task(x):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return x

    with Pool(1) as pool:
        results = parallel_map(task, range(3), on_error="return", pool=pool)
    assert results == [0, 1, 2]


@pytest.mark.parametrize(
    "executable",
    ["/bin/false", "/nonexistent/python", "", "script that exits"],
)
def test_workers_that_cannot_start_give_an_error_with_a_hint(executable, monkeypatch, tmp_path):
    if executable == "script that exits":
        script = tmp_path / "python"
        script.write_text("#!/bin/sh\nexit 9\n")
        script.chmod(0o755)
        executable = str(script)
    monkeypatch.setattr(sys, "executable", executable)

    with pytest.raises(WorkerStartError) as caught:
        parallel_map(double, [1, 2], max_workers=2)
    assert caught.value.hint
    if executable == str(tmp_path / "python"):
        assert caught.value.exitcode == 9
    with pytest.raises(WorkerStartError):
        list(parallel_imap(double, itertools.count(), max_workers=2))
    with Pool(2) as pool:
        with pytest.raises(WorkerStartError):
            pool.submit(double, 1).result(LIMIT)
        monkeypatch.undo()
        assert pool.submit(double, 1).result(LIMIT) == 2
    assert parallel_map(double, [1, 2], max_workers=2) == [2, 4]


def test_a_system_that_refuses_processes_gives_an_error_with_a_hint(monkeypatch):
    def refuse(*args, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    shutdown()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(Nursery, "start", refuse)  # a pool of another test may keep a zygote
    with pytest.raises(WorkerStartError, match="temporarily unavailable") as caught:
        parallel_map(double, [1, 2], max_workers=2)
    assert caught.value.hint

    monkeypatch.undo()
    assert parallel_map(double, [1, 2], max_workers=2) == [2, 4]


def test_with_one_worker_there_a_refusal_of_more_does_no_harm(monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise OSError(12, "Cannot allocate memory")

    with Pool(3) as pool:
        all_workers(pool, 1, tmp_path)
        monkeypatch.setattr(subprocess, "Popen", refuse)
        assert parallel_map(double, range(50), pool=pool) == list(range(0, 100, 2))


def test_an_initializer_that_raises_fails_the_calls_with_that_very_error():
    def prepare():
        raise LookupError("no such table")

    with Pool(2, initializer=prepare) as pool:
        for call in (
            lambda: parallel_map(double, range(5), pool=pool),
            lambda: list(parallel_imap(double, range(5), pool=pool)),
            lambda: pool.submit(double, 1).result(LIMIT),
            lambda: parallel_map(double, range(5), on_error="return", pool=pool),
        ):
            with pytest.raises(LookupError, match="no such table"):
                call()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
def test_an_initializer_that_leaves_python_fails_the_calls(error):
    def prepare():
        raise error

    with Pool(1, initializer=prepare) as pool, pytest.raises(BaseException) as caught:  # noqa: PT011
        pool.submit(double, 1).result(LIMIT)
    assert isinstance(caught.value, (type(error), RuntimeError))


def test_an_initializer_that_ends_the_process_is_a_start_error():
    with (
        Pool(2, initializer=exit_now, initargs=(7,)) as pool,
        pytest.raises(WorkerStartError) as caught,
    ):
        parallel_map(double, range(5), pool=pool)
    assert caught.value.exitcode == 7
    assert "initializer" in caught.value.hint


def test_an_initializer_that_fails_only_at_times_costs_only_a_start(tmp_path):
    starts = Diary(tmp_path / "starts")

    def prepare():
        starts.write(1)
        if len(starts.lines()) == 1:
            os._exit(1)

    with Pool(1, initializer=prepare) as pool:
        assert parallel_map(double, range(5), pool=pool) == [0, 2, 4, 6, 8]
    assert len(starts.lines()) == 2


def test_a_replacement_runs_the_initializer_again(tmp_path):
    starts = Diary(tmp_path / "starts")
    with Pool(1, initializer=starts.write, initargs=("started",)) as pool:
        results = parallel_map(
            lambda x: exit_now(1) if x == 1 else x, range(4), on_error="return", pool=pool
        )
    assert [r for r in results if isinstance(r, int)] == [0, 2, 3]
    # Three: an item too cheap to be marked is run again alone, which finds the guilty one.
    assert len(starts.lines()) in (2, 3)


def test_a_program_that_reaps_all_children_does_no_harm(tmp_path):
    source = """
        import os, signal
        from parmap import parallel_map
        def reap(signum, frame):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]: pass
            except ChildProcessError: pass
        signal.signal(signal.SIGCHLD, reap)
        print(parallel_map(lambda x: x, range(3), max_workers=2))
        print([getattr(r, "index", r) for r in
               parallel_map(lambda x: os._exit(3) if x == 1 else x, range(3),
                            max_workers=2, on_error="return", chunksize=1)])
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print([getattr(r, "index", r) for r in
               parallel_map(lambda x: os._exit(3) if x == 1 else x, range(3),
                            max_workers=2, on_error="return", chunksize=1)])
    """
    assert output_of(source, tmp_path) == "[0, 1, 2]\n[0, 1, 2]\n[0, 1, 2]\n"


def test_few_descriptors_are_enough_or_give_an_error(tmp_path):
    source = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        from parmap import parallel_map
        print(parallel_map(lambda x: x + 1, range(5), max_workers=2))
        try:
            print(len(parallel_map(lambda x: x, range(2000), max_workers=60)))
        except Exception as error:
            print(type(error).__name__)
        print(parallel_map(lambda x: x + 1, range(5), max_workers=2))
    """
    lines = output_of(source, tmp_path).splitlines()
    assert lines[0] == lines[2] == "[1, 2, 3, 4, 5]"
    assert lines[1] in ("2000", "WorkerStartError")


def test_a_deleted_working_folder_does_no_harm(tmp_path):
    source = """
        import os, tempfile
        from parmap import parallel_map
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        os.rmdir(folder)
        print(parallel_map(lambda x: x + 1, range(5), max_workers=2))
    """
    assert output_of(source, tmp_path) == "[1, 2, 3, 4, 5]\n"


def test_a_random_killer_never_costs_an_item_that_no_worker_ran(rng, tmp_path):
    """Workers are shot at random moments; each loss is reported, everything else is there."""
    gate = Gate(tmp_path / "done")
    pids = Diary(tmp_path / "pids")

    def task(x):
        if x % 25 == 0:
            pids.write(os.getpid())
        return sum(range(x % 100 * 50)) and x

    def shoot():
        for _ in range(12):
            target = int(rng.choice(wait_until(pids.lines)))
            if alive(target):
                os.kill(target, signal.SIGKILL)
            if gate.is_open:
                return
            threading.Event().wait(rng.random() * 0.05)

    with Pool(2) as pool:
        shooter = threading.Thread(target=shoot)
        shooter.start()
        results = parallel_map(task, range(2000), on_error="return", pool=pool)
        gate.open()
        shooter.join()

    assert len(results) == 2000
    for index, result in enumerate(results):
        if isinstance(result, TaskFailure):
            assert (result.index, result.error.signal) == (index, "SIGKILL")
        else:
            assert result == (index if index % 100 > 0 and index % 100 * 50 > 1 else 0)


def test_the_death_of_a_hanging_worker_ends_a_submitted_call(tmp_path):
    gate = Gate(tmp_path / "gate")
    with Pool(1) as pool:
        [pid] = all_workers(pool, 1, tmp_path)
        future = pool.submit(hang, gate)
        gate.wait()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            future.result(LIMIT)


def test_faulthandler_of_the_caller_does_not_hide_a_segfault():
    assert ctypes.string_at  # what segfault() calls
    with Pool(1) as pool, pytest.raises(WorkerLostError, match="SIGSEGV"):
        pool.submit(segfault).result(LIMIT)
