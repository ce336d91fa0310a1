"""What a pool does about its workers: replaced in time, ended on request, counted, reported on."""

# mypy: disable-error-code="attr-defined, func-returns-value"

from __future__ import annotations

import gc
import os
import re
import time
import warnings
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from parmap import (
    Pool,
    PoolClosedError,
    Retry,
    SerializationError,
    TaskTimeoutError,
    WorkerLostError,
    parallel_imap,
    parallel_map,
)
from support.gates import Diary, Gate, wait_until
from support.scripts import LIMIT, output_of, run_script
from support.tasks import START_METHODS, double, hang, hang_in_c, pid_of, segfault

# ---------------------------------------------------------------------- recycling


@pytest.mark.parametrize("chunksize", [None, 1, 5])
def test_a_worker_runs_at_most_so_many_tasks(chunksize):
    with Pool(2, max_tasks_per_child=3) as pool:
        pids = parallel_map(pid_of, range(20), chunksize=chunksize, pool=pool)
        statistics = pool.statistics()

    assert max(pids.count(pid) for pid in pids) <= 3
    assert statistics.recycled >= 6
    assert statistics.lost == 0


def test_submitted_tasks_count_too():
    with Pool(1, max_tasks_per_child=2) as pool:
        pids = [pool.submit(pid_of, n).result(LIMIT) for n in range(5)]

    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]


@pytest.mark.parametrize("method", START_METHODS)
def test_a_worker_that_has_grown_is_replaced_between_two_items(method):
    with Pool(1, max_memory_per_child=300 << 20, start_method=method) as pool:
        before = [pool.submit(pid_of, 0).result(LIMIT) for _ in range(2)]
        grown = pool.submit(grow).result(LIMIT)
        after = pool.submit(pid_of, 0).result(LIMIT)

    assert before == [grown, grown]
    assert after != grown


def grow():
    import builtins

    builtins.hoard = bytearray(b"x") * (400 << 20)  # outlives the task
    return os.getpid()


@pytest.mark.parametrize("name", ["max_tasks_per_child", "max_memory_per_child"])
def test_a_limit_of_a_pool_that_is_none_is_refused_at_the_door(name):
    for value in (0, -1, 1.5, True):
        options: dict[str, Any] = {name: value}
        with pytest.raises((TypeError, ValueError), match=name):
            Pool(1, **options)


# ---------------------------------------------------------------------- kill


@pytest.mark.parametrize("task", [hang, hang_in_c])
def test_kill_ends_a_running_task_and_nothing_else(task, tmp_path):
    here, there, gate = (Gate(tmp_path / name) for name in ("here", "there", "gate"))

    with Pool(2) as pool:
        other = pool.submit(lambda: (there.open(), gate.wait(), 5)[-1])
        doomed = pool.options(retry=Retry(attempts=5)).submit(task, here)
        here.wait()
        there.wait()
        assert pool.kill(doomed)
        error = doomed.exception(LIMIT)
        gate.open()
        assert other.result(LIMIT) == 5
        assert pool.submit(double, 2).result(LIMIT) == 4

    assert isinstance(error, WorkerLostError)
    assert "Pool.kill" in str(error)


def test_kill_has_nothing_to_do_with_what_is_done_or_waits(tmp_path):
    gate = Gate(tmp_path / "gate")

    with Pool(1) as pool, Pool(1) as stranger:
        done = pool.submit(double, 1)
        assert done.result(LIMIT) == 2
        running = pool.submit(gate.wait)
        wait_until(running.running, "the task")
        waiting = pool.submit(double, 3)
        assert not pool.kill(done)
        assert not pool.kill(waiting)
        with pytest.raises(ValueError, match="another pool"):
            stranger.kill(running)
        with pytest.raises(ValueError, match="another executor"):
            pool.kill(Future())
        with pytest.raises(TypeError, match=r"the future that submit returned .* not int"):
            pool.kill(3)  # type: ignore[arg-type]
        gate.open()
        assert waiting.result(LIMIT) == 6


def test_kill_ends_a_task_between_two_attempts(tmp_path):
    ran = Diary(tmp_path / "ran")

    def task():
        ran.write(1)
        raise OSError

    with Pool(1) as pool:
        retry = Retry(on=OSError, first_delay=500, max_delay=500)
        future = pool.options(retry=retry).submit(task)
        wait_until(lambda: pool.statistics().retried, "the first attempt")
        assert pool.kill(future)
        assert isinstance(future.exception(LIMIT), WorkerLostError)
    assert ran.numbers() == [1]


