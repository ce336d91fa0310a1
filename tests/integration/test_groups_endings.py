"""Programs with groups that end in every way: nobody is left behind, and nothing hangs."""

from __future__ import annotations

import os
import signal
import warnings

import pytest

from parmap import WorkerGroup
from support.gates import Diary, wait_until_dead
from support.scripts import output_of, program, run_python, run_script, running

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

PROGRAM = """
from parmap import WorkerGroup, run_workers

class Point:
    def __init__(self, x):
        self.x = x

scale = 10
def target(rank, base):
    return Point(scale * (rank + base))

points = run_workers(target, 3, 1)
print([p.x for p in points], {type(p) is Point for p in points})
with WorkerGroup() as group:
    worker = group.start(lambda: scale)
print(worker.result())
"""
PRINTED = "[10, 20, 30] {True}\n10\n"

# What the scripts below begin with: two workers that say that they run, and then hang.
HANGING = """
import os, signal, sys, time, threading
from parmap import WorkerGroup, run_workers
from support.gates import Diary
diary = Diary("diary")

def hang(rank=0, deaf=False):
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        diary.write(os.getpid())
        while True:
            time.sleep(600)
    finally:
        diary.write("tidied")
"""


def check(done, printed=PRINTED):
    assert (done.returncode, done.stderr, done.stdout) == (0, "", printed)


# ---------------------------------------------------------------------- no guard, however it is run


def test_a_script_needs_no_guard(tmp_path):
    check(run_script(PROGRAM, tmp_path))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_no_start_method_needs_a_guard(tmp_path, method):
    source = f"""
        from parmap import WorkerGroup
        print("once")
        class C: pass
        with WorkerGroup(start_method={method!r}) as group:
            worker = group.start(lambda: C())
        print(type(worker.result()) is C)
    """
    check(run_script(source, tmp_path), "once\nTrue\n")


def test_stdin_and_the_command_line_need_no_guard(tmp_path):
    check(run_python(["-"], folder=tmp_path, stdin=program(PROGRAM)))
    check(run_python(["-c", program(PROGRAM)], folder=tmp_path))


# ---------------------------------------------------------------------- what a worker prints


def test_what_a_worker_printed_is_seen_also_without_a_newline(tmp_path):
    source = """
        import os, sys
        from parmap import run_workers
        def target(rank):
            print("from the worker", end="")
            print("an error", end="", file=sys.stderr)
        run_workers(target, 1)
    """
    done = run_script(source, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "from the worker", "an error")


