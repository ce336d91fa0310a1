"""`parmap.aio`: results and errors as from the synchronous calls, a loop that goes on meanwhile, and
cancellation after which nothing runs."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from parmap import CallTimeoutError, Pool, SerializationError, TaskErrorGroup, TaskFailure
from parmap.aio import aparallel_imap, aparallel_map
from support.gates import Diary, Gate, alive, kept_pool, wait_until, wait_until_dead
from support.tasks import add, double, fail_if_odd


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


async def collect(results):
    return [result async for result in results]


async def counted(stop):
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


async def until(condition):
    """Let the loop go on until it holds; the test's own time limit ends what never comes."""
    while not condition():  # noqa: ASYNC110 - what it waits for happens in another process
        await asyncio.sleep(0.005)


# ---------------------------------------------------------------------- results and errors


def test_results_are_those_of_the_synchronous_calls(pool):
    async def main():
        assert await aparallel_map(double, range(50), pool=pool) == [2 * x for x in range(50)]
        assert await aparallel_map(add, [1, 2], [10, 20], pool=pool) == [11, 22]
        assert await aparallel_map(double, [], pool=pool) == []
        assert await collect(aparallel_imap(double, range(50), pool=pool)) == [
            2 * x for x in range(50)
        ]
        unordered = await collect(aparallel_imap(double, range(50), pool=pool, ordered=False))
        assert sorted(unordered) == [2 * x for x in range(50)]
        assert await aparallel_map(double, range(3), max_workers=0) == [0, 2, 4]

    asyncio.run(main())


def test_errors_are_those_of_the_synchronous_calls(pool):
    async def main():
        with pytest.raises(ValueError, match="odd 1") as caught:
            await aparallel_map(fail_if_odd, [0, 1, 2], pool=pool)
        assert "item 1 (1)" in caught.value.__notes__[0]
        with pytest.raises(TaskErrorGroup):
            await aparallel_map(fail_if_odd, [0, 1], pool=pool, on_error="group")
        results = await aparallel_map(fail_if_odd, [0, 1], pool=pool, on_error="return")
        assert isinstance(results[1], TaskFailure)
        stream = aparallel_imap(fail_if_odd, [0, 2, 3, 4], pool=pool)
        assert [await anext(stream), await anext(stream)] == [0, 2]
        with pytest.raises(ValueError, match="odd 3"):
            await anext(stream)
        assert await collect(stream) == []
        with pytest.raises(TypeError, match="fn must be callable"):
            await aparallel_map(None, [1])
        with pytest.raises(ValueError, match="buffersize"):
            await anext(aparallel_imap(double, [1], buffersize=0))

    asyncio.run(main())


def test_a_timeout_of_the_call_itself(pool, tmp_path):
    async def main():
        with pytest.raises(CallTimeoutError):
            await aparallel_map(Gate(tmp_path / "never").wait, [9] * 4, pool=pool, timeout=0.05)

    asyncio.run(main())


def test_other_engines(pool):
    async def main():
        with ThreadPoolExecutor(2) as threads:
            assert await aparallel_map(double, range(9), pool=threads) == [2 * x for x in range(9)]

    asyncio.run(main())


def test_an_async_iterable_is_read_in_the_event_loop(pool):
    threads = set()

    async def numbers():
        async for number in counted(20):
            threads.add(threading.current_thread())
            yield number

    async def main():
        assert await aparallel_map(double, numbers(), pool=pool) == [2 * x for x in range(20)]
        assert await aparallel_map(add, numbers(), range(3), pool=pool) == [0, 2, 4]
        assert await collect(aparallel_imap(double, numbers(), pool=pool)) == [
            2 * x for x in range(20)
        ]

    asyncio.run(main())
    assert threads == {threading.main_thread()}


def test_an_input_that_raises(pool):
    async def broken():
        yield 1
        raise LookupError("no more")

    async def main():
        with pytest.raises(LookupError):
            await aparallel_map(double, broken(), pool=pool)
        stream = aparallel_imap(double, broken(), pool=pool)
        assert await anext(stream) == 2
        with pytest.raises(LookupError):
            await anext(stream)

    asyncio.run(main())


def test_the_loop_goes_on_while_the_input_and_the_workers_are_slow(pool, tmp_path):
    """Both wait for what only the loop does."""
    read, done = Gate(tmp_path / "read"), Gate(tmp_path / "done")

    def slow_input():
        yield 1
        read.wait()
        yield 2

    def slow_item(number):
        done.wait()
        return number

    async def main():
        call = asyncio.create_task(aparallel_map(slow_item, slow_input(), pool=pool))
        await asyncio.sleep(0)
        read.open()
        await asyncio.sleep(0)
        done.open()
        assert await call == [1, 2]

    asyncio.run(main())


def test_an_endless_input_is_read_only_as_far_as_it_is_needed(pool):
    read = itertools.count()

    async def main():
        async with aparallel_imap(double, read, pool=pool, buffersize=10) as results:
            return [await anext(results) for _ in range(30)]

    assert asyncio.run(main()) == [2 * x for x in range(30)]
    assert next(read) <= 40


def test_progress_is_told_in_the_event_loop(pool):
    told = []

    def note(progress):
        told.append((threading.current_thread(), progress.done))

    async def main():
        await aparallel_map(double, range(30), pool=pool, progress=note)

    asyncio.run(main())
    assert told[-1] == (threading.main_thread(), 30)


