"""Whoever waits drives the loop: in any thread, beside others, through signals, errors and forks."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from parmap import Pool, parallel_imap, parallel_map
from parmap._hold import Hold
from support.gates import Gate, kept_pool, wait_until
from support.scripts import output_of
from support.tasks import double, exit_if_told, fail, identity, pid_of, through_a_gate

LIMIT = 30


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


def test_many_threads_map_and_submit_at_once(pool):
    """One of them drives, the others hear of their results from it, and all get a turn."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for step in range(30):
            items = list(range(number, number + 1 + step % 9))
            future = pool.submit(double, number)
            if parallel_map(double, items, pool=pool) != [2 * x for x in items]:
                wrong.append(items)
            if future.result(LIMIT) != 2 * number:
                wrong.append(number)
            if list(parallel_imap(double, iter(items), pool=pool)) != [2 * x for x in items]:
                wrong.append(items)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_a_future_that_nobody_waits_for_is_served(pool):
    done = threading.Event()
    parallel_map(double, [1], pool=pool)  # its caller has driven just now
    pool.submit(double, 1).add_done_callback(lambda future: done.set())

    assert done.wait(LIMIT)


def test_a_future_is_served_while_another_callers_stream_is_left_alone(pool):
    with parallel_imap(double, range(10**6), pool=pool) as results:
        next(results)
        done = threading.Event()
        pool.submit(double, 1).add_done_callback(lambda future: done.set())
        assert done.wait(LIMIT)
        assert next(results) == 2


def test_a_stream_goes_on_while_its_consumer_does_something_else(pool, tmp_path):
    """The loop's own thread takes over from the caller that has driven until now."""
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x == 3:
            gate.open()
        return x

    with parallel_imap(task, range(4), chunksize=1, pool=pool) as results:
        next(results)
        gate.wait()
        assert list(results) == [1, 2, 3]


def test_the_results_of_a_thread_come_although_the_one_that_drives_leaves(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    others: list[int] = []

    def wait_and_double(x):
        gate.wait()
        return 2 * x

    other = threading.Thread(
        target=lambda: others.extend(parallel_map(wait_and_double, [1], pool=pool))
    )
    other.start()
    assert parallel_map(double, range(100), pool=pool) == list(range(0, 200, 2))
    gate.open()
    other.join(LIMIT)

    assert others == [2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX")
def test_what_a_signals_handler_raises_at_any_moment_ends_one_call_and_harms_no_other(
    pool, monkeypatch
):
    """In the middle of the books, too: every later call is served.

    Python itself swallows what is raised in an object's `__del__`; then the calls just go on.
    """

    class Struck(KeyboardInterrupt):  # what else passes through every net
        pass

    struck = strikes = 0

    def strike(number, frame):
        nonlocal strikes
        strikes += 1
        raise Struck

    swallowed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: swallowed.append(each.exc_type))
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for step in range(25):
            items = list(range(1 + step * 7 % 40))
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + step * 0.0003)
                    while strikes == step:
                        assert parallel_map(identity, items, pool=pool) == items
                        assert parallel_map(lambda x: x, items, pool=pool) == items
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Struck:
                struck += 1
            assert parallel_map(double, items, pool=pool) == [2 * x for x in items]
    finally:
        signal.signal(signal.SIGALRM, before)

    assert strikes == 25
    assert swallowed == [Struck] * (25 - struck)


def test_whoever_was_interrupted_while_it_asked_for_the_wheel_does_not_get_it(pool, tmp_path):
    """It would be at the wheel for ever, without knowing."""
    gate = Gate(tmp_path / "gate")
    future = pool.submit(gate.wait)
    driver, wheel = pool._driver, pool._driver._wheel
    wait_until(lambda: wheel.holder is not None, "the loop's own thread drives")
    hold = Hold(driver._crew.interrupt)
    hold.noted[signal.SIGINT] = None  # came just before

    if driver._take_wheel(hold, insist=True):
        driver._leave_wheel(None)

    wait_until(lambda: not wheel.wanted, "nobody asks any more")
    assert not wheel.mine
    gate.open()
    future.result(LIMIT)


