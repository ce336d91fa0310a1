"""Arrays and bytes of 64 KB, 1 MB, 8 MB and 100 MB to the workers and back from them: gigabytes
per second. What comes back is taken one by one and dropped; the workers made it in the round before."""

from __future__ import annotations

import re

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import ends, give_array, give_bytes, made

SIZES = {"64 KB": 1 << 16, "1 MB": 1 << 20, "8 MB": 8 << 20, "100 MB": 100 << 20}
COUNTS = {"64 KB": 1000, "1 MB": 120, "8 MB": 24, "100 MB": 4}
VARIANTS = tuple(
    f"{kind} {way} {size}" for kind in ("array", "bytes") for way in ("in", "out") for size in SIZES
)
PEERS = ("parmap", "Pool.imap", "Executor", "joblib", "loky", "mpire", "pebble")


def run(job: Job) -> None:
    kind, way, name = re.split(r" (in|out) ", job.variant)
    size = SIZES[name]
    count = job.size(COUNTS[name], 4)
    if way == "in":
        # Each another one, made anew: who keeps what he has sent once (joblib) must not gain by that.
        items = [made(kind, size) for _ in range(count)]
        with job.measured():
            taken = job.peer.map(ends, items, job.chunksize)
        whole = list(taken) == [(size, 7, 7)] * count
    else:
        give = give_array if kind == "array" else give_bytes
        with job.measured():
            whole = [ends(data) for data in job.peer.imap(give, [size] * count, job.chunksize)] == [
                (size, 7, 7)
            ] * count
    job.check(whole, "not what was sent")
    job.figures["gb_per_s"] = size * count / job.figures["wall_ms"] / 1e6


def contestants(variant: str) -> list[Contestant]:
    chunks = (4, 16, 64) if "64 KB" in variant else ()
    return contest(*PEERS, chunks=chunks)


SCENARIO = Scenario(run, contestants, VARIANTS, ("array in 1 MB", "array out 1 MB"))