def test_the_input_is_read_with_the_context_of_the_awaiting_task(pool):
    who = contextvars.ContextVar("who", default="nobody")

    def names():
        yield who.get()

    async def main():
        who.set("the task")
        assert await aparallel_map(str.upper, names(), pool=pool) == ["THE TASK"]
        stream = aparallel_imap(str.upper, names(), pool=pool)
        who.set("too late")
        assert await collect(stream) == ["THE TASK"]

    asyncio.run(main())


def test_calls_of_many_tasks_share_the_workers(pool):
    async def main():
        return await asyncio.gather(
            *(aparallel_map(add, range(20), [n] * 20, pool=pool) for n in range(8))
        )

    assert asyncio.run(main()) == [[x + n for x in range(20)] for n in range(8)]


# ---------------------------------------------------------------------- cancellation


class Stuck:
    """An item that never ends by itself, and the process that is in it."""

    def __init__(self, folder):
        self.diary = Diary(folder / "diary")
        self.never = Gate(folder / "never")

    def __call__(self, item):
        self.diary.write(os.getpid())
        self.never.wait(60)

    @property
    def pids(self):
        return self.diary.numbers()


@pytest.fixture
def stuck(tmp_path):
    return Stuck(tmp_path)


def test_a_cancelled_map_has_ended_its_items_when_that_is_reported(stuck):
    async def main(pool):
        call = asyncio.create_task(aparallel_map(stuck, range(9), pool=pool))
        await until(lambda: len(stuck.pids) == 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not any(map(alive, stuck.pids))
        assert await aparallel_map(double, [1], pool=pool) == [2]

    with Pool(2) as pool:
        asyncio.run(main(pool))
    assert len(stuck.pids) == 2


def test_wait_for_ends_what_runs(stuck):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(aparallel_map(stuck, range(9), max_workers=1), 0.5)
        assert not any(map(alive, stuck.pids))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(aparallel_imap(stuck, range(9), max_workers=1))
        assert not any(map(alive, stuck.pids))

    asyncio.run(main())


def test_leaving_the_loop_over_results_early_ends_what_runs(stuck):
    def first_is_quick(number):
        return stuck(number) if number else number

    async def main():
        async with aparallel_imap(first_is_quick, itertools.count(), max_workers=1) as results:
            async for result in results:
                assert result == 0
                await until(lambda: stuck.pids)
                break
        assert not any(map(alive, stuck.pids))
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    asyncio.run(main())


def test_an_iterator_that_is_dropped_ends_what_runs(stuck):
    def first_is_quick(number):
        return stuck(number) if number else number

    async def main():
        async for _ in aparallel_imap(first_is_quick, itertools.count(), max_workers=1):
            await until(lambda: stuck.pids)
            break

    asyncio.run(main())
    gc.collect()
    wait_until_dead(stuck.pids)


def test_the_end_of_the_loop_ends_what_runs(stuck):
    """`asyncio.run` cancels what is left."""
    calls = []

    async def main():
        calls.append(asyncio.create_task(aparallel_map(stuck, range(9), max_workers=1)))
        await until(lambda: stuck.pids)

    asyncio.run(main())
    assert calls[0].cancelled()
    assert not any(map(alive, stuck.pids))


def test_a_call_can_be_cancelled_before_it_has_begun():
    async def main():
        for _ in range(5):
            call = asyncio.create_task(aparallel_map(double, range(9), max_workers=2))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())


def test_an_input_that_is_awaited_for_ever_is_no_hindrance(pool):
    async def never():
        yield 1
        await asyncio.Event().wait()

    async def main():
        call = asyncio.create_task(aparallel_map(double, never(), pool=pool))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_an_engine_that_cannot_end_its_items_finishes_the_one_it_runs(engine, tmp_path):
    diary = Diary(tmp_path / "diary")

    async def main(**options):
        call = asyncio.create_task(aparallel_map(diary.write, itertools.count(), **options))
        await until(diary.lines)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return len(diary.lines())

    if engine == "inline":
        ended_at = asyncio.run(main(max_workers=0))
    else:
        with ThreadPoolExecutor(2) as threads:
            ended_at = asyncio.run(main(pool=threads))
    assert len(diary.lines()) == ended_at


def test_two_tasks_cannot_await_the_same_result(stuck):
    async def main():
        stream = aparallel_imap(stuck, range(9), max_workers=1)
        first = asyncio.create_task(anext(stream))
        await until(lambda: stuck.pids)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await first
        assert not any(map(alive, stuck.pids))

    asyncio.run(main())


def test_the_iterator_stays_here(pool):
    with pytest.raises(SerializationError):
        pickle.dumps(aparallel_imap(double, [1]))


@pytest.mark.slow
def test_cancelled_at_any_moment_nothing_is_left(pool, rng):
    """The leak checker looks for the rest: threads, processes, descriptors."""

    async def mapped():
        await aparallel_map(double, (number for number in range(3000)), pool=pool)

    async def awaited():
        await aparallel_map(double, counted(300), pool=pool)

    async def streamed():
        async with aparallel_imap(double, itertools.count(), pool=pool) as results:
            async for _ in results:
                pass

    async def main():
        for _ in range(40):
            task = asyncio.create_task(rng.choice([mapped, awaited, streamed])())
            await asyncio.sleep(rng.random() ** 3 * 0.05)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None
        assert await aparallel_map(double, [1], pool=pool) == [2]

    asyncio.run(main())
    wait_until(lambda: pool.statistics().calls == 0, "every call to end")
    assert not [each for each in threading.enumerate() if each.name == "parmap-aio"]
