"""One warm task there and back, again and again: the median and the 99th percentile. The floor is
a raw ping-pong over a socketpair."""

from __future__ import annotations

import time

from benchmarks.harness.figures import percentile
from benchmarks.harness.scenario import Contestant, Job, Scenario
from benchmarks.harness.tasks import square

PEERS = (
    "parmap", "parallel_map([x])", "Pool.map", "Executor", "joblib", "loky", "mpire", "pebble",
    "ping-pong",
)  # fmt: skip
SECONDS = 1.5  # a slow peer makes fewer trips


def run(job: Job) -> None:
    count = job.size(2_000, 50)
    trips: list[float] = []
    right = True
    call, clock = job.peer.call, time.perf_counter
    for number in range(3):
        call(square, number)
    with job.measured():
        end = clock() + SECONDS
        for number in range(count):
            began = clock()
            right &= call(square, number) == number * number
            now = clock()
            trips.append(now - began)
            if now > end and number >= 20:
                break
    job.check(right, "not the square")
    job.figures = {
        "p50_us": percentile(trips, 0.5) * 1e6,
        "p99_us": percentile(trips, 0.99) * 1e6,
        "cpu_us": job.figures["cpu_ms"] / len(trips) * 1e3,
    }


def contestants(_variant: str) -> list[Contestant]:
    names = {
        "Pool.map": "Pool.apply",
        "Executor": "Executor.submit",
        "parmap": "parmap Pool.submit",
    }
    return [Contestant(names.get(peer, peer), peer) for peer in PEERS]


SCENARIO = Scenario(run, contestants)
