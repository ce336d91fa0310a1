"""A generator of 1,000,000 items, results taken lazily: when the first comes, how far ahead the
input is read (then, and at most), what memory it holds, and how long the whole takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.harness.scenario import Contestant, Job, Scenario, contest
from benchmarks.harness.tasks import square

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 1_000_000
# Warm is who has done such a thing a few times before.
WARM = 10
CHUNKS = (1000, 10_000)


class Source:
    """The generator, and how much of it has been read."""

    def __init__(self, count: int) -> None:
        self.count, self.read = count, 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.read += 1
            yield number


def run(job: Job) -> None:
    count = job.size(COUNT, 5_000)
    source = Source(count)
    total = most = taken = 0
    for _ in range(WARM):
        for _ in job.peer.imap(square, iter(range(1000)), job.chunksize):
            continue
    with job.measured():
        began = time.perf_counter()
        results = iter(job.peer.imap(square, iter(source), job.chunksize))
        total += next(results)
        job.figures["first_us"] = (time.perf_counter() - began) * 1e6
        job.figures["ahead_first"] = source.read - 1
        taken = 1
        for result in results:
            total += result
            taken += 1
            if not taken & 255:
                most = max(most, source.read - taken)
    job.figures["ahead_most"] = max(most, job.figures["ahead_first"])
    job.check(taken == count, f"{taken} results of {count} items")
    job.check(total == (count - 1) * count * (2 * count - 1) // 6, "not the sum of the squares")


def contestants(_variant: str) -> list[Contestant]:
    # With a chunk of one item, the default of the others, a million take minutes: `tiny` shows the
    # rate.
    return [
        Contestant("parmap", "parmap"),
        *contest(
            "Pool.imap", "Pool.imap_unordered", "Executor", "joblib", "loky", "mpire", "pebble",
            chunks=CHUNKS,
            tuned_only=("Pool.imap", "Pool.imap_unordered", "Executor", "loky", "pebble"),
        ),
    ]  # fmt: skip


SCENARIO = Scenario(run, contestants)