def test_a_failure_is_printed_once_and_by_the_parent(tmp_path):
    source = """
        from parmap import run_workers
        def target(rank):
            raise ValueError("told once")
        run_workers(target, 1)
    """
    done = run_script(source, tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("ValueError: told once") == 1
    assert ", in target\n" in done.stderr


# ---------------------------------------------------------------------- Ctrl-C

BODIES = {
    "run_workers": "run_workers(hang, 2)",
    "waiting block": """
with WorkerGroup() as group:
    for _ in range(2):
        group.start(hang)
""",
    "body": """
with WorkerGroup() as group:
    workers = [group.start(hang) for _ in range(2)]
    workers[0].result()
""",
}


@pytest.mark.parametrize("to", ["parent", "group"])
@pytest.mark.parametrize("body", BODIES)
def test_ctrl_c_is_one_keyboard_interrupt_and_finally_blocks_run(tmp_path, body, to):
    diary = Diary(tmp_path / "diary")
    with running(program(HANGING) + BODIES[body], tmp_path) as script:
        workers = [int(line) for line in diary.wait_for(2)]
        if to == "group":
            script.interrupt()
        else:
            os.kill(script.pid, signal.SIGINT)
        status, out, err = script.finish()

    assert status == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert out == ""
    assert sorted(diary.lines()[2:]) == ["tidied", "tidied"]
    wait_until_dead(workers, 0.1)


def test_a_second_ctrl_c_does_not_wait_for_the_grace_period(tmp_path):
    diary = Diary(tmp_path / "diary")
    body = """
with WorkerGroup(grace=600) as group:
    group.start(hang, deaf=True)
    group.start(hang)
"""
    with running(program(HANGING) + body, tmp_path) as script:
        diary.wait_for(2)
        os.kill(script.pid, signal.SIGINT)
        diary.wait_for(3)  # one has gone: the first Ctrl-C has been heard
        os.kill(script.pid, signal.SIGINT)
        status, _, err = script.finish()

    assert status == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_a_worker_survives_a_ctrl_c_that_the_parent_handles(tmp_path):
    source = """
        import signal, threading
        from parmap import WorkerGroup
        from support.gates import Diary, Gate
        diary, gate = Diary("diary"), Gate("gate")
        signal.signal(signal.SIGINT, lambda *_: gate.open())
        def work():
            diary.write("up")
            gate.wait()
            return "done"
        with WorkerGroup() as group:
            worker = group.start(work)
        print(worker.result())
    """
    with running(source, tmp_path) as script:
        Diary(tmp_path / "diary").wait_for(1)
        script.interrupt()
        assert script.finish() == (0, "done\n", "")


# ---------------------------------------------------------------------- the end of the program


def test_sys_exit_in_the_block_leaves_with_its_status_and_nobody_behind(tmp_path):
    diary = Diary(tmp_path / "diary")
    body = """
with WorkerGroup() as group:
    group.start(hang)
    diary.wait_for(1)
    sys.exit(7)
"""
    done = run_script(program(HANGING) + body, tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert diary.lines()[1:] == ["tidied"]


def test_a_group_that_is_open_at_exit_is_ended(tmp_path):
    """Its block is never left; its workers' `finally` blocks run all the same."""
    diary = Diary(tmp_path / "diary")
    body = """
group = WorkerGroup().__enter__()
group.start(hang)
diary.wait_for(1)
"""
    done = run_script(program(HANGING) + body, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert diary.lines()[1:] == ["tidied"]


def test_a_group_in_a_daemon_thread_is_ended_at_exit(tmp_path):
    diary = Diary(tmp_path / "diary")
    body = """
threading.Thread(target=run_workers, args=(hang, 2), daemon=True).start()
diary.wait_for(2)
"""
    done = run_script(program(HANGING) + body, tmp_path)

    assert done.returncode == 0
    assert diary.lines()[2:] == ["tidied", "tidied"]


@pytest.mark.parametrize("method", ["None", "'spawn'", "'forkserver'", "'fork'"])
def test_when_the_parent_is_killed_its_workers_are_gone_within_two_seconds(tmp_path, method):
    diary = Diary(tmp_path / "diary")
    body = f"""
with WorkerGroup(start_method={method}) as group:
    group.start(hang)
    group.start(hang, deaf=True)
"""
    with running(program(HANGING) + body, tmp_path) as script:
        workers = [int(line) for line in diary.wait_for(2)]
        os.kill(script.pid, signal.SIGKILL)
        wait_until_dead(workers, 2.0)
        script.finish()


def test_when_the_parent_is_killed_workers_of_workers_are_gone_too(tmp_path):
    diary = Diary(tmp_path / "diary")
    body = """
run_workers(lambda rank: run_workers(hang, 2), 2)
"""
    with running(program(HANGING) + body, tmp_path) as script:
        workers = [int(line) for line in diary.wait_for(4)]
        os.kill(script.pid, signal.SIGKILL)
        wait_until_dead(workers, 2.0)
        script.finish()


def test_an_exception_in_the_block_leaves_nobody_behind(tmp_path):
    diary = Diary(tmp_path / "diary")
    body = """
with WorkerGroup() as group:
    group.start(hang)
    diary.wait_for(1)
    raise RuntimeError("body")
"""
    done = run_script(program(HANGING) + body, tmp_path)

    assert done.returncode == 1
    assert done.stderr.count("RuntimeError: body") == 1
    assert diary.lines()[1:] == ["tidied"]


# ---------------------------------------------------------------------- the end of a worker


def test_a_worker_leaves_as_any_process_does(tmp_path):
    """Threads that are no daemons finish; daemons do not keep it."""
    source = """
        import threading, time
        from parmap import run_workers
        from support.gates import Gate
        gate = Gate("gate")
        def target(rank):
            def late():
                gate.wait()
                print("finished")
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            threading.Thread(target=late).start()
            threading.Timer(0, gate.open).start()
            return "returned"
        print(run_workers(target, 1))
    """
    assert output_of(source, tmp_path) == "finished\n['returned']\n"


@pytest.mark.parametrize("method", ["None", "'fork'"])
def test_queues_and_children_of_multiprocessing_end_as_they_do_in_its_processes(tmp_path, method):
    """A queue is flushed, a daemonic child is ended."""
    source = f"""
        import multiprocessing, time
        from parmap import WorkerGroup
        from support.gates import alive
        context = multiprocessing.get_context("fork")
        def target():
            queue = context.Queue()
            child = context.Process(target=time.sleep, args=(600,), daemon=True)
            child.start()
            reader = context.Process(target=lambda: print(len(queue.get()), flush=True))
            reader.start()
            queue.put("x" * 10_000_000)
            return child.pid
        with WorkerGroup(start_method={method}) as group:
            worker = group.start(target)
        print(alive(worker.result()))
    """
    assert output_of(source, tmp_path) == "10000000\nFalse\n"


def test_a_grandchild_that_is_left_behind_hangs_nobody(tmp_path):
    """It holds every descriptor that a fork gives it."""
    source = """
        import os, time
        from parmap import run_workers
        def target(rank):
            pid = os.fork()
            if pid == 0:
                os.close(0); os.close(1); os.close(2)
                time.sleep(600)
            return pid
        (pid,) = run_workers(target, 1)
        print("here")
        os.kill(pid, 9)
    """
    assert output_of(source, tmp_path) == "here\n"


def test_plain_fork_server_processes_can_be_terminated_after_ours(tmp_path):
    """The fork server that a group has started serves plain multiprocessing too."""
    source = """
        import multiprocessing, time
        from parmap import WorkerGroup
        if __name__ == "__main__":
            with WorkerGroup(start_method="forkserver") as group:
                group.start(abs, 1)
            process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join(10)
            print(process.exitcode)
            process.kill()
    """
    done = run_script(source, tmp_path)
    assert (done.stdout, done.stderr) == ("-15\n", "")


def test_a_group_that_is_never_entered_costs_nothing(tmp_path):
    assert output_of("import parmap\nparmap.WorkerGroup()", tmp_path) == ""


def test_a_fork_after_a_group_has_ended_leaves_other_files_alone():
    """The group's descriptors are closed once; their numbers are other files' by then."""
    groups = []
    for _ in range(3):
        with WorkerGroup() as group:
            group.start(abs, -1)
        groups.append(group)
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            for fd in files:
                os.fstat(fd)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for fd in files:
        os.close(fd)