# ---------------------------------------------------------------------- views


def test_a_view_is_an_executor_and_closing_it_leaves_the_pool_open():
    with Pool(1) as pool:
        with pool.options(retry=2) as view:
            assert isinstance(view, Executor)
            future = view.submit(double, 1)
            assert list(view.map(double, [2, 3])) == [4, 6]
        assert future.done()
        with pytest.raises(PoolClosedError):
            view.submit(double, 1)
        for call in (parallel_map, parallel_imap):
            with pytest.raises(PoolClosedError):
                call(double, [1], pool=view)
        assert pool.submit(double, 4).result(LIMIT) == 8
        assert view.max_workers == 1
        assert re.match(r"<view of <Pool .* retry=Retry\(attempts=2", repr(view))
        with pytest.raises(SerializationError):
            parallel_map(lambda x: view, [1], pool=pool)


def test_views_nest_and_the_calls_own_option_wins(tmp_path):
    with Pool(1) as pool:
        quick = pool.options(task_timeout=0.2)
        assert quick.options(retry=2).limits.task_timeout == 0.2
        assert quick.options(task_timeout=3).limits.task_timeout == 3
        with pytest.raises(TaskTimeoutError):
            parallel_map(time.sleep, [100], pool=quick)
        with pytest.raises(TaskTimeoutError):
            quick.options(retry=2).submit(time.sleep, 100).result(LIMIT)
        assert parallel_map(time.sleep, [0.4], task_timeout=60, pool=quick) == [None]


# ---------------------------------------------------------------------- what is told


def test_a_crash_report_has_the_last_stack_and_the_memory():
    with Pool(1) as pool, pytest.raises(WorkerLostError) as caught:
        parallel_map(segfault, [1], pool=pool)

    error = caught.value
    assert "in segfault" in error.stack
    assert "in segfault" in str(error)
    assert 4 << 20 < error.peak_rss < 4 << 30
    assert (error.signal, error.exitcode, error.attempts) == ("SIGSEGV", -11, 1)


def test_a_crash_prints_no_second_report_on_stderr(tmp_path):
    source = """
        import os
        from parmap import parallel_map
        print(parallel_map(lambda x: os.abort(), [1], max_workers=1, on_error="return")[0].error.signal)
        """
    assert output_of(source, tmp_path) == "SIGABRT\n"


def test_statistics_and_repr_tell_what_there_is(tmp_path):
    gate = Gate(tmp_path / "gate")

    with Pool(1, name="crew") as pool:
        future = pool.submit(gate.wait)
        wait_until(future.running, "the task")
        pool.submit(double, 1)
        wait_until(lambda: pool.statistics().waiting == 1, "the second task")
        now = pool.statistics()
        assert (now.workers, now.busy, now.idle, now.running, now.calls) == (1, 1, 0, 1, 2)
        assert "1 workers (1 busy, 0 idle)" in repr(pool)
        with pytest.raises(AttributeError):
            now.busy = 3  # type: ignore[misc]
        gate.open()
    assert pool.statistics().done == 2
    assert repr(pool).startswith("<Pool crew closed")


def test_an_unclosed_pool_says_where_it_was_made():
    pool = Pool(1)
    line = __import__("inspect").currentframe().f_lineno - 1

    with pytest.warns(ResourceWarning, match=f"unclosed .*{os.path.basename(__file__)}:{line}"):
        del pool


def test_a_closed_pool_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Pool(1) as pool:
            pass
        del pool
        gc.collect()


ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def test_names_and_messages_cannot_repaint_the_terminal(tmp_path):
    """Whatever a task brings in: our own words about it are plain text."""
    source = f"""
        import os, sys
        from parmap import Pool, parallel_map

        ESCAPE = {ESCAPE!r}

        def die(x):
            os._exit(3)

        die.__name__ = die.__qualname__ = ESCAPE

        class Bad:
            def __reduce__(self):
                return exec, ("raise ValueError(" + repr(ESCAPE) + ")",)
            def __repr__(self):
                return ESCAPE

        with Pool(1, name=ESCAPE) as pool:
            for fn, item in ((die, ESCAPE), (abs, Bad()), (lambda x: Bad(), 1)):
                [failure] = parallel_map(fn, [item], pool=pool, on_error="return")
                print(failure.error, failure.error.__notes__, failure, pool)
        try:
            pool.submit(abs, 1)
        except RuntimeError as error:
            print(error)
        """
    done = run_script(source, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 4
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr
