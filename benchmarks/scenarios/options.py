"""What `task_timeout=`, `retry=` and `progress=` add to 200,000 trivial items that need none of
them; beside the peers' own."""

from __future__ import annotations

from benchmarks.harness.scenario import Contestant, Job, Scenario
from benchmarks.harness.tasks import square


def seen(_progress: object) -> None:
    """A callback of `progress=` that does nothing."""


def run(job: Job) -> None:
    count = job.size(200_000, 2_000)
    with job.measured():
        results = job.peer.map(square, range(count), job.chunksize)
    job.check(list(results) == [x * x for x in range(count)], "not the squares, in order")


def contestants(_variant: str) -> list[Contestant]:
    return [
        Contestant("parmap", "parmap"),
        Contestant("parmap task_timeout", "parmap", options=(("task_timeout", 60.0),)),
        Contestant("parmap retry", "parmap", options=(("retry", 3),)),
        Contestant("parmap progress", "parmap", options=(("progress", seen),)),
        Contestant("mpire", "mpire"),
        Contestant("mpire task_timeout", "mpire", options=(("task_timeout", 60.0),)),
        Contestant("pebble, tuned", "pebble", (4096,)),
        Contestant("pebble timeout, tuned", "pebble", (4096,), (("timeout", 60.0),)),
    ]


SCENARIO = Scenario(run, contestants)
