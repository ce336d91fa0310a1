"""The same call on a Dask cluster: two workers on this machine, then as many as there are elsewhere.

    pip install "parmap-mp[dask]"
    python examples/11_dask_cluster.py

What to notice: only `pool=` is new. Order, errors with the worker's own traceback, failures as values
and retries are as with parmap's own workers. Functions of this script travel, so the cluster needs
parmap and the modules that are imported here, and nothing else of this program.
With a real cluster, `Client("tcp://scheduler:8786")` takes the place of the two that start one here.
"""

from __future__ import annotations

import os
import traceback

from distributed import Client
from distributed.deploy import SubprocessCluster  # LocalCluster would need a guard

from parmap import parallel_imap, parallel_map


def collatz_steps(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def longest(numbers: range) -> tuple[int, int]:
    """Reduced where the work is: one pair goes back, however long the range."""
    return max((collatz_steps(n), n) for n in numbers)


with (
    SubprocessCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    ) as cluster,
    Client(cluster) as client,
):
    engine = client.get_executor()

    print("1. The same call, on other processes")
    print("   ", parallel_map(collatz_steps, range(1, 11), pool=engine))
    pids = parallel_map(lambda _: os.getpid(), range(100), pool=engine)
    print("    run here:", os.getpid() in pids)

    print("2. An item that is a range: few messages, however much work")
    ranges = [range(first, first + 1000) for first in range(1, 10_001, 1000)]
    with parallel_imap(longest, ranges, ordered=False, chunksize=1, pool=engine) as found:
        steps, start = max(found)
    print(f"    of the numbers below 10,001 the longest is {start}, with {steps} steps")

    print("3. An error is raised as it was raised there; or failures stand in their places")
    try:
        parallel_map(longest, [range(1, 9), range(0)], pool=engine)
    except ValueError as error:
        print("    ValueError in", traceback.extract_tb(error.__traceback__)[-1].name)
    outcomes = parallel_map(lambda n: 6 // n, [1, 0, 3], on_error="return", pool=engine)
    print("   ", [getattr(outcome, "error", outcome) for outcome in outcomes])

    print("4. What only parmap's own workers can keep is refused at the door")
    try:
        parallel_map(collatz_steps, [7], task_timeout=1.0, pool=engine)
    except ValueError as error:
        print("   ", str(error).partition(":")[0])
