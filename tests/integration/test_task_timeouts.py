"""An item that takes too long costs itself only: whatever it does, it ends, and what it started too."""

# mypy: disable-error-code="attr-defined, union-attr"

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from parmap import Pool, Retry, TaskFailure, TaskTimeoutError, parallel_imap, parallel_map
from support.gates import Diary, Gate, alive, kept_pool, wait_until, wait_until_dead
from support.scripts import LIMIT, output_of
from support.tasks import START_METHODS, double, identity

SHORT = 0.25
FOREVER = 600


def sleep_on(_=None):
    time.sleep(FOREVER)


def spin_in_c(_=None):
    sum(range(10**13))


def stop_oneself(_=None):
    os.kill(os.getpid(), signal.SIGSTOP)


def catch_everything(_=None):
    while True:
        try:
            time.sleep(FOREVER)
        except BaseException:
            continue


def ignore_sigterm(_=None):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(FOREVER)


def block_all_signals(_=None):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(FOREVER)


def wait_for_a_thread(_=None):
    thread = threading.Thread(target=time.sleep, args=(FOREVER,))
    thread.start()
    thread.join()


STUCK = [sleep_on, spin_in_c, stop_oneself, catch_everything, ignore_sigterm, wait_for_a_thread]
BLOCKED = [block_all_signals]


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


@pytest.mark.parametrize("stuck", STUCK + BLOCKED, ids=lambda fn: fn.__name__)
def test_an_item_that_never_ends_fails_alone_and_shows_where_it_was_stuck(stuck, pool):
    def task(x):
        return stuck() if x == 3 else x

    results = parallel_map(
        task, range(8), task_timeout=SHORT, on_error="return", chunksize=1, pool=pool
    )

    late = results[3]
    assert [r for r in results if r is not late] == [0, 1, 2, 4, 5, 6, 7]
    assert type(late.error) is TaskTimeoutError
    assert isinstance(late.error, TimeoutError)
    assert (late.error.index, late.attempts) == (3, 1)
    if stuck not in BLOCKED:
        assert f"in {stuck.__name__}" in late.error.stack
        assert "parmap" + os.sep + "_worker" not in late.error.stack
    assert parallel_map(double, [1, 2], pool=pool) == [2, 4]


@pytest.mark.parametrize("method", START_METHODS)
def test_every_start_method_ends_late_items(method):
    with Pool(1, start_method=method) as pool:
        results = parallel_map(
            lambda x: sleep_on() if x == 1 else x, range(3), task_timeout=SHORT,
            on_error="return", pool=pool,
        )  # fmt: skip

    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1].error, TaskTimeoutError)
    assert "in sleep_on" in results[1].error.stack


@pytest.mark.parametrize("chunksize", [None, 4, 200])
def test_chunks_are_only_transport_each_item_has_the_whole_time(chunksize, pool):
    """All together take many times the limit."""

    def task(x):
        time.sleep(0.02)
        return x

    results = parallel_map(task, range(40), task_timeout=0.3, chunksize=chunksize, pool=pool)

    assert results == list(range(40))


@pytest.mark.parametrize("stuck", [sleep_on, spin_in_c], ids=lambda fn: fn.__name__)
def test_one_among_many_tiny_items_that_never_ends_is_found(stuck):
    def task(x):
        return stuck() if x == 7000 else x

    with Pool(1) as pool:
        results = parallel_map(
            task, range(10_000), task_timeout=SHORT, on_error="return", chunksize=500, pool=pool
        )

    late = results[7000]
    assert isinstance(late, TaskFailure)
    assert isinstance(late.error, TaskTimeoutError)
    assert [r for r in results if r is not late] == [x for x in range(10_000) if x != 7000]


def test_tiny_items_that_become_dear_in_one_chunk_are_no_late_item(tmp_path):
    """The chunk takes far longer than the limit, each item does not: nothing is run twice."""
    ran = Diary(tmp_path / "ran")

    def task(x):
        if x >= 80:
            ran.write(x)
            time.sleep(0.03)
        return x

    with Pool(1) as pool:
        results = parallel_map(task, range(100), task_timeout=0.3, chunksize=50, pool=pool)

    assert results == list(range(100))
    assert ran.numbers() == list(range(80, 100))


