"""Shared memory: values, arrays, dicts, lists; concurrent modification done wrong, and done right.

    python examples/04_shared_memory.py

What to notice: shared objects are arguments, globals or closures like any other object, also for
workers that run already. Nothing is locked by itself, so each way to change a thing says how: a
counter is added to, a value or an item of a dict is updated by a function, an array has a lock to
take. Nothing has a name in the file system, and nothing has to be closed or unlinked.
"""

from __future__ import annotations

import os

import parmap
from parmap import SharedArray, SharedCounter, SharedDict, SharedList, SharedValue, run_workers

ROUNDS = 2000

print("1. Single values")
visits = SharedCounter()
highest = SharedValue(0)


def visit(n: int) -> None:
    visits.add()
    highest.update(lambda h: max(h, n * n % 1009))


parmap.parallel_map(visit, range(1000), max_workers=2)
print("   visits:", visits.value, "| highest:", highest.value)
print("   since the last reset:", visits.reset(), "| now:", visits.value)

print("2. An array: each worker fills its own part, and nobody copies anything")
squares = SharedArray("q", 8)


def fill(rank: int) -> None:
    for i in range(rank, len(squares), 2):
        squares[i] = i * i


run_workers(fill, 2)
print("  ", squares[:])

print("3. Concurrent modification, wrong: between reading and writing, others write")


def meet(meeting: SharedCounter) -> None:
    """Make happen each time what else happens sometimes, and only in production."""
    meeting.add()
    while meeting.value < 2:
        pass


def add_wrong(rank: int, total: SharedValue[int], meeting: SharedCounter) -> None:
    seen = total.value
    meet(meeting)
    total.set(seen + 1)


total = SharedValue(0)
run_workers(add_wrong, 2, total, SharedCounter())
print("   two workers have added 1 each:", total.value)

print("   the same in one line, which multiprocessing.Value allows, is refused:")
try:
    total.value += 1  # type: ignore[assignment]  # checkers refuse it as well
except AttributeError as error:
    print("  ", str(error).partition(",")[0])

print("4. Right: one step for all, or a lock around the steps")
total = SharedValue(0)
tickets = SharedValue(0)
table = SharedArray("q", [100, 0])


def add_right(rank: int) -> list[int]:
    drawn = []
    for _ in range(ROUNDS):
        total.update(lambda n: n + 1)
        drawn.append(tickets.fetch_add(1))
    return drawn


def move_right(rank: int) -> None:
    for _ in range(50):
        with table.lock:  # two elements that belong together
            table[0] -= 1
            table[1] += 1


first, second = run_workers(add_right, 2)
once = sorted(first + second) == list(range(2 * ROUNDS))
print("   added:", total.value, "| each ticket once:", once)
run_workers(move_right, 2)
print("   moved under the array's lock:", table[:])

print("5. A dict and a list: each method is one step, two of them are two")
stock, log = SharedDict[str, int](apples=3), SharedList[str]()


def sell_wrong(rank: int, meeting: SharedCounter) -> None:
    left = stock["apples"]  # as `stock["apples"] -= 1` does: it reads, and then it writes
    meet(meeting)
    stock["apples"] = left - 1


def sell_right(rank: int) -> None:
    stock.update_item("apples", lambda left: left - 1)
    log.append("sold")


run_workers(sell_wrong, 2, SharedCounter())
print("   wrong: two of 3 are sold, and left are", stock["apples"])
stock["apples"] = 3
run_workers(sell_right, 2)
print("   right: two of 3 are sold, and left is", stock["apples"], "| the list:", log[:])

print("6. A worker that dies inside an update has changed nothing, and nobody waits for it")


def die(rank: int) -> None:
    total.update(lambda n: os._exit(1))


try:
    run_workers(die, 1)
except parmap.WorkerLostError as error:
    print("  ", type(error).__name__, "|", total.update(lambda n: n + 1))
