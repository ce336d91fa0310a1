"""2,000 tasks that all raise, every failure kept: CPU per task, beside the same tasks when they
succeed. The difference is what an exception with its traceback costs, both ways."""

from __future__ import annotations

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import fail, square

PEERS = ("parmap", "Pool.map", "Executor", "loky", "pebble", "loop")
LABELS = {"Pool.map": "Pool.apply_async", "Executor": "Executor.submit"}


def run(job: Job) -> None:
    count = job.size(2_000, 50)
    if job.variant == "fine":
        with job.measured():
            results = job.peer.map(square, range(count))
        job.check(list(results) == [x * x for x in range(count)], "not the squares")
    else:
        with job.measured():
            failures = job.peer.failures(fail, range(count))
        texts = [str(failure.args[0]) for failure in failures]
        job.check(texts == [f"item {x}" for x in range(count)], "not one failure for each item")
    job.figures["cpu_us"] = job.figures["cpu_ms"] / count * 1e3


def contestants(variant: str) -> list[Contestant]:
    if variant == "fine":
        return contest("parmap", "Pool.map")
    return [Contestant(LABELS.get(peer, peer), peer) for peer in PEERS]


SCENARIO = Scenario(run, contestants, ("failing", "fine"))
