"""A task that is submitted to a warm pool while nothing else goes on, and its result awaited at once,
is not written into the books; whatever else happens meanwhile, nobody can tell."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import threading
from concurrent.futures import as_completed, wait
from typing import TYPE_CHECKING

import pytest

from parmap import Pool, WorkerLostError, _alone, _wheel, parallel_imap, parallel_map
from parmap._alone import Away
from parmap._calls import references
from support.gates import Diary, Gate, wait_until
from support.tasks import double

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(gate):
    gate.wait()
    return os.getpid()


def fail(x):
    raise ValueError(x)


@pytest.fixture
def pool():
    with Pool(2) as pool:
        assert parallel_map(double, [1, 2], pool=pool) == [2, 4]
        yield pool


@pytest.fixture
def written(monkeypatch):
    """The tasks that were written into the books; a busy machine is no reason for that."""
    written: list[Away] = []
    write_down = Away.write_down

    def note(self, *frames):
        written.append(self)
        write_down(self, *frames)

    monkeypatch.setattr(Away, "write_down", note)
    monkeypatch.setattr(_alone, "PATIENCE", 30.0)
    return written


@pytest.fixture
def unasked(pool, monkeypatch):
    """The loop's own thread drives if it is asked to, and never for the length of a silence.

    Until the pool ends, for which it is needed."""
    monkeypatch.setattr(_wheel, "LINGER", 3600)


def test_a_row_of_tasks_leaves_the_books_alone(unasked, pool, written):
    before = pool.statistics()
    assert [pool.submit(double, x).result() for x in range(20)] == [2 * x for x in range(20)]
    assert len(written) <= 2  # the loop's own thread may have been about to look after a silence
    now = pool.statistics()
    assert (now.calls, now.running, now.waiting) == (0, 0, 0)
    assert now.done == before.done + 20


def test_numbers_count_it(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    future = pool.submit(wait_for, gate)
    wait_until(future.running)
    now = pool.statistics()
    assert (now.calls, now.running, now.busy, now.waiting) == (1, 1, 1, 0)
    assert "1 run" in repr(pool)
    gate.open()
    future.result()
    wait_until(lambda: pool.statistics().busy == 0)


def test_a_failure_is_told_as_ever(pool):
    with pytest.raises(ValueError, match="7") as caught:
        pool.submit(fail, 7).result()
    assert any("item 0 (7)" in note for note in caught.value.__notes__)
    assert caught.traceback[-1].name == "fail"


def test_a_future_that_nobody_waits_for_is_served(pool):
    done = threading.Event()
    pool.submit(double, 3).add_done_callback(lambda _: done.set())
    assert done.wait(20)
    (first,) = as_completed([pool.submit(double, 4)], timeout=20)
    assert first.result() == 8


async def awaited(future):
    return await asyncio.wrap_future(future)


WAYS = {
    "wait": lambda future: wait([future], 20).done,
    "as_completed": lambda future: list(as_completed([future], 20)),
    "done": lambda future: wait_until(future.done),
    "running": lambda future: wait_until(lambda: not future.running()),
    "asyncio": lambda future: asyncio.run(awaited(future)),
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_does_not_drive_has_it_looked_after(unasked, pool, way):
    for x in range(5):
        assert pool.submit(double, 0).result() == 0
        future = pool.submit(double, x)
        WAYS[way](future)
        assert future.result() == 2 * x


@pytest.mark.parametrize("arguments", [(3,), (2, "text"), ((1, 2), None), ([1],), (b"x" * 10_000,)])
def test_arguments_come_as_they_were_plain_or_not(pool, arguments):
    assert pool.submit(count_of, *arguments).result() == (len(arguments), repr(arguments))
    assert pool.submit(count_of, *arguments, key=1).result()[0] == len(arguments) + 1


def count_of(*args, **kwargs):
    return len(args) + len(kwargs), repr(args)


def test_a_function_that_workers_know_may_be_given_up_for_others(pool, monkeypatch):
    monkeypatch.setattr(references, "MOST_KEPT", 2)
    functions: list[Callable[[int], object]] = [
        operator.neg,
        abs,
        operator.pos,
        double,
        operator.not_,
        operator.truth,
    ]
    for _ in range(3):
        assert [pool.submit(f, -3).result() for f in functions] == [f(-3) for f in functions]
        futures = [pool.submit(f, -3) for f in functions * 5]
        assert [f.result() for f in futures] == [f(-3) for f in functions * 5]


def made(x):
    """An object whose class comes by value, and once per call."""

    class Local:
        value = x

    return Local()


def test_tasks_and_a_map_of_one_function_do_not_meet(pool):
    """What a worker has told of a class to one call, another one has not heard."""
    stream = parallel_imap(made, range(200), pool=pool)
    seen = [next(stream).value for _ in range(3)]
    tasks = [pool.submit(made, x) for x in range(100)]
    mapped = parallel_map(made, range(200), pool=pool)
    more = [pool.submit(made, x).result() for x in range(20)]
    assert seen + [made.value for made in stream] == list(range(200))
    assert [task.result().value for task in tasks] == list(range(100))
    assert [m.value for m in mapped] == list(range(200))
    assert [m.value for m in more] == list(range(20))


def test_a_task_by_name_runs_again_elsewhere(tmp_path):
    diary = Diary(tmp_path / "diary")
    with Pool(1) as pool:
        assert pool.submit(double, 1).result() == 2
        future = pool.submit(die_once, diary.path)
        with pytest.raises(WorkerLostError):
            future.result()
        assert pool.submit(die_once, diary.path).result() == "alive"


def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_a_wait_that_is_too_short_loses_nothing(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    future = pool.submit(wait_for, gate)
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            future.result(timeout)
    wait_until(future.running)
    assert not future.cancel()
    gate.open()
    assert future.result() > 0


def test_its_worker_may_die(pool, tmp_path):
    diary = Diary(tmp_path / "diary")

    def linger():
        diary.write(os.getpid())
        signal.pause()

    for _ in range(3):
        future = pool.submit(linger)
        (*_, pid) = diary.wait_for(1)
        os.kill(int(pid), signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            future.result()
        os.unlink(diary.path)
        assert pool.submit(double, 2).result() == 4


def test_it_can_be_killed(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    future = pool.submit(wait_for, gate)
    wait_until(future.running)
    assert pool.kill(future)
    with pytest.raises(WorkerLostError):
        future.result()


def test_others_are_served_meanwhile(pool, tmp_path):
    gate = Gate(tmp_path / "gate")
    future = pool.submit(wait_for, gate)
    assert parallel_map(double, range(100), pool=pool) == [2 * x for x in range(100)]
    assert pool.submit(double, 1).result() == 2
    assert not future.done()
    gate.open()
    assert future.result() > 0


def test_a_map_of_another_thread_comes_between_task_and_result(pool, written):
    """The other thread drives, and so writes the task down."""
    for x in range(10):
        future = pool.submit(double, x)
        other = threading.Thread(
            target=parallel_map, args=(double, range(50)), kwargs={"pool": pool}
        )
        other.start()
        other.join()
        assert future.result() == 2 * x


def test_a_pool_that_is_shut_down_finishes_it(tmp_path):
    gate = Gate(tmp_path / "gate")
    pool = Pool(1)
    assert pool.submit(double, 1).result() == 2
    future = pool.submit(wait_for, gate)
    pool.shutdown(wait=False)
    gate.open()
    assert future.result() > 0
    pool.shutdown()


def test_a_callback_may_submit_the_next(pool):
    results: list[int] = []
    done = threading.Event()

    def next_one(future):
        results.append(future.result())
        if len(results) < 5:
            pool.submit(double, results[-1]).add_done_callback(next_one)
        else:
            done.set()

    first = pool.submit(double, 1)
    first.add_done_callback(next_one)
    first.result()
    assert done.wait(20)
    assert results == [2, 4, 8, 16, 32]


def test_many_threads_submit_and_wait(pool):
    def row(start):
        sums[start] = sum(pool.submit(double, start + x).result() for x in range(60))

    sums: dict[int, int] = {}
    threads = [threading.Thread(target=row, args=(start,)) for start in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == {s: sum(2 * (s + x) for x in range(60)) for s in range(0, 400, 100)}


def test_what_has_changed_is_seen_by_the_next(pool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert pool.submit(os.getcwd).result() == str(tmp_path)
    monkeypatch.setenv("PARMAP_ALONE", "yes")
    assert pool.submit(os.environ.get, "PARMAP_ALONE").result() == "yes"
