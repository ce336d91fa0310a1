"""A 200 MB array that 200 tasks read, bound with `functools.partial`: how often it is sent, and
the memory it takes. Tuned: one chunk for each worker, since most peers send the function with
every chunk."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.harness.scenario import Contestant, Job, Scenario
from benchmarks.harness.tasks import ends, filled

SIZE, QUICK_SIZE, TASKS = 200 << 20, 2 << 20, 200


def look(data: Any, item: int) -> tuple[int, int]:
    """An item's own byte of it, and its length."""
    return int(data[item]), ends(data)[0]


def run(job: Job) -> None:
    size = job.size(SIZE, QUICK_SIZE)
    data = filled("array", size)
    with job.measured():
        found = job.peer.map(partial(look, data), range(TASKS), job.chunksize)
    job.check(list(found) == [(7, size)] * TASKS, "not the bytes of the constant")


def contestants(_variant: str) -> list[Contestant]:
    return [
        Contestant("parmap", "parmap"),
        Contestant("Pool.map", "Pool.map"),
        Contestant("Pool.map, tuned", "Pool.map", (100,)),
        Contestant("Executor, tuned", "Executor", (100,)),
        Contestant("joblib", "joblib"),
        Contestant("loky, tuned", "loky", (100,)),
        Contestant("mpire, tuned", "mpire", (100,)),
        Contestant("pebble, tuned", "pebble", (100,)),
        Contestant("fork", "fork"),
    ]


SCENARIO = Scenario(run, contestants)
