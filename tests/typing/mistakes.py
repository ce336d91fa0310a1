"""Mistakes that a type checker must find: never run, read by mypy and pyright (`make types`).

Each line with an ignore is wrong.  Both checkers complain of an ignore that they do not need, so a
mistake that one of them no longer finds fails.  The codes are mypy's; for pyright any error will do.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import parmap
from parmap import (
    Channel,
    Pool,
    Progress,
    Receiver,
    Retry,
    Sender,
    SharedCounter,
    SharedDict,
    SharedList,
    SharedValue,
    Worker,
    WorkerGroup,
    compat,
    parallel_imap,
    parallel_map,
    parallel_starmap,
    run_workers,
)
from parmap.aio import aparallel_map


def length(text: str) -> int:
    return len(text)


def repeat(text: str, times: int) -> str:
    return text * times


words = ["a", "b"]

# fmt: off
# What a map is given.
parallel_map(length("a"), words)  # type: ignore[call-overload]
parallel_map(length, [1, 2])  # type: ignore[arg-type]
parallel_map(length, 3)  # type: ignore[call-overload]
parallel_map(repeat, words)  # type: ignore[arg-type]
parallel_map(length, words, words)  # type: ignore[arg-type]
parallel_map(fn=length, items=words)  # type: ignore[call-overload]
parallel_starmap(repeat, [1, 2])  # type: ignore[list-item]

# Its options: their names, their types, the words they know.
parallel_map(length, words, 4)  # type: ignore[call-overload]
parallel_map(length, words, workers=2)  # type: ignore[call-overload]
parallel_map(length, words, processes=2)  # type: ignore[call-overload]
parallel_map(length, words, max_workers="2")  # type: ignore[call-overload]
parallel_map(length, words, on_error="ignore")  # type: ignore[call-overload]
parallel_map(length, words, pool=2)  # type: ignore[call-overload]
parallel_map(length, words, buffersize=2)  # type: ignore[call-overload]
parallel_map(length, words, initializer=print)  # type: ignore[call-overload]
parallel_starmap(repeat, [("a", 1)], strict=True)  # type: ignore[call-overload]
parallel_imap(length, words, progress=7.5)  # type: ignore[call-overload]
Retry(attempts="3")  # type: ignore[arg-type]

# What comes back.
texts: list[str] = parallel_map(length, words)  # type: ignore[arg-type]
sure: list[int] = parallel_map(length, words, on_error="return")  # type: ignore[assignment]
sum(parallel_map(length, words, on_error="return"))  # type: ignore[call-overload]
parallel_imap(length, words)[0]  # type: ignore[index]
len(parallel_imap(length, words))  # type: ignore[arg-type]


async def forgotten() -> list[int]:
    return aparallel_map(length, words)  # type: ignore[return-value]


def change(progress: Progress) -> None:
    progress.done = 3  # type: ignore[misc]


# Pools and processes.
def pools(pool: Pool, worker: Worker[int]) -> None:
    pool.submit(length, 3)  # type: ignore[arg-type]
    pool.submit(length)  # type: ignore[call-arg]
    pool.apply(length, ("a",))  # type: ignore[attr-defined]
    pool.options(max_workers=3)  # type: ignore[call-arg]
    Pool(n_jobs=3)  # type: ignore[call-arg]
    worker.pid = 3  # type: ignore[misc]
    text: str = worker.result()  # type: ignore[assignment]
    run_workers(length, words)  # type: ignore[arg-type]
    WorkerGroup("spawn")  # type: ignore[call-arg]
    compat.Pool(max_workers=3)  # type: ignore[call-arg]
    parmap.profile().sumary()  # type: ignore[attr-defined]
    ThreadPoolExecutor().kill(3)  # type: ignore[attr-defined]


# Ends of channels.
def talk(numbers: Channel[int], sender: Sender[int], receiver: Receiver[int]) -> None:
    numbers.send("one")  # type: ignore[arg-type]
    sender.receive()  # type: ignore[attr-defined]
    receiver.send(1)  # type: ignore[attr-defined]
    numbers.put(1)  # type: ignore[attr-defined]
    text: str = receiver.receive()  # type: ignore[assignment]
    general: Sender[object] = sender  # type: ignore[assignment]
    special: Receiver[bool] = receiver  # type: ignore[assignment]
    Channel[int](0, 1)  # type: ignore[call-arg]


# Shared state: the lost updates of `multiprocessing.Value`, and wrong types.
def share(total: SharedValue[int], counter: SharedCounter, stock: SharedDict[str, int]) -> None:
    total.value = 3  # type: ignore[assignment]
    total.value += 1  # type: ignore[assignment]
    total.set("3")  # type: ignore[arg-type]
    total.update(str)  # type: ignore[arg-type]
    counter.value = 3  # type: ignore[assignment]
    counter.add(1.5)  # type: ignore[arg-type]
    stock["a"] = "many"  # type: ignore[assignment]
    stock[1] = 1  # type: ignore[index]
    stock.update_item("a", str)  # type: ignore[arg-type]
    SharedList(words).append(3)  # type: ignore[arg-type]
