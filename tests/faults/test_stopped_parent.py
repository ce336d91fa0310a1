"""The parent is stopped (SIGSTOP: a debugger, a laptop's lid), and a worker dies meanwhile."""

from __future__ import annotations

import os

import pytest

from support.faults import (
    kill,
    resume,
    stop,
    wait_until_it_receives,
    wait_until_it_sends,
)
from support.gates import Diary, Gate, alive, wait_until
from support.scripts import running

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/syscall"), reason="Linux only")

# What the worker does when its parent is stopped, and what the outcomes are then.
PROGRAM = """
import os
from parmap import Pool, parallel_map
from support.gates import Diary, Gate

victims, gate = Diary("victims"), Gate("gate")

def task(number):
    if number == 1:
        victims.write(os.getpid())
        gate.wait()
        return {result}
    return number

with Pool(1) as pool:
    outcomes = parallel_map(task, range(4), pool=pool, chunksize=1, on_error="return")
    print([type(each).__name__ for each in outcomes])
    print(parallel_map(len, ["ab"], pool=pool))
"""
KEPT = "['int', '{}', 'int', 'int']\n[2]\n"


def run(tmp_path, result, strike):
    """Stop the parent while a worker runs, let `strike(pid)` happen, and let the parent go on."""
    with running(PROGRAM.format(result=result), tmp_path) as script:
        pid = int(Diary(tmp_path / "victims").wait_for(1)[0])
        stop(script.pid)
        strike(pid)
        wait_until(lambda: not alive(pid), "its death")
        resume(script.pid)
        status, out, err = script.finish()
    assert (status, err) == (0, "")
    return out, len(Diary(tmp_path / "victims").lines())


def test_a_worker_that_dies_while_it_runs_is_lost(tmp_path):
    assert run(tmp_path, "1", kill) == (KEPT.format("TaskFailure"), 1)


def test_a_worker_that_dies_in_the_middle_of_a_large_result_runs_it_again(tmp_path):
    def strike(pid):
        Gate(tmp_path / "gate").open()
        wait_until_it_sends(pid)
        kill(pid)

    assert run(tmp_path, "bytes(4_000_000)", strike) == (KEPT.format("bytes"), 2)


def test_a_worker_that_dies_behind_its_result_costs_nothing(tmp_path):
    def strike(pid):
        Gate(tmp_path / "gate").open()
        wait_until_it_receives(pid)
        kill(pid)

    assert run(tmp_path, "'done'", strike) == (KEPT.format("str"), 1)
