"""One worker, one item that loses it, one that needs its successor: from the death of the worker
(killed) or the end of its time (late) until the other item's result is there."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.harness import peers
from benchmarks.harness.light import die
from benchmarks.harness.scenario import Contestant, Job, Scenario

TIMEOUT = 0.1  # seconds that an item may run


def run(job: Job) -> None:
    outcomes, began = _of_parmap(job) if isinstance(job.peer, peers.Parmap) else _of_pebble(job)
    allowed = TIMEOUT if job.variant == "late" else 0.0
    job.check(len(outcomes) == 2 and isinstance(outcomes[1], float), f"not one failure: {outcomes}")
    job.figures["replaced_ms"] = (outcomes[1] - began - allowed) * 1e3


def _of_parmap(job: Job) -> tuple[list[Any], float]:
    import parmap

    with parmap.Pool(1) as pool:  # one worker in all: with two, the other takes the second item
        pool.submit(die, "fine").result()
        options: dict[str, Any] = {"on_error": "return", "pool": pool} | job.peer.options
        began = time.perf_counter()
        return parmap.parallel_map(die, [job.variant, "fine"], **options), began


def _of_pebble(job: Job) -> tuple[list[Any], float]:
    """The only peer whose pool survives both."""
    timeout = TIMEOUT if job.variant == "late" else None
    alone = peers.Pebble(1, {})
    try:
        alone.call(die, "fine")
        began = time.perf_counter()
        pending = [
            alone.pool.schedule(die, args=[doom], timeout=timeout) for doom in (job.variant, "fine")
        ]
        return [peers.caught(pending[0].result), pending[1].result()], began
    finally:
        alone.close()


def contestants(variant: str) -> list[Contestant]:
    options = (("task_timeout", TIMEOUT),) if variant == "late" else ()
    return [Contestant("parmap", "parmap", options=options), Contestant("pebble", "pebble")]


SCENARIO = Scenario(run, contestants, ("killed", "late"))
