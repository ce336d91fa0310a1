"""Costs that differ: Pareto (shuffled, ascending, descending), one giant at the end, and a sudden
jump from 1 µs to 50 ms. `over_ideal` is the time as a multiple of what dealing single items at no
cost would take."""

from __future__ import annotations

import random

from benchmarks.harness.figures import in_order_bound, makespan_bound
from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import spin

PEERS = ("parmap", "Pool.map", "Pool.imap", "Executor", "joblib", "loky", "mpire", "pebble", "fork")
CHUNKS = (1, 4, 16, 64)


def costs_of(variant: str, quick: bool) -> list[float]:
    """Seconds for each item, 1 s in all or a little more (quick: a tenth)."""
    if variant == "jump":
        return [1e-6] * 10_000 + [0.05] * (2 if quick else 24)
    if variant == "giant":
        return [0.001] * (50 if quick else 600) + [0.03 if quick else 0.3]
    chance = random.Random(5)
    drawn = [min(chance.paretovariate(1.2), 300.0) for _ in range(50 if quick else 1000)]
    whole = 0.1 if quick else 1.2
    costs = [cost / sum(drawn) * whole for cost in drawn]
    if variant == "ascending":
        costs.sort()
    elif variant == "descending":
        costs.sort(reverse=True)
    return costs


def run(job: Job) -> None:
    costs = costs_of(job.variant, job.quick)
    with job.measured():
        results = job.peer.map(spin, costs, job.chunksize)
    job.check(list(results) == costs, "not one result for each item")
    # Nobody knows the costs in advance: an unlucky order is no fault of him who keeps it.
    ideal = max(makespan_bound(costs, job.workers), in_order_bound(costs, job.workers))
    job.figures["over_ideal"] = job.figures["wall_ms"] / (ideal * 1e3)


def contestants(_variant: str) -> list[Contestant]:
    return contest(*PEERS, chunks=CHUNKS, tuned_only=("loky", "pebble", "Pool.imap"))


SCENARIO = Scenario(
    run, contestants, ("shuffled", "ascending", "descending", "giant", "jump"), ("shuffled", "jump")
)
