"""SharedDict and SharedList beside a Manager's, interleaved in one run.

    python benchmarks/containers.py [--rounds N] [--json] [SCENARIO ...]

A scenario is a container and what is done with it (``dict get``, ``list append 4``, ...), by one
process, or by 4 at the same time.  ``mix`` is 90 reads to 10 writes; ``update`` is `update_item`,
beside a Manager's dict under a Manager's lock.  Figures are for one process: operations per second,
and CPU per operation, the Manager's server included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from parmap import SharedDict, SharedList

if TYPE_CHECKING:
    from collections.abc import Callable

fork = multiprocessing.get_context("fork")
# Operations in one round: a Manager's cost 50 times as much.
OURS, THEIRS = 20_000, 1_000
KEYS = 100


def get(c: Any, n: int, _lock: Any) -> None:
    for i in range(n):
        c[i % KEYS]


def set_(c: Any, n: int, _lock: Any) -> None:
    for i in range(n):
        c[i % KEYS] = i


def mix(c: Any, n: int, _lock: Any) -> None:
    for i in range(n):
        if i % 10:
            c[i % KEYS]
        else:
            c[i % KEYS] = i


def append(c: Any, n: int, _lock: Any) -> None:
    for i in range(n):
        c.append(i)


def update(c: Any, n: int, lock: Any) -> None:
    if lock is None:
        for i in range(n):
            c.update_item(i % KEYS, lambda x: x + 1)
    else:
        for i in range(n):
            with lock:
                c[i % KEYS] += 1


WORK: dict[str, Callable[[Any, int, Any], None]] = {
    "get": get, "set": set_, "mix": mix, "append": append, "update": update,
}  # fmt: skip
_KINDS = [
    "dict get", "dict set", "dict mix", "dict update", "list get", "list set", "list append",
    "list update",
]  # fmt: skip
SCENARIOS = [name + many for name in _KINDS for many in ("", " 4")]


class Cost(NamedTuple):
    rate: float
    cpu_us: float


def run(work: Callable[..., None], container: Any, lock: Any, processes: int, n: int) -> Cost:
    """Have so many processes do it at the same time; what they cost, but not their start."""
    barrier = fork.Barrier(processes + 1)
    spent = fork.SimpleQueue()

    def one() -> None:
        work(container, 10, lock)  # a connection of its own, a copy of its own
        barrier.wait()
        cpu, wall = time.process_time(), time.perf_counter()
        work(container, n, lock)
        spent.put((time.process_time() - cpu, time.perf_counter() - wall))

    children = [fork.Process(target=one) for _ in range(processes)]
    for child in children:
        child.start()
    barrier.wait()
    results = [spent.get() for _ in children]
    for child in children:
        child.join()
    cpu = sum(cost for cost, _ in results) / processes
    return Cost(n / statistics.mean(wall for _, wall in results), cpu / n * 1e6)


def measure(scenario: str, rounds: int) -> dict[str, Cost]:
    """Return the medians of both contestants."""
    kind, what, *many = scenario.split()
    work, start, processes = WORK[what], range(KEYS), 4 if many else 1
    mine = "SharedDict" if kind == "dict" else "SharedList"
    costs: dict[str, list[Cost]] = {mine: [], "Manager": []}
    with fork.Manager() as manager:
        lock = manager.Lock()
        server = manager._process.pid  # type: ignore[attr-defined]  # noqa: SLF001 - its CPU counts
        for _ in range(rounds):
            ours: Any = SharedDict(enumerate(start)) if kind == "dict" else SharedList(start)
            costs[mine].append(run(work, ours, None, processes, OURS))
            theirs: Any = manager.dict(enumerate(start)) if kind == "dict" else manager.list(start)
            before = cpu_of(server)
            cost = run(work, theirs, lock, processes, THEIRS)
            extra = (cpu_of(server) - before) / THEIRS / processes * 1e6
            costs["Manager"].append(Cost(cost.rate, cost.cpu_us + extra))
    return {
        who: Cost(*map(statistics.median, zip(*all_, strict=True))) for who, all_ in costs.items()
    }


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of another process."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    report: dict[str, Any] = {}
    for scenario in options.scenarios or SCENARIOS:
        costs = measure(scenario, options.rounds)
        report[scenario] = {who: cost._asdict() for who, cost in costs.items()}
        if not options.json:
            ours, theirs = costs.values()
            print(
                f"{scenario:14} {ours.rate:11,.0f}/s {ours.cpu_us:6.2f} µs CPU   "
                f"Manager {theirs.rate:8,.0f}/s {theirs.cpu_us:6.1f} µs CPU   "
                f"{ours.rate / theirs.rate:5.0f} × as fast, CPU 1/{theirs.cpu_us / ours.cpu_us:.0f}"
            )
    if options.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
