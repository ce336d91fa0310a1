"""Fresh workers, 1 to 32, in a fresh process: the time from nothing until all of them run a task
at once."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from functools import partial

from benchmarks.harness import tree
from benchmarks.harness.light import meet
from benchmarks.harness.scenario import Contestant, Job, Scenario

NUMBERS = (1, 2, 4, 8, 16, 32)


class Gate:
    """A forked process in whose presence `count` workers meet; it tells when the last one came."""

    def __init__(self, folder: str, count: int) -> None:
        os.mkfifo(f"{folder}/here")
        os.mkfifo(f"{folder}/go")
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(writer)
            return
        try:
            # Open for both: then neither `open` waits, and no worker's close is an end.
            here = os.open(f"{folder}/here", os.O_RDWR)
            go = os.open(f"{folder}/go", os.O_RDWR)
            come = 0
            while come < count:
                come += len(os.read(here, count - come))
            last = time.perf_counter()  # one clock for all processes
            os.write(go, b"x" * count)
            os.write(writer, pickle.dumps(last))
            os.read(here, 1)  # until killed: what is in a FIFO goes with its last opener
        finally:
            os._exit(1)

    def last(self) -> float:
        moment: float = pickle.loads(os.read(self._reader, 4096))
        return moment

    def close(self) -> None:
        tree.end_child(self._pid)
        os.close(self._reader)


def run(job: Job) -> None:
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(folder, job.workers)
        try:
            cpu, began = tree.cpu_seconds(), time.perf_counter()
            peer = job.make()
            pids = list(peer.map(partial(meet, folder), range(job.workers), 1))
            job.figures["wall_ms"] = (gate.last() - began) * 1e3
            job.figures["cpu_ms"] = (tree.cpu_seconds_after() - cpu) * 1e3
            peer.close()
        finally:
            gate.close()
    job.check(len(set(pids)) == job.workers, f"{len(set(pids))} workers for {job.workers} tasks")


def contestants(variant: str) -> list[Contestant]:
    spawn, forkserver = (("start_method", "spawn"),), (("start_method", "forkserver"),)
    found = [
        Contestant("parmap", "parmap"),
        Contestant("Pool, fork", "Pool.map", options=(("start_method", "fork"),)),
        Contestant("Pool, spawn", "Pool.map", options=spawn),
        Contestant("Pool, forkserver", "Pool.map", options=forkserver),
        Contestant("Executor, spawn", "Executor", options=spawn),
        Contestant("loky", "loky"),
        Contestant("joblib", "joblib"),
        Contestant("mpire", "mpire"),
        Contestant("pebble", "pebble"),
        Contestant("fork", "fork"),
    ]
    # With one worker joblib runs everything in the calling process: that is no start.
    return [each for each in found if (variant, each.peer) != ("1 workers", "joblib")]


SCENARIO = Scenario(
    run, contestants, tuple(f"{number} workers" for number in NUMBERS), ("1 workers", "4 workers"),
    fresh=True, bound=30.0,
)  # fmt: skip
