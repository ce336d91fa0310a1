"""Pools: map, apply, asynchronous results, many tasks on few processes, how many, and the loop.

    python examples/02_process_pool.py

What to notice: `parallel_map` needs no pool at all; a `Pool` is for workers of one's own. Results come
in the order of the items, whoever was faster. On a terminal section 6 prints seconds, too, which differ
from run to run: processes win where an item costs more than sending it, and lose where it does not.
"""

from __future__ import annotations

import math
import operator
import os
import sys
import time
from concurrent.futures import as_completed
from functools import partial
from typing import TYPE_CHECKING

from parmap import Barrier, Pool, parallel_imap, parallel_map

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT = 400


def count_primes(stop: int) -> int:
    """What keeps a CPU busy: some milliseconds for each call."""
    return sum(all(n % d for d in range(2, math.isqrt(n) + 1)) for n in range(2, stop))


def describe(name: str, *, size: int) -> str:
    return f"{name}:{size}"


def meet(meeting: Barrier, _: int) -> int:
    return meeting.wait()


def who(_: int) -> int:
    return os.getpid()


print("1. map: like the built-in one, with results in the order of the items")
print("  ", parallel_map(count_primes, [10, 100, 1000]))
print("   two iterables:", parallel_map(pow, [2, 3, 4], [5, 2, 1]))
print("   with a lambda:", parallel_map(lambda n: n * LIMIT, range(4)))

with Pool(2) as pool:
    print("2. apply: one call, in one worker, waited for")
    print("  ", pool.submit(describe, "one", size=1).result())

    print("3. Asynchronous results: submit now, ask later")
    futures = {pool.submit(count_primes, stop): stop for stop in (1000, 10, 100)}
    print("   as they finish:", sorted(futures[done] for done in as_completed(futures)))
    print("   each has its own:", {stop: future.result() for future, stop in futures.items()})
    failing = pool.submit(math.sqrt, -1)
    print("   an error waits in its future:", repr(failing.exception()))
    with parallel_imap(count_primes, range(10, 10**9), pool=pool) as counts:
        print("   one by one, of a billion:", next(counts), next(counts), next(counts))

    print("4. Many tasks on few processes")
    pids = set(parallel_map(who, range(1000), pool=pool))
    print("   1000 tasks, at most 2 processes:", len(pids) <= 2, "| this one:", os.getpid() in pids)

print("5. How many processes")
for size in (1, 2, 4):
    with Pool(size) as pool:
        meeting = Barrier(size)  # passed only by so many at the same time
        places = parallel_map(partial(meet, meeting), range(size), pool=pool, chunksize=1)
        print(f"   Pool({size}): {len(places)} tasks met")
print("   without a number: as many as there are usable CPUs, since more would only take turns")


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def beside_the_loop(title: str, task: Callable[[int], int], items: Sequence[int]) -> None:
    """The loop and the call that replaces it: the same list, in another time."""
    alone = [task(item) for item in items]
    same = alone == parallel_map(task, items)  # which has started the workers: now they are warm
    print(f"   {title}: the same results {same}")
    if sys.stdout.isatty():
        loop = seconds(lambda: [task(item) for item in items])
        both = seconds(lambda: parallel_map(task, items))
        print(f"      loop {loop:.4f} s, parallel_map {both:.4f} s: {loop / both:.1f} x as fast")


print("6. Beside the loop")
beside_the_loop("milliseconds an item: sending is nothing beside it", count_primes, [4000] * 40)
beside_the_loop("nanoseconds an item: the loop is faster", operator.neg, range(10_000))
