"""Locks beside those of multiprocessing, interleaved in one run.

    python benchmarks/locks.py [--rounds N]

Uncontended: CPU time of one ``with lock``. Contended: pairs per second of two processes that come
back at once. Takeover: from the SIGKILL of the holder until the next one has the lock.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import time
from statistics import median
from typing import Any

from parmap import Lock, RLock, Semaphore

PAIRS = 50_000


def uncontended(lock: Any) -> float:
    began = time.process_time()
    for _ in range(PAIRS):
        with lock:
            pass
    return (time.process_time() - began) / PAIRS * 1e9


def contended(lock: Any) -> float:
    """Thousands of pairs per second, of both."""
    began, children = time.perf_counter(), []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            uncontended(lock)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return 2 * PAIRS / (time.perf_counter() - began) / 1e3


def takeover(lock: Lock) -> float:
    """Milliseconds, from the kill."""
    ready, said = os.pipe()
    pid = os.fork()
    if not pid:
        with lock:
            os.write(said, b"x")
            signal.pause()
    os.read(ready, 1)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    with lock:
        took = (time.perf_counter() - began) * 1e3
        assert lock.was_abandoned
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(said)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    contestants: dict[str, Any] = {
        "multiprocessing.Lock": multiprocessing.Lock(), "parmap.Lock": Lock(),
        "multiprocessing.RLock": multiprocessing.RLock(), "parmap.RLock": RLock(),
        "multiprocessing.Semaphore(2)": multiprocessing.Semaphore(2),
        "parmap.Semaphore(2)": Semaphore(2),
    }  # fmt: skip
    alone: dict[str, list[float]] = {name: [] for name in contestants}
    together: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, lock in contestants.items():
            alone[name].append(uncontended(lock))
            together[name].append(contended(lock))
    print(f"{'':30}{'alone, ns':>12}{'two, 1000/s':>14}")
    for name in contestants:
        print(f"{name:30}{median(alone[name]):12.0f}{median(together[name]):14.0f}")
    took = [takeover(contestants["parmap.Lock"]) for _ in range(10 * rounds)]
    print(f"takeover after SIGKILL: median {median(took):.2f} ms, worst {max(took):.2f} ms")


if __name__ == "__main__":
    main()
