"""200,000 × `x * x`, results in order, over a list, a range and a generator: what an item costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import square

if TYPE_CHECKING:
    from collections.abc import Iterable

CHUNKS = (256, 1024, 4096, 16384, 50_000)
# Beside the list: those that the table of DESIGN.md names, and the quickest of the others.
SHORT = ("parmap", "Pool.map", "Executor", "joblib", "mpire", "fork", "loop")


def run(job: Job) -> None:
    count = job.size(200_000, 2_000)
    items: Iterable[Any] = range(count)
    if job.variant == "list":
        items = list(items)
    elif job.variant == "generator":
        items = (x for x in range(count))
    with job.measured():
        results = job.peer.map(square, items, job.chunksize)
    job.figures["cpu_ns_per_item"] = job.figures["cpu_ms"] / count * 1e6
    if "unordered" in type(job.peer).__name__.lower():
        results = sorted(results)
    job.check(list(results) == [x * x for x in range(count)], "not the squares, in order")


def contestants(variant: str) -> list[Contestant]:
    if variant == "list":
        return [*contest(chunks=CHUNKS), Contestant("loop", "loop")]
    return contest(*SHORT, chunks=CHUNKS, tuned_only=("Executor",))


SCENARIO = Scenario(run, contestants, ("list", "range", "generator"), ("list",))
