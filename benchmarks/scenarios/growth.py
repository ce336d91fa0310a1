"""From 1,000 to 1,000,000 trivial items, and from 1 to 32 workers (100,000 items): wall and CPU
time per item must not grow."""

from __future__ import annotations

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest, workers_of
from benchmarks.harness.tasks import square

ITEMS = ("1000 items", "10000 items", "100000 items", "1000000 items")
NUMBERS = (1, 2, 4, 8, 16, 32)


def run(job: Job) -> None:
    count = 100_000
    if job.variant.endswith(" items"):
        count = int(job.variant.partition(" ")[0])
    count = job.size(count, min(count, 2_000))
    with job.measured():
        results = job.peer.map(square, range(count), job.chunksize)
    job.check(list(results) == [x * x for x in range(count)], "not the squares, in order")
    job.figures["wall_ns_per_item"] = job.figures["wall_ms"] / count * 1e6
    job.figures["cpu_ns_per_item"] = job.figures["cpu_ms"] / count * 1e6


def contestants(variant: str) -> list[Contestant]:
    count = int(variant.partition(" ")[0]) if variant.endswith(" items") else 100_000
    chunks = tuple(max(1, count // (part * workers_of(variant))) for part in (1, 4, 16))
    return contest(
        "parmap", "Pool.map", "Executor", "fork", chunks=chunks, tuned_only=("Executor",)
    )


SCENARIO = Scenario(
    run, contestants, (*ITEMS, *(f"{number} workers" for number in NUMBERS)),
    ("1000 items", "4 workers"),
)  # fmt: skip