@pytest.mark.skipif(os.name != "posix", reason="POSIX")
def test_a_signals_handler_runs_while_a_long_map_is_driven(pool, tmp_path):
    """The map ends only because the handler has run meanwhile."""
    gate = Gate(tmp_path / "gate")
    before = signal.signal(signal.SIGUSR1, lambda number, frame: gate.open())
    try:
        main = threading.main_thread().ident
        assert main is not None

        started = Gate(tmp_path / "started")

        def interrupt():
            started.wait()
            signal.pthread_kill(main, signal.SIGUSR1)

        def task(x):
            started.open()
            gate.wait()
            return x

        thread = threading.Thread(target=interrupt)
        thread.start()
        assert parallel_map(task, [1, 2], pool=pool) == [1, 2]
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_child_that_is_forked_while_another_thread_drives_maps_by_itself(tmp_path):
    source = """
import faulthandler, os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from parmap import parallel_map
from support.gates import Gate
gate, started = Gate("gate"), Gate("started")

def task(x):
    started.open()
    gate.wait()
    return x

got = []
thread = threading.Thread(target=lambda: got.extend(parallel_map(task, [1, 2], max_workers=2)))
thread.start()
started.wait()
child = os.fork()
if child == 0:
    ok = parallel_map(lambda x: 2 * x, range(5), max_workers=2) == [0, 2, 4, 6, 8]
    import parmap
    parmap.shutdown()
    os._exit(0 if ok else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
gate.open()
thread.join()
print(status, got)
"""
    assert output_of(source, tmp_path) == "0 [1, 2]\n"


def test_what_waits_behind_a_slow_item_of_its_chunk_is_run_by_others(pool, tmp_path):
    """The first item ends only when the last of its own chunk has run: so the chunk must be cut."""
    gate = Gate(tmp_path / "gate")
    first = [(str(gate.path), "pass", x) for x in range(8)]
    assert parallel_map(through_a_gate, first, pool=pool) == list(range(8))  # they are cheap
    assert parallel_map(through_a_gate, first, pool=pool) == list(range(8))
    items = [(str(gate.path), "wait" if x == 0 else "pass", x) for x in range(7)]
    items.append((str(gate.path), "open", 7))

    assert parallel_map(through_a_gate, items, pool=pool) == list(range(8))


def test_a_failure_on_the_short_way_is_the_loops_failure(pool):
    for _ in range(3):
        assert parallel_map(identity, [1, 2], pool=pool) == [1, 2]
        with pytest.raises(ValueError, match="bad item") as caught:
            parallel_map(fail, [1], pool=pool)
    assert "item 0 (1)" in caught.value.__notes__[0]


def test_a_worker_that_dies_on_the_short_way_costs_its_item_and_nothing_else(pool):
    from parmap import WorkerLostError

    for _ in range(2):
        assert parallel_map(exit_if_told, [0, 0], pool=pool) == [0, 0]
        with pytest.raises(WorkerLostError) as caught:
            parallel_map(exit_if_told, [0, 1, 0], pool=pool)
        assert caught.value.index == 1


def test_a_short_map_waits_for_the_callers_surroundings(pool, monkeypatch):
    """The worker takes them over before it, as before any call."""
    for value in ("one", "two"):
        monkeypatch.setenv("PARMAP_TEST_SHORT", value)
        for _ in range(3):
            assert parallel_map(os.getenv, ["PARMAP_TEST_SHORT"], pool=pool) == [value]


def test_a_call_with_nothing_to_run_waits_for_nobody(pool, monkeypatch):
    """Its end is there as soon as the loop has heard of it; with a timeout it was waited for, too."""
    driver, wait = pool._driver, pool._driver._crew.wait
    waited: list[float | None] = []

    def watched(patience):
        if threading.current_thread() is threading.main_thread() and not driver._calls:
            waited.append(patience)
            return []
        return wait(patience)

    monkeypatch.setattr(driver._crew, "wait", watched)
    for _ in range(30):
        parallel_map(double, [1], pool=pool)  # its caller drives, and leaves a free wheel behind
        assert parallel_map(double, [], timeout=LIMIT, pool=pool) == []
        assert list(parallel_imap(double, [], timeout=LIMIT, pool=pool)) == []
    assert not waited


def test_idle_workers_stay_while_short_maps_come():
    with Pool(1) as pool:
        pids = {pid for _ in range(50) for pid in parallel_map(pid_of, [0], pool=pool)}
    assert len(pids) == 1
