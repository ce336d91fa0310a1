"""0.2 s of work in items of 1 µs to 10 ms, beside the plain loop: from which cost on it is worth it.
Each is one call to warm workers, so what a call costs is in it."""

from __future__ import annotations

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import spin

MICROSECONDS = (1, 3, 10, 100, 1000, 10000)
WORK = 200_000


def run(job: Job) -> None:
    cost = int(job.variant.partition(" ")[0])
    costs = [cost / 1e6] * job.size(WORK // cost, 10)
    with job.measured():
        results = job.peer.map(spin, costs, job.chunksize)
    job.check(list(results) == costs, "not one result for each item")
    job.figures["wall_us_per_item"] = job.figures["wall_ms"] * 1e3 / len(costs)


def contestants(_variant: str) -> list[Contestant]:
    return contest("parmap", "loop", "Pool.map", "joblib")


SCENARIO = Scenario(run, contestants, tuple(f"{cost} us" for cost in MICROSECONDS), ("10 us",))
