"""Typed usage of the public names: never run, read by mypy and pyright (`make types`)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import parmap
from parmap import (
    Channel,
    Duplex,
    Pool,
    Progress,
    Receiver,
    ResultIterator,
    Sender,
    SharedDict,
    SharedList,
    TaskFailure,
    Worker,
    WorkerGroup,
    compat,
    parallel_imap,
    parallel_map,
    parallel_starmap,
    run_workers,
    select,
)
from parmap._pool_view import PoolView
from parmap._task import TaskContext
from parmap.aio import AsyncResultIterator, aparallel_imap, aparallel_map

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable


def length(text: str) -> int:
    return len(text)


def repeat(text: str, times: int) -> str:
    return text * times


def join(text: str, times: int, end: str) -> str:
    return text * times + end


words = ["a", "b"]

# The result type follows the function ...
assert_type(parallel_map(length, words), list[int])
assert_type(parallel_map(repeat, words, [1, 2]), list[str])
assert_type(parallel_starmap(repeat, [("a", 2)]), list[str])
assert_type(parallel_imap(length, words), ResultIterator[int])

# ... and on_error: failures as values are seen by the checker.
assert_type(parallel_map(length, words, on_error="raise"), list[int])
assert_type(parallel_map(length, words, on_error="group"), list[int])
assert_type(parallel_map(length, words, on_error="return"), list[int | TaskFailure])
assert_type(parallel_starmap(repeat, [("a", 2)], on_error="return"), list[str | TaskFailure])
assert_type(parallel_imap(length, words, on_error="return"), ResultIterator[int | TaskFailure])

# The same with two iterables, and with three or more, which no checker looks into.
assert_type(parallel_map(repeat, words, [1, 2], on_error="return"), list[str | TaskFailure])
assert_type(parallel_map(join, words, [1, 2], "xy"), list[str])
assert_type(parallel_map(join, words, [1, 2], "xy", on_error="return"), list[str | TaskFailure])
assert_type(parallel_imap(repeat, words, [1, 2]), ResultIterator[str])
assert_type(parallel_imap(repeat, words, [1], on_error="return"), ResultIterator[str | TaskFailure])
assert_type(parallel_imap(join, words, [1, 2], "xy"), ResultIterator[str])
assert_type(
    parallel_imap(join, words, [1, 2], "xy", on_error="return"), ResultIterator[str | TaskFailure]
)
assert_type(parallel_starmap(join, [("a", 2, "x"), ("b", 1, "y")], on_error="group"), list[str])
assert_type(next(parallel_imap(length, words)), int)

# Lambdas are inferred from the items.
assert_type(parallel_map(lambda word: word.upper(), words), list[str])
assert_type(parallel_map(lambda word, n: word[n], words, [0, 0]), list[str])

# Somebody else's executor changes nothing.
assert_type(parallel_map(length, words, pool=ThreadPoolExecutor()), list[int])


# What an item may ask for; the seed of the call is an option like any other.
assert_type(parmap.current_task(), TaskContext | None)
assert_type(parmap.in_worker(), bool)
assert_type(parallel_imap(length, words, seed=1), ResultIterator[int])
assert_type(parallel_starmap(repeat, [("a", 2)], seed=None), list[str])

# A path in whatever form.
assert_type(parallel_map(length, words, checkpoint="results.sqlite"), list[int])
assert_type(parallel_starmap(repeat, [("a", 2)], checkpoint=Path("results")), list[str])


def take(numbers: Iterable[int]) -> Iterator[int]:
    with parallel_imap(abs, numbers, ordered=False, buffersize=8, max_workers=2) as results:
        for result in results:
            assert_type(result, int)
            yield result
    results.close()


def show(progress: Progress) -> None:
    assert_type(progress.done, int)
    assert_type(progress.failed, int)
    assert_type(progress.total, int | None)
    assert_type(progress.elapsed, float)


parallel_map(length, words, progress=show, chunksize=10, strict=True)
parallel_map(length, words, progress="measuring", max_workers=0)

with Pool(2, start_method="spawn", initializer=print, initargs=("ready",)) as pool:
    assert_type(pool, Pool)
    assert_type(parallel_map(length, words, pool=pool), list[int])

parmap.shutdown()


def look(results: list[int | TaskFailure]) -> int:
    for result in results:
        if isinstance(result, TaskFailure):
            assert_type(result.index, int)
            assert_type(result.error, BaseException)
            result.reraise()
        else:
            return result
    return 0


def handle(error: BaseException) -> None:
    if isinstance(error, parmap.WorkerLostError):
        assert_type(error.exitcode, int | None)
    if failure := parmap.failure_of(error):
        assert_type(failure, TaskFailure)


lock = parmap.RLock()
assert_type(lock.acquire(timeout=1), bool)
with lock as got:
    assert_type(got, bool)
    assert_type(lock.was_abandoned, bool)
condition = parmap.Condition(lock)
assert_type(condition.wait_for(lambda: words), list[str])
assert_type(parmap.Semaphore(2).value, int)
assert_type(parmap.Barrier(2).wait(timeout=1), int)
assert_type(parmap.Event().wait(), bool)

# Shared values know what they hold, from the initial value or from the typecode.
assert_type(parmap.SharedValue(0.5), parmap.SharedValue[float])
assert_type(parmap.SharedValue("i", 10), parmap.SharedValue[int])
assert_type(parmap.SharedValue("c"), parmap.SharedValue[bytes])
assert_type(parmap.SharedValue(bool), parmap.SharedValue[bool])
assert_type(parmap.SharedValue("d"), parmap.SharedValue[float])
assert_type(parmap.SharedValue("?"), parmap.SharedValue[bool])
assert_type(parmap.SharedValue("u", "x"), parmap.SharedValue[str])
assert_type(parmap.SharedValue(ctypes.c_double), parmap.SharedValue[float])
assert_type(parmap.SharedValue(1).value, int)
assert_type(parmap.SharedValue(1).fetch_add(2), int)
assert_type(parmap.SharedValue(1.5).update(abs), float)
assert_type(parmap.SharedValue(1).compare_exchange(1, 2), bool)
counter = parmap.SharedCounter(3)
counter += 1
assert_type(counter.reset(), int)
assert_type(counter.value, int)
assert_type(parmap.SharedArray("d", 5), parmap.SharedArray)
assert_type(parmap.SharedArray("d", [1.5, 2.5]), parmap.SharedArray)
assert_type(parmap.SharedArray([1, 2]), parmap.SharedArray)
assert_type(parmap.SharedArray("d", 5).lock, parmap.Lock)
assert_type(len(parmap.SharedArray("d", 5)), int)
assert_type(parmap.SharedArray.from_numpy(None), parmap.SharedArray)
assert_type(bytes(memoryview(parmap.SharedArray("d", 5))), bytes)
assert_type(parmap.SharedArray(int, shape=(2, 3)).shape, tuple[int, ...])
# Containers know their types as dict and list do.
hits = SharedDict({"a": 1})
assert_type(hits, SharedDict[str, int])
assert_type(SharedDict(a=1.5), SharedDict[str, float])
assert_type(SharedDict(list(zip(words, [1, 2], strict=True))), SharedDict[str, int])
assert_type(SharedDict({"a": 1}, b=2), SharedDict[str, int])
assert_type(SharedDict[str, int](), SharedDict[str, int])
assert_type(SharedDict.fromkeys(words, 0), SharedDict[str, int])
assert_type(hits["a"], int)
assert_type(hits.get("b", 0), int)
assert_type(hits.pop("a"), int)
assert_type(hits.pop("a", 0), int)
assert_type(hits.popitem(), tuple[str, int])
assert_type(hits.setdefault("a", 0), int)
assert_type(hits | {"c": 3}, dict[str, int])
assert_type(hits.get("b"), int | None)
assert_type(hits.get("b", "none"), int | str)
assert_type(hits.pop("a", None), int | None)
assert_type(hits.update_item("a", lambda n: n + 1, 0), int)
assert_type(hits.copy(), dict[str, int])
found = SharedList(["a"])
assert_type(found, SharedList[str])
assert_type(found[0], str)
assert_type(SharedList[int](), SharedList[int])
assert_type(found[0:1], list[str])
assert_type(found.pop(), str)
assert_type(found + words, list[str])
assert_type(found.update_item(0, lambda text: text + "b"), str)


# What a worker returns is what its handle gives; several run the same function at the same time.
def ranked(rank: int, text: str, *, loud: bool = False) -> str:
    return text.upper() if loud else text * rank


def produce(items: Sender[int]) -> None:
    items.send(1)
    items.send_many([2, 3], timeout=1.5)
    items.try_send(4)
    assert_type(items.clone(), Sender[int])


def processes() -> None:
    assert_type(run_workers(ranked, 2, "a", loud=True, names=["x", "y"], timeout=9.0), list[str])
    with WorkerGroup(start_method="spawn", grace=1.0) as group:
        assert_type(group, WorkerGroup)
        worker = group.start(repeat, "a", times=2, name="r", restart=parmap.Restart(delay=0.5))
        assert_type(worker, Worker[str])
        assert_type(worker.result(timeout=1), str)
        assert_type(worker.join(), bool)
        assert_type(worker.exitcode, int | None)
        assert_type(worker.name, str)
        assert_type(worker.sentinel, int)
        assert_type(group.start(lambda: 1.5).result(), float)
        assert_type(group.start(produce, Channel[int]().sender), Worker[None])
        assert_type(group.ready(worker, timeout=1), Any)


# A channel knows what it carries, and its ends know it, too.
def channels(channel: Channel[int]) -> None:
    assert_type(Channel[str](capacity=2), Channel[str])
    assert_type(channel.sender, Sender[int])
    assert_type(channel.receiver, Receiver[int])
    assert_type(channel.receive(timeout=1), int)
    assert_type(channel.try_receive(), int)
    assert_type(channel.receive_many(10), list[int])
    assert_type(channel.fileno(), int)
    for item in channel:
        assert_type(item, int)
    with channel.receiver as receiver:
        assert_type(receiver, Receiver[int])
        assert_type(next(iter(receiver)), int)
        assert_type(select(receiver, receiver.clone(), timeout=0), list[Receiver[int]])
    left, right = Channel[bytes].pair()
    assert_type(left, Duplex[bytes])
    assert_type(right.receive(), bytes)


# A Sender takes what is more special, a Receiver gives what is more general.
def variance(bools: Receiver[bool], objects: Sender[object]) -> tuple[Receiver[int], Sender[int]]:
    return bools, objects


def limits(names: list[str]) -> None:
    retry = parmap.Retry(attempts=2, on=(OSError, TimeoutError), first_delay=0.1)
    assert_type(parallel_map(length, names, task_timeout=1, timeout=60, retry=retry), list[int])
    assert_type(parallel_imap(length, names, retry=3), ResultIterator[int])
    with Pool(2, max_tasks_per_child=10, max_memory_per_child=1 << 30) as pool:
        view = pool.options(task_timeout=5.0).options(retry=2)
        assert_type(view, PoolView)
        future = view.submit(length, "abc")
        assert_type(future, Future[int])
        assert_type(pool.submit(repeat, "a", times=2).result(timeout=1), str)
        assert_type(pool.kill(future), bool)
        assert_type(pool.statistics().busy, int)
        assert_type(parallel_map(length, names, pool=view), list[int])


async def awaited(names: AsyncIterable[str]) -> None:
    assert_type(await aparallel_map(length, words), list[int])
    assert_type(await aparallel_map(length, names, on_error="return"), list[int | TaskFailure])
    assert_type(await aparallel_map(repeat, names, [1, 2], max_workers=2), list[str])
    stream = aparallel_imap(length, names, ordered=False)
    assert_type(stream, AsyncResultIterator[int])
    async with stream as results:
        async for result in results:
            assert_type(result, int)
    failing = aparallel_imap(length, words, on_error="return")
    assert_type(failing, AsyncResultIterator[int | TaskFailure])
    several = await aparallel_map(join, words, [1, 2], "xy", on_error="return")
    assert_type(several, list[str | TaskFailure])
    assert_type(aparallel_imap(repeat, words, [1, 2]), AsyncResultIterator[str])
    both = aparallel_imap(repeat, words, [1, 2], on_error="return")
    assert_type(both, AsyncResultIterator[str | TaskFailure])


def mapped(pool: Pool) -> None:
    assert_type(pool.map(length, words, buffersize=4), Iterator[int])
    assert_type(pool.options(retry=2).map(repeat, words, [1, 2]), Iterator[str])


def in_the_place_of_multiprocessing() -> None:
    with compat.Pool(2, initializer=print, initargs=("ready",), maxtasksperchild=9) as pool:
        assert_type(pool, compat.Pool)
        assert_type(pool.map(length, words, chunksize=1), list[int])
        assert_type(pool.starmap(repeat, [("a", 2)]), list[str])
        assert_type(pool.apply(length, ("a",)), int)
        assert_type(pool.apply_async(length, ("a",)), compat.AsyncResult[int])
        assert_type(pool.map_async(length, words, callback=print), compat.AsyncResult[list[int]])
        assert_type(pool.starmap_async(repeat, [("a", 2)]).get(timeout=1), list[str])
        assert_type(pool.imap(length, words), compat.IMapIterator[int])
        assert_type(pool.imap_unordered(length, words).next(timeout=1), int)


def why_is_it_not_faster() -> None:
    with parmap.profile() as profile:
        assert_type(parallel_map(length, words), list[int])
    assert_type(profile.diagnosis.fault, str)
    assert_type(profile.diagnosis.text, str)
    profile.save("x.html")
