"""Warm workers without work: CPU time of the whole tree in one idle second."""

from __future__ import annotations

import time

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import square


def run(job: Job) -> None:
    job.peer.map(square, range(100), job.chunksize)
    with job.measured():
        time.sleep(job.size(1, 0))
    del job.figures["wall_ms"]


def contestants(_variant: str) -> list[Contestant]:
    return contest("parmap", "Pool.map", "Executor", "joblib", "loky", "mpire", "pebble")


SCENARIO = Scenario(run, contestants)
