"""`parallel_imap` reads, runs and keeps no more than it may, and nothing once nobody wants it."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time

import pytest

from parmap import parallel_imap, parallel_map
from support.gates import Diary, Gate, alive, cpu_seconds, kept_pool, wait_until
from support.tasks import double, fail, identity, pid_of


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


class Counting:
    """An endless input that knows how far it was read, and by whom."""

    def __init__(self, limit=None):
        self.read = 0
        self.threads = set()
        self.limit = limit

    def __iter__(self):
        return self

    def __next__(self):
        if self.read == self.limit:
            raise StopIteration
        self.threads.add(threading.current_thread())
        self.read += 1
        return self.read - 1


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("buffersize", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_never_more_than_buffersize_items_are_read_ahead(pool, ordered, buffersize, chunksize):
    items = Counting()

    with parallel_imap(
        double, items, ordered=ordered, buffersize=buffersize, chunksize=chunksize, pool=pool
    ) as results:
        for taken in range(60):
            assert items.read - taken <= buffersize
            next(results)
            assert items.read - (taken + 1) <= buffersize


def test_by_default_the_input_is_not_read_to_its_end(pool):
    items = Counting()
    with parallel_imap(double, items, pool=pool) as results:
        assert [next(results) for _ in range(100)] == list(range(0, 200, 2))
    assert items.read < 100_000


def test_slow_items_are_read_only_as_far_as_keeps_the_workers_busy(pool, tmp_path):
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x:
            gate.wait()
        return x

    items = Counting()
    with parallel_imap(task, items, pool=pool) as results:
        next(results)
        gate.open()
        assert items.read < 50


def test_nothing_is_read_or_run_before_the_first_next(pool, tmp_path):
    ran = Diary(tmp_path / "ran")
    items = Counting()
    with parallel_imap(ran.write, items, pool=pool):
        assert items.read == 0
    assert ran.lines() == []


def test_the_first_result_comes_while_the_input_has_more(pool):
    reached = []

    def items():
        yield 1
        yield 2
        reached.append("far")
        while not taken:
            yield 3
            assert len(reached) < 10_000  # it is read on only as far as it may
            reached.append("further")

    taken: list[int] = []
    with parallel_imap(double, items(), buffersize=50, pool=pool) as results:
        taken.append(next(results))
    assert taken == [2]


def test_the_first_result_does_not_wait_for_a_slow_second_item(pool):
    """The input blocks until the first result was taken."""
    first_taken = threading.Event()
    came: list[bool] = []

    def items():
        yield 1
        came.append(first_taken.wait(0.5))  # a second look at the input may come too early
        yield 2

    results = parallel_imap(double, items(), pool=pool)
    assert next(results) == 2
    first_taken.set()
    assert list(results) == [4]


def test_an_endless_input_works_in_order(pool):
    with parallel_imap(double, itertools.count(), pool=pool) as results:
        assert list(itertools.islice(results, 5000)) == list(range(0, 10_000, 2))


def test_the_input_is_read_only_in_the_thread_that_calls_next(pool):
    items = Counting(limit=500)
    results = parallel_imap(double, items, pool=pool)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(results))
    thread.start()
    thread.join()
    assert got == list(range(0, 1000, 2))
    assert items.threads == {thread}


def test_several_threads_may_take_from_one_iterator(pool):
    results = parallel_imap(double, range(2000), pool=pool)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(results)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(0, 4000, 2))


def test_close_ends_it_and_may_be_called_twice(pool):
    items = Counting()
    results = parallel_imap(double, items, pool=pool)
    next(results)
    results.close()
    read = items.read
    results.close()
    assert list(results) == []
    assert items.read == read
    assert "over" in repr(results)


def test_with_closes_it_when_the_consumer_raises(pool):
    items = Counting()
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with parallel_imap(double, items, pool=pool) as results:
            for _ in results:
                _ = 1 / 0
    assert list(results) == []
    assert parallel_map(double, [1], pool=pool) == [2]


WAYS = {
    "close": lambda holder: holder.pop().close(),
    "del": lambda holder: holder.clear(),
    "cycle": lambda holder: (holder.append(holder), holder.clear(), gc.collect()),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_that_is_given_up_stops_its_running_items(tmp_path, way):
    started = Diary(tmp_path / "started")

    def task(x):
        started.write(os.getpid())
        if x:
            Gate(tmp_path / "never").wait(600)
        return x

    holder = [parallel_imap(task, itertools.count(), max_workers=2, chunksize=1)]
    next(holder[0])
    busy = {int(line) for line in started.wait_for(3)[1:]}

    WAYS[way](holder)

    wait_until(lambda: not any(map(alive, busy)), "the end of the running items", 5)
    assert parallel_map(double, [1], max_workers=2) == [2]


def test_one_that_is_dropped_uses_no_cpu_and_its_idle_workers_stay(pool, tmp_path):
    results = parallel_imap(identity, itertools.count(), pool=pool)
    pids = {next(iter(pool.map(pid_of, [0])))}
    for _ in range(1000):
        next(results)
    del results
    gc.collect()
    assert parallel_map(double, range(10), pool=pool) == list(range(0, 20, 2))

    before = sum(map(cpu_seconds, pids)), os.times()
    threading.Event().wait(0.3)  # not to be right: the time in which nothing may be used
    after = sum(map(cpu_seconds, pids)), os.times()

    assert after[0] - before[0] <= 0.05
    assert after[1].user + after[1].system - before[1].user - before[1].system <= 0.1


def test_breaking_out_of_a_loop_leaves_the_pool_usable(pool):
    for result in parallel_imap(double, itertools.count(), pool=pool):
        if result == 20:
            break
    assert parallel_map(double, [1, 2], pool=pool) == [2, 4]


def test_many_open_iterators_share_the_workers(pool):
    streams = [parallel_imap(double, itertools.count(n), pool=pool) for n in range(10)]
    for step in range(20):
        assert [next(stream) for stream in streams] == [2 * (n + step) for n in range(10)]
    for stream in streams:
        stream.close()


def test_an_iterator_made_from_another_streams_results(pool):
    inner = parallel_imap(double, range(100), pool=pool)
    assert list(parallel_imap(double, inner, pool=pool)) == list(range(0, 400, 4))


def test_an_input_that_calls_parmap_itself(pool):
    def items():
        for x in range(20):
            yield from parallel_map(double, [x], pool=pool)

    assert list(parallel_imap(double, items(), pool=pool)) == list(range(0, 80, 4))
    assert parallel_map(double, items(), pool=pool) == list(range(0, 80, 4))


def test_close_during_next_of_another_thread_waits_for_it(pool):
    results = parallel_imap(double, itertools.count(), pool=pool)
    stopped = threading.Event()

    def consume():
        for _ in results:
            pass
        stopped.set()

    thread = threading.Thread(target=consume)
    thread.start()
    results.close()
    assert stopped.wait(10)
    thread.join()


def test_the_input_generator_is_closed_with_the_iterator(pool):
    closed = []

    def items():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    with parallel_imap(double, items(), pool=pool) as results:
        next(results)
    gc.collect()
    assert closed == [True]


def test_a_closed_one_does_not_keep_its_items_or_results(pool):
    class Tracked:
        alive = 0

        def __init__(self):
            Tracked.alive += 1

        def __del__(self):
            Tracked.alive -= 1

        def __reduce__(self):
            return int, (1,)

    results = parallel_imap(
        identity, (Tracked() for _ in itertools.count()), buffersize=5, pool=pool
    )
    for _ in range(50):
        next(results)
        assert Tracked.alive <= 10
    results.close()
    del results
    gc.collect()
    assert Tracked.alive == 0


def test_a_failure_stops_the_reading(pool):
    items = Counting()
    results = parallel_imap(fail, items, pool=pool)
    with pytest.raises(ValueError, match="bad item"):
        next(results)
    read = items.read
    assert list(results) == []
    assert items.read == read


def test_a_result_does_not_wait_for_the_item_behind_it_in_its_chunk(pool):
    """However many have been sent together, and whatever they give."""
    for quick in (2, 3, 7, 20):

        def task(n, quick=quick):
            if n >= quick:
                time.sleep(3600)
            if n % 3 == 1:
                raise ValueError(n)
            return [n]

        with parallel_imap(task, itertools.count(), pool=pool, on_error="return") as results:
            outcomes = [next(results) for _ in range(quick)]
        assert [n for n, each in enumerate(outcomes) if each != [n]] == list(range(1, quick, 3))
