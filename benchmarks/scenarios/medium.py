"""400 items of 10 ms each: how much of the workers' time is work (1 is all of it)."""

from __future__ import annotations

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import spin

COST = 0.010
PEERS = ("parmap", "Pool.map", "Pool.imap", "Executor", "joblib", "loky", "mpire", "pebble", "fork")


def run(job: Job) -> None:
    costs = [COST] * job.size(400, 10)
    with job.measured():
        results = job.peer.map(spin, costs, job.chunksize)
    job.check(list(results) == costs, "not one result for each item")
    ideal = sum(costs) / job.workers * 1e3
    job.figures["efficiency"] = ideal / job.figures["wall_ms"]


def contestants(_variant: str) -> list[Contestant]:
    # One item at a time is the default of all these and their best, but for the two that cut in
    # advance.
    others = [each for each in contest(*PEERS) if each.peer not in {"Pool.map", "mpire"}]
    return others[:1] + contest("Pool.map", "mpire", chunks=(1, 5, 20)) + others[1:]


SCENARIO = Scenario(run, contestants)