def test_the_time_that_an_item_waits_does_not_count(tmp_path):
    """Behind others, at a pool that is busy for longer than the limit."""
    gate = Gate(tmp_path / "gate")

    with Pool(1) as pool:
        holding = pool.submit(gate.wait)
        wait_until(holding.running, "the first task")
        patient = pool.options(task_timeout=SHORT).submit(double, 4)
        threading.Timer(2 * SHORT, gate.open).start()
        assert patient.result(LIMIT) == 8


def test_the_time_that_a_function_takes_to_arrive_does_not_count(tmp_path):
    (tmp_path / "slow_module.py").write_text(
        "import time\ntime.sleep(0.6)\ndef work(x):\n    return x\n"
    )
    source = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from slow_module import work
        from parmap import parallel_map
        print(parallel_map(work, [1, 2], max_workers=1, task_timeout=0.3))
        """
    assert output_of(source, tmp_path) == "[1, 2]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("orphan", [False, True], ids=["grandchild", "orphan"])
@pytest.mark.parametrize("level", [None, "1"])
def test_what_a_late_item_has_started_dies_with_it(orphan, level, tmp_path, monkeypatch):
    """Also what ignores SIGTERM, and a grandchild whose own parent is gone (Linux)."""
    if level is not None:
        if orphan:
            pytest.skip("only Linux keeps orphans in the family")
        monkeypatch.setenv("PARMAP_PORTABLE", level)
    pids = Diary(tmp_path / "pids")

    def family(_):
        tail = "&" if orphan else "& wait"
        script = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {pids.path}; sleep 600' {tail}"
        subprocess.run(["sh", "-c", script], check=True)
        time.sleep(FOREVER)

    with Pool(1) as pool:
        future = pool.options(task_timeout=0.6).submit(family, 0)
        started = [int(pid) for pid in pids.wait_for(1)]
        assert all(map(alive, started))
        assert isinstance(future.exception(LIMIT), TaskTimeoutError)
        wait_until_dead(started, 5)


def test_a_late_item_in_each_mode(pool):
    def task(x):
        return sleep_on() if x == 2 else x

    with pytest.raises(TaskTimeoutError) as caught:
        parallel_map(task, range(4), task_timeout=SHORT, pool=pool)
    assert caught.value.index == 2
    results = parallel_imap(task, range(4), task_timeout=SHORT, pool=pool)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(TaskTimeoutError):
        next(results)
    assert list(results) == []


def test_a_late_item_is_retried_if_that_is_asked_for(tmp_path, pool):
    first = Diary(tmp_path / "first")

    def slow_at_first(x):
        if len(first.lines()) < 2:
            first.write(x)
            time.sleep(FOREVER)
        return x

    def run(retry):
        return parallel_map(
            slow_at_first, [5], task_timeout=SHORT, retry=retry, on_error="return", pool=pool
        )

    [refused] = run(Retry(attempts=2))  # lost workers only
    assert (type(refused.error), refused.attempts) == (TaskTimeoutError, 1)
    assert run(Retry(attempts=2, on=TimeoutError)) == [5]


def test_many_late_items_at_once_all_end(pool):
    results = parallel_map(
        catch_everything, range(6), task_timeout=SHORT, on_error="return", pool=pool
    )

    assert [type(r.error) for r in results] == [TaskTimeoutError] * 6
    assert pool.statistics().timed_out >= 6
    assert parallel_map(identity, range(5), pool=pool) == list(range(5))


@pytest.mark.parametrize("level", ["1", "2"])
def test_late_items_end_where_linux_ways_are_missing(level, tmp_path):
    source = """
        import time
        from parmap import parallel_map
        results = parallel_map(
            lambda x: x if x != 1 else time.sleep(600), range(3), max_workers=1,
            task_timeout=0.3, on_error="return",
        )
        print(results[0], type(results[1].error).__name__, results[2])
        """
    assert output_of(source, tmp_path, PARMAP_PORTABLE=level) == "0 TaskTimeoutError 2\n"


@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused_at_the_door(value):
    with pytest.raises((TypeError, ValueError), match="task_timeout"):
        parallel_map(double, [1], task_timeout=value)
