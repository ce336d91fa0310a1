"""Locks between processes: take turns, limit how many, wait for a change, go in step, survive a kill.

    python examples/05_lock_and_semaphore_patterns.py

What to notice: a lock is simply used inside a function, or handed over like any argument. A process
that is killed while it holds one keeps nobody waiting, and the next holder is told.
"""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

from parmap import Barrier, Condition, Event, Lock, Semaphore, WorkerGroup, run_workers

folder = tempfile.TemporaryDirectory()
balance, turn = Path(folder.name) / "balance", Path(folder.name) / "turn"
balance.write_text("0")
turn.write_text("0")
lock, seats, changed, barrier, held = Lock(), Semaphore(2), Condition(), Barrier(3), Event()


def deposit(rank: int, guard: Lock) -> None:
    for _ in range(100):
        with guard:
            balance.write_text(str(int(balance.read_text()) + 1))


def visit(rank: int) -> bool:
    with seats:
        return seats.value <= 1


def speak(rank: int) -> str:
    with changed:
        changed.wait_for(lambda: int(turn.read_text()) == rank)
        turn.write_text(str(rank + 1))
        changed.notify_all()
        return f"speaker {rank}"


def go_in_step(rank: int) -> int:
    deposit(rank, lock)
    barrier.wait()
    return int(balance.read_text())


def hold() -> None:
    with lock, seats:
        held.set()
        signal.pause()


print("1. Lock: what is read, changed and written is changed by one at a time")
run_workers(deposit, 3, lock)
print("   300 deposits, balance", balance.read_text())

print("2. Semaphore: at most two of five at the same time")
print("  ", run_workers(visit, 5), "| free again:", seats.value)

print("3. Condition: wait until something is so")
print("  ", run_workers(speak, 3), "| turn", turn.read_text())

print("4. Barrier: nobody begins the second phase before all have ended the first")
print("   balance in the second phase:", run_workers(go_in_step, 3))

print("5. Event: wait for a sign. Then the holder is killed: the lock is free, the permit is back")
with WorkerGroup() as group:
    holder = group.start(hold)
    held.wait()
    print("   somebody else gets the lock:", lock.acquire(timeout=0.01))
    holder.kill()
    with lock:
        print("   the next one knows:", lock.was_abandoned, "| permits:", seats.value)
folder.cleanup()
