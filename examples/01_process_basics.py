"""Processes: create, start, wait, pass arguments, ask who they are; and a process beside a thread.

    python examples/01_process_basics.py

What to notice: there is no `if __name__ == "__main__"` guard, and a lambda is as good as any function.
Nobody calls `start` or `join`: `start` gives a process that runs, and the `with` block waits for its
workers. A result comes back without a queue, an exception with the worker's own traceback.
What a process changes stays in it; what a thread changes is everybody's.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback

from parmap import WorkerGroup, run_workers

greeted: list[str] = []


def greet(whom: str, *, polite: bool = False) -> str:
    greeted.append(whom)
    return f"{'Good day' if polite else 'Hi'}, {whom}"


def introduce(rank: int) -> tuple[str, bool, str]:
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    assert parent is not None
    return me.name, me.pid == os.getpid() != parent.pid, parent.name


def divide(a: int, b: int) -> float:
    return a / b


print("1. Create, start, wait; arguments and results")
with WorkerGroup() as group:
    first = group.start(greet, "Ada")
    second = group.start(greet, "Alan", polite=True, name="polite one")
    third = group.start(lambda: 6 * 7)
    print("  ", first.result(), "|", second.result(), "|", third.result())
print("   after the block:", [worker.is_alive() for worker in (first, second, third)])

print("2. Process information")
print("  ", second.name, "| own pid:", second.pid != os.getpid(), "| exit code:", second.exitcode)

print("3. The same function in several processes at the same time")
for name, own_pid, parent in run_workers(introduce, 3, names=["north", "south", "west"]):
    print(f"   {name}: a process of its own {own_pid}, child of {parent}")

print("4. Ending a worker: its exit code is minus the signal's number, and that is no failure")
with WorkerGroup() as group:
    endless = group.start(lambda: threading.Event().wait())
    print("   alive:", endless.is_alive(), "| ended within 0 s:", endless.join(timeout=0))
    endless.terminate()
print("   alive:", endless.is_alive(), "| exit code:", endless.exitcode)

print("5. A failure is raised by the block, as it was raised in the worker")
try:
    with WorkerGroup() as group:
        group.start(divide, 1, 0)
except* ZeroDivisionError as errors:
    (error,) = errors.exceptions
    print(f"   {error}, in {traceback.extract_tb(error.__traceback__)[-1].name}()")

print("6. A process beside a thread")
greeted.clear()
with WorkerGroup() as group:
    group.start(greet, "a process")
print("   after the process:", greeted)
thread = threading.Thread(target=greet, args=("a thread",))
thread.start()
thread.join()
print("   after the thread: ", greeted)
