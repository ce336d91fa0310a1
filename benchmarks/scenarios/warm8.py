"""A warm map of 8 no-ops, again and again: what one call costs."""

from __future__ import annotations

import time

from benchmarks.harness.figures import percentile
from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import square

SECONDS = 1.0


def run(job: Job) -> None:
    count = job.size(500, 10)
    expected = [x * x for x in range(8)]
    unordered = "Unordered" in type(job.peer).__name__
    calls: list[float] = []
    clock = time.perf_counter
    with job.measured():
        end = clock() + SECONDS
        for number in range(count):
            began = clock()
            results = job.peer.map(square, range(8), job.chunksize)
            now = clock()
            calls.append(now - began)
            job.check(
                (sorted(results) if unordered else list(results)) == expected, "not the squares"
            )
            if now > end and number >= 5:
                break
    job.figures = {
        "p50_us": percentile(calls, 0.5) * 1e6,
        "p99_us": percentile(calls, 0.99) * 1e6,
        "cpu_us": job.figures["cpu_ms"] / len(calls) * 1e3,
    }


def contestants(_variant: str) -> list[Contestant]:
    return contest(chunks=(1, 2, 4))


SCENARIO = Scenario(run, contestants)
