"""Locks beside those of multiprocessing, interleaved in one run.

    python benchmarks/locks.py [--rounds N] [--json]

Uncontended: CPU time of one ``with lock``. Contended: pairs per second of two processes that come
back at once. Takeover: from the SIGKILL of the holder until the next one has the lock.
"""

from __future__ import annotations

import argparse
import json
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


def measure(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Scenario -> contestant -> figures, medians; parmap's own first."""
    kinds: dict[str, dict[str, Any]] = {
        "Lock": {"Lock": Lock(), "multiprocessing.Lock": multiprocessing.Lock()},
        "RLock": {"RLock": RLock(), "multiprocessing.RLock": multiprocessing.RLock()},
        "Semaphore(2)": {
            "Semaphore": Semaphore(2), "multiprocessing.Semaphore": multiprocessing.Semaphore(2),
        },
    }  # fmt: skip
    taken: dict[str, dict[str, dict[str, list[float]]]] = {
        kind: {name: {"alone_ns": [], "two_krate": []} for name in locks}
        for kind, locks in kinds.items()
    }
    for _ in range(rounds):
        for kind, locks in kinds.items():
            for name, lock in locks.items():
                taken[kind][name]["alone_ns"].append(uncontended(lock))
                taken[kind][name]["two_krate"].append(contended(lock))
    report = {
        kind: {
            name: {key: median(values) for key, values in figures.items()}
            for name, figures in locks.items()
        }
        for kind, locks in taken.items()
    }
    took = [takeover(kinds["Lock"]["Lock"]) for _ in range(10 * rounds)]
    report["takeover"] = {"Lock": {"after_kill_ms": median(took), "worst_ms": max(took)}}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = measure(options.rounds)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for kind, locks in report.items():
        for name, figures in locks.items():
            words = "  ".join(f"{key} {value:,.2f}" for key, value in figures.items())
            print(f"{kind:14} {name:28} {words}")


if __name__ == "__main__":
    main()
