"""What helps when a program is stuck: checked books, traces that can be replayed, stacks on request."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from parmap.testing.__main__ import main
from support.gates import Gate
from support.scripts import output_of, run_python, running

BUSY = """
    import os, time
    from parmap import Pool, Retry, parallel_map

    def task(x):
        if x == 3:
            os._exit(1)
        if x == 5:
            raise ValueError(x)
        if x == 7:
            time.sleep(60)
        return x

    with Pool(2, max_tasks_per_child=4) as pool:
        results = parallel_map(
            task, range(10), pool=pool, on_error="return", retry=2, task_timeout=0.3
        )
    print([r if isinstance(r, int) else type(r.error).__name__ for r in results])
    """
TOLD = "[0, 1, 2, 'WorkerLostError', 4, 'ValueError', 6, 'TaskTimeoutError', 8, 9]\n"


def test_the_books_are_right_after_each_event(tmp_path):
    assert output_of(BUSY, tmp_path, PARMAP_DEBUG="1") == TOLD


def test_a_trace_can_be_replayed_and_tells_what_was_commanded(tmp_path):
    trace = tmp_path / "trace.jsonl"
    assert output_of(BUSY, tmp_path, PARMAP_TRACE=str(trace)) == TOLD

    done = run_python(["-m", "parmap.testing", "replay", str(trace)], folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    for word in ("SettleLost", "EndLateWorker", "FinishCall", "0 calls open, 0 workers, over"):
        assert word in done.stdout


def test_a_trace_that_the_core_objects_to_is_told_with_its_line(tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    lines: list[dict[str, object]] = [
        {"core": "1/x", "now": 0.0, "options": {"limit": 1}},
        {"core": "1/x", "now": 1.0, "event": "WorkerReady", "worker": 9},
    ]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert main(["replay", str(trace)]) == 1
    assert "line 2: worker 9 is not known" in capsys.readouterr().out
    assert main([]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGUSR1")
def test_sigusr1_shows_the_stacks_of_parent_and_workers_if_that_was_asked_for(tmp_path):
    gate, ready = Gate(tmp_path / "gate"), Gate(tmp_path / "ready")
    source = f"""
        from parmap import parallel_map
        from support.gates import Gate

        def stuck_in_the_worker(x):
            Gate({ready.path!r}).open()
            Gate({gate.path!r}).wait()

        def stuck_in_the_parent():
            parallel_map(stuck_in_the_worker, [1], max_workers=1)

        stuck_in_the_parent()
        """
    with running(source, tmp_path, PARMAP_STACKS="1") as program:
        ready.wait()
        os.kill(program.pid, signal.SIGUSR1)
        shown = ""
        while not ("stuck_in_the_worker" in shown and "stuck_in_the_parent" in shown):
            assert program.process.stderr is not None
            line = program.process.stderr.readline()
            assert line, shown
            shown += line
        gate.open()
        assert program.finish()[0] == 0
