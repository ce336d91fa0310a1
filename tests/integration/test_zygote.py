"""The zygote forks the workers, tells the truth about them, and whatever befalls it stops nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import threading
from typing import Any

import pytest

from parmap import Pool, WorkerGroup, parallel_map
from parmap._launch import popen, zygote
from parmap._launch.zygote import PATIENCE, Nursery, Zygote, ZygoteLauncher, nursery
from parmap._memory.segment import Segment
from parmap._wire.control import CONTROL_BYTES
from support.gates import Diary, Gate, alive, all_workers, wait_until, wait_until_dead
from support.scripts import output_of, run_python, run_script, running
from support.tasks import exit_now, kill_self, pid_of
from support.zygotes import facts, parent_of_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool


def the_zygote() -> int:
    pid = nursery.pid()
    assert pid is not None
    return pid


def parents_of_new_workers(workers: int = 1) -> set[int]:
    with Pool(workers) as pool:
        return set(parallel_map(parent_of_worker, range(workers), pool=pool, chunksize=1))


def lost(pool: Pool, function, *arguments):
    error: Any = pool.submit(function, *arguments).exception()
    return type(error).__name__, error.exitcode, error.signal


@contextlib.contextmanager
def started(count: int = 1):
    """Workers as a launcher gives them, without a loop that buries them."""
    launcher = ZygoteLauncher()
    page = Segment.create(CONTROL_BYTES)
    pairs = [launcher.start("worker", page) for _ in range(count)]
    try:
        yield [child for child, _ in pairs]
    finally:
        for child, link in pairs:
            link.close()
            child.send_signal(signal.SIGKILL)
            child.bury()
        launcher.end()
        page.close()


def wait_for_death(child) -> None:
    assert select.select([child], [], [], PATIENCE)[0]


def state_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


# ---------------------------------------------------------------------- one zygote, while it is of use


def test_workers_are_children_of_one_zygote_that_ends_with_the_last_pool(tmp_path):
    with Pool(2) as one, Pool(2) as other:
        pids = all_workers(one, 2, tmp_path)
        parents = {one.submit(parent_of_worker).result(), other.submit(parent_of_worker).result()}
        assert parents == {the_zygote()}
        one.shutdown()
        assert alive(the_zygote())
    assert nursery.pid() is None
    assert not any(map(alive, [*pids, *parents]))


def test_a_group_s_workers_are_children_of_the_zygote_too():
    with WorkerGroup() as group:
        worker = group.start(facts)
        found = worker.result()
    assert found["multiprocessing parent"] == os.getpid() != found["parent"]


def test_thirty_two_workers_start_and_leave_nothing_in_the_zygote(tmp_path):
    with Pool(1) as keeping:
        keeping.submit(os.getpid).result()
        folder = f"/proc/{the_zygote()}/fd"
        before = len(os.listdir(folder))
        with Pool(32) as pool:
            assert len(set(all_workers(pool, 32, tmp_path))) == 32
            assert len(os.listdir(folder)) == before + 2 * 32
        wait_until(lambda: len(os.listdir(folder)) == before, "the zygote's descriptors")


def test_a_forked_child_has_a_zygote_of_its_own(tmp_path):
    source = """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        _f.cancel_dump_traceback_later()
        from parmap import parallel_map
        from parmap._launch.zygote import nursery
        parent_of_worker = lambda x: os.getppid()
        ours = parallel_map(parent_of_worker, [1], max_workers=1)
        before = set(os.listdir("/proc/self/fd"))
        if (pid := os.fork()) == 0:
            assert nursery.pid() is None
            theirs = parallel_map(parent_of_worker, [1], max_workers=1)
            print(theirs == [nursery.pid()], theirs != ours, flush=True)
            sys.exit()
        print(os.waitpid(pid, 0)[1], ours == [nursery.pid()])
        print(parallel_map(parent_of_worker, [1], max_workers=1) == ours)
    """
    assert output_of(source, tmp_path) == "True True\n0 True\nTrue\n"


def test_what_goes_by_value_is_imported_once_for_all_later_workers(pool):
    assert pool.submit(lambda: 1).result() == 1
    with Pool(1) as later:
        assert later.submit(facts).result()["has cloudpickle"]


# ---------------------------------------------------------------------- the truth about its workers


@pytest.mark.parametrize(
    ("function", "argument", "code", "name"),
    [
        (exit_now, 0, 0, None),
        (exit_now, 7, 7, None),
        (kill_self, signal.SIGKILL, -9, "SIGKILL"),
        (kill_self, signal.SIGUSR1, -10, "SIGUSR1"),
    ],
)
def test_exit_codes_and_signals_are_the_real_ones(pool, function, argument, code, name):
    assert lost(pool, function, argument) == ("WorkerLostError", code, name)


@pytest.mark.parametrize("handling", ["signal.SIG_IGN", "reap"])
def test_a_program_that_reaps_every_child_learns_the_exit_codes_all_the_same(tmp_path, handling):
    source = f"""
        import os, signal
        from parmap import Pool
        from support.tasks import exit_now, kill_self
        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, {handling})
        with Pool(1) as pool:
            print(pool.submit(exit_now, 7).exception().exitcode)
            print(pool.submit(kill_self).exception().exitcode)
            print(pool.submit(signal.getsignal, signal.SIGCHLD).result() == (
                signal.SIG_IGN if {handling} == signal.SIG_IGN else signal.SIG_DFL))
    """
    assert output_of(source, tmp_path) == "7\n-9\nTrue\n"


def test_a_dead_worker_keeps_its_number_until_the_parent_has_buried_it():
    with started() as [child]:
        child.send_signal(signal.SIGKILL)
        wait_for_death(child)
        # Had it been reaped, another process could have that number by the time the parent looks.
        assert state_of(child.pid) == "Z"
        assert child.bury() == -signal.SIGKILL
        assert state_of(child.pid) != "Z"


def test_workers_find_what_popen_s_find(tmp_path):
    source = """
        import parmap._launch as launch
        from parmap import Pool
        from support.zygotes import facts
        def found():
            with Pool(1) as pool:
                return pool.submit(facts).result()
        forked = found()
        launch.ZygoteLauncher = launch.PopenLauncher
        fresh = found()
        print(forked["parent"] == fresh["parent"])
        print([(name, forked[name], fresh[name]) for name in fresh
               if name != "parent" and forked[name] != fresh[name]])
    """
    assert output_of(source, tmp_path, PYTHONWARNINGS="ignore::UserWarning") == "False\n[]\n"


# ------------------------------------------------------------------- what has changed since its start


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "TZ"])
def test_variables_that_python_reads_at_its_start_are_those_of_now(
    pool, monkeypatch, tmp_path, variable
):
    pool.submit(os.getpid).result()
    value = {"PYTHONHASHSEED": "7", "TZ": "UTC"}[variable]
    before = the_zygote()
    monkeypatch.setenv(variable, value)
    with Pool(1) as later:
        found = later.submit(facts).result()
        assert found["parent"] == the_zygote() != before
        # The old one stays for the workers that it has, and knows how they end.
        assert lost(pool, exit_now, 5)[1] == 5
    if variable == "PYTHONHASHSEED":
        fresh = run_python(["-c", "print(hash('parmap'))"], folder=tmp_path)
        assert found["hash of a string"] == int(fresh.stdout)


def test_limits_and_the_mask_for_new_files_are_those_of_now(pool):
    pool.submit(os.getpid).result()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    umask = os.umask(0o027)
    wanted = 4096 if soft == 0 else 0
    try:
        if hard in (-1, resource.RLIM_INFINITY) or hard >= wanted:
            resource.setrlimit(resource.RLIMIT_CORE, (wanted, hard))
        with Pool(1) as later:
            found = later.submit(facts).result()
        assert found["core"] == resource.getrlimit(resource.RLIMIT_CORE)
        assert found["umask"] == 0o027
    finally:
        os.umask(umask)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_a_change_that_every_worker_is_told_needs_no_new_zygote(pool, monkeypatch, tmp_path):
    pool.submit(os.getpid).result()
    before = the_zygote()
    monkeypatch.setenv("SOMETHING", "else")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert parents_of_new_workers() == {before}


def test_output_goes_where_the_parent_s_goes_when_the_worker_starts(tmp_path):
    source = """
        import os, sys
        from parmap import Pool
        def shout(x):
            print("out", x, flush=True)
            print("err", x, file=sys.stderr, flush=True)
            return sys.stdin.read(), sys.__stdout__.line_buffering
        with Pool(1) as keeping:
            keeping.submit(shout, 1).result()
            kept = os.dup(1), os.dup(2)
            file = os.open("elsewhere", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(file, 1), os.dup2(file, 2)
            with Pool(1) as pool:
                found = pool.submit(shout, 2).result()
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
            print(found)
            os.close(1)
            with Pool(1) as pool:
                closed = pool.submit(lambda: sys.__stdout__ is None).result()
            os.dup2(kept[0], 1)
            print(closed)
    """
    done = run_script(source, tmp_path)
    assert (done.stdout, done.stderr) == ("out 1\n('', False)\nTrue\n", "err 1\n")
    assert (tmp_path / "elsewhere").read_text() == "out 2\nerr 2\n"


def test_the_zygote_holds_none_of_the_parent_s_streams_open(pool):
    pool.submit(os.getpid).result()
    assert {os.readlink(f"/proc/{the_zygote()}/fd/{number}") for number in range(3)} == {os.devnull}


# ---------------------------------------------------------------------- whatever befalls the zygote


def test_signals_of_the_terminal_and_the_group_do_not_concern_it(pool):
    pool.submit(os.getpid).result()
    before = the_zygote()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        os.kill(before, number)
    assert parents_of_new_workers() == {before}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_an_idle_zygote_that_breaks_is_replaced_and_its_workers_go_on(pool, tmp_path, number):
    pids = all_workers(pool, 2, tmp_path)
    before = the_zygote()
    os.kill(before, number)
    wait_until(lambda: state_of(before) in ("Z", "T"))
    assert parents_of_new_workers() == {the_zygote()} != {before}
    assert not alive(before)
    assert set(parallel_map(pid_of, range(20), pool=pool)) <= set(pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_without_the_zygote_a_worker_s_death_is_noticed_and_its_exit_code_unknown(pool, number):
    pool.submit(os.getpid).result()
    before = the_zygote()
    os.kill(before, number)
    wait_until(lambda: state_of(before) in ("Z", "T"))
    assert lost(pool, kill_self) == ("WorkerLostError", None, None)
    assert pool.submit(parent_of_worker).result() == the_zygote() != before


@pytest.fixture
def waiting(monkeypatch):
    """Set once somebody waits for a zygote that is stopped, and not yet seen to be."""
    event = threading.Event()

    def look(pid):
        event.set()
        return False

    monkeypatch.setattr(zygote, "_is_stopped", look)
    return event


def test_a_zygote_killed_during_a_request_is_replaced(pool, waiting):
    pool.submit(os.getpid).result()
    before = the_zygote()
    os.kill(before, signal.SIGSTOP)
    waiting.clear()
    with Pool(1) as other:
        future = other.submit(parent_of_worker)
        assert waiting.wait(PATIENCE)  # the request is sent, and nobody reads it
        os.kill(before, signal.SIGKILL)
        assert future.result() not in (before, os.getpid())


def test_a_zygote_that_does_not_answer_is_given_up(pool, waiting, monkeypatch):
    pool.submit(os.getpid).result()
    before = the_zygote()
    os.kill(before, signal.SIGSTOP)
    monkeypatch.setattr(zygote, "PATIENCE", 0.3)
    with Pool(1) as other:
        future = other.submit(parent_of_worker)
        wait_until(lambda: nursery.pid() != before)
        monkeypatch.setattr(zygote, "PATIENCE", PATIENCE)  # its successor may be slow to start
        assert future.result() != before
    wait_until_dead([before])


def test_a_zygote_killed_at_any_moment_costs_no_call(rng):
    """Kills fall before, between and during requests, and while a new one starts."""
    over = threading.Event()
    kills = []

    def kill():
        while not over.wait(rng.uniform(0, 0.05)):
            if (pid := nursery.pid()) is not None and state_of(pid) not in (None, "Z"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)

    killer = threading.Thread(target=kill)
    with Pool(1) as keeping:
        keeping.submit(os.getpid).result()
        killer.start()
        try:
            for _ in range(6):
                with Pool(3) as pool:
                    assert parallel_map(abs, range(-9, 0), pool=pool, chunksize=1) == [
                        *range(9, 0, -1)
                    ]
        finally:
            over.set()
            killer.join()
    assert kills


def test_where_no_zygote_works_popen_starts_the_workers(monkeypatch):
    tried = []

    def broken(module, fds, **options):
        tried.append(module)
        return popen.run_main("parmap._launch.heritage", fds, **options)  # has no main

    monkeypatch.setattr(zygote, "run_main", broken)
    assert parents_of_new_workers(2) == {os.getpid()}
    assert len(tried) == 1  # and not once for each worker


def test_where_the_zygote_can_not_even_be_started_the_error_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with Pool(1) as pool:
        error = pool.submit(os.getpid).exception()
    assert "sys.executable is not set" in str(error)


def test_a_start_that_is_interrupted_costs_the_zygote_and_no_later_start(monkeypatch):
    class Interrupt(BaseException):
        pass

    def interrupted(self, link):
        raise Interrupt

    with started() as [child]:
        before = the_zygote()
        launcher = ZygoteLauncher()
        page = Segment.create(CONTROL_BYTES)
        with monkeypatch.context() as patch, pytest.raises(Interrupt):
            patch.setattr(Zygote, "_wait_for", interrupted)
            launcher.start("interrupted", page)
        second, link = launcher.start("second", page)
        assert the_zygote() != before
        child.send_signal(signal.SIGKILL)
        wait_for_death(child)
        assert child.bury() == -signal.SIGKILL  # the old one is there for the workers that it has
        link.close()
        wait_for_death(second)
        assert second.bury() == 0
        launcher.end()
        page.close()


def test_a_start_that_nobody_lets_in_is_popen_s(monkeypatch):
    """The lock is held for ever, say by a finaliser's outer frame."""
    monkeypatch.setattr(zygote, "PATIENCE", 0.01)
    held = Nursery()
    held._lock.acquire()
    assert held.start(ZygoteLauncher(), None) is None


# ---------------------------------------------------------------------- it leaves with its parent


@pytest.mark.parametrize("action", ["pass", "sum(range(10**12))"], ids=["idle", "busy"])
@pytest.mark.parametrize(
    ("forked", "stopped"),
    [(False, False), (True, False), (True, True)],
    ids=["alone", "child with copies", "child with copies, zygote stopped"],
)
def test_a_killed_parent_takes_zygote_and_workers_with_it(tmp_path, action, forked, stopped):
    source = f"""
        import os, time, threading
        from parmap import Pool
        from parmap._launch.zygote import nursery
        from support.gates import Diary, Gate
        pids = Diary("pids")
        def task(x):
            pids.write(os.getpid())
            {action}
        pool = Pool(1)
        future = pool.submit(task, 1)
        pids.wait_for(1)
        pids.write(nursery.pid())
        if {forked} and os.fork() == 0:
            Gate("over").wait()
            os._exit(0)
        pids.write("ready")
        time.sleep(600)
    """
    with running(source, tmp_path, PYTHONWARNINGS="ignore") as program:
        pids = [int(line) for line in Diary(tmp_path / "pids").wait_for(3)[:2]]
        if stopped:
            os.kill(pids[1], signal.SIGSTOP)
        os.kill(program.pid, signal.SIGKILL)
        wait_until_dead(pids)  # the child lives
        Gate(tmp_path / "over").open()


def test_a_parent_that_is_killed_while_the_zygote_starts_leaves_nothing(tmp_path):
    source = """
        import os, signal
        from parmap._launch import zygote
        from parmap import parallel_map
        zygote.Zygote._wait_for = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        parallel_map(abs, [1], max_workers=1)
    """
    with running(source, tmp_path) as program:  # its end looks for what is left
        assert program.finish()[0] == -signal.SIGKILL
