"""parmap beside the standard library, interleaved in one run; `benchmarks/README.md` explains.

    python benchmarks/run.py [--json] [--rounds N] [SCENARIO ...]

A scenario gives its contestants by name, each a function that does the whole work once. Rounds go
through all contestants in turn, so that a noisy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import psutil

import parmap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 2
Contestants = dict[str, "Callable[[], object]"]


class Timing(NamedTuple):
    wall: float  # seconds, median of the rounds
    cpu: float  # seconds of all processes


def square(x: int) -> int:
    return x * x


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def tiny(stack: ExitStack) -> Contestants:
    """200,000 × `x * x`."""
    items = range(200_000)
    pool = stack.enter_context(multiprocessing.Pool(WORKERS))
    executor = stack.enter_context(ProcessPoolExecutor(WORKERS))
    return {
        "parmap": lambda: parmap.parallel_map(square, items, max_workers=WORKERS),
        "Pool.map": lambda: pool.map(square, items),
        "Executor.map(chunksize=4096)": lambda: list(executor.map(square, items, chunksize=4096)),
        "loop": lambda: [square(x) for x in items],
    }


def medium(stack: ExitStack) -> Contestants:
    """400 items of 10 ms; the ideal is 2 s with two workers."""
    items = [0.01] * 400
    pool = stack.enter_context(multiprocessing.Pool(WORKERS))
    return {
        "parmap": lambda: parmap.parallel_map(spin, items, max_workers=WORKERS),
        "Pool.map": lambda: pool.map(spin, items),
    }


def few(stack: ExitStack) -> Contestants:
    """A warm map of 8 no-ops."""
    pool = stack.enter_context(multiprocessing.Pool(WORKERS))
    return {
        "parmap": lambda: parmap.parallel_map(square, range(8), max_workers=WORKERS),
        "Pool.map": lambda: pool.map(square, range(8)),
    }


def cold(_stack: ExitStack) -> Contestants:
    """The first result of a fresh pool, its end included."""

    def fresh_parmap() -> None:
        with parmap.Pool(1) as pool:
            parmap.parallel_map(square, [1], pool=pool)

    def fresh_executor() -> None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            list(executor.map(square, [1]))

    return {"parmap": fresh_parmap, "Executor, spawned": fresh_executor}


def skewed(stack: ExitStack) -> Contestants:
    """Costs that jump from 1 µs to 5 ms half-way; the ideal is 1 s with two workers."""
    items = [0.000_001] * 20_000 + [0.005] * 400
    pool = stack.enter_context(multiprocessing.Pool(WORKERS))
    return {
        "parmap": lambda: parmap.parallel_map(spin, items, max_workers=WORKERS),
        "Pool.map": lambda: pool.map(spin, items),
    }


SCENARIOS = {scenario.__name__: scenario for scenario in (tiny, medium, few, cold, skewed)}


def cpu_seconds() -> float:
    """CPU time of this process and its children, living and ended."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
        total += times.children_user + times.children_system
    return total


def measure(contestants: Contestants, rounds: int) -> Iterator[tuple[str, Timing]]:
    for run in contestants.values():  # warm
        run()
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu = dict.fromkeys(contestants, 0.0)
    for _ in range(rounds):
        for name, run in contestants.items():
            cpu_before, wall_before = cpu_seconds(), time.perf_counter()
            run()
            wall[name].append(time.perf_counter() - wall_before)
            cpu[name] += cpu_seconds() - cpu_before
    for name in contestants:
        yield name, Timing(statistics.median(wall[name]), cpu[name] / rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")

    report: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.scenarios or SCENARIOS:
        with ExitStack() as stack:
            timings = dict(measure(SCENARIOS[name](stack), options.rounds))
        report[name] = {who: timing._asdict() for who, timing in timings.items()}
        if not options.json:
            print_table(name, timings)
    if options.json:
        print(json.dumps(report, indent=2))


def print_table(name: str, timings: dict[str, Timing]) -> None:
    ours = timings["parmap"].wall
    print(f"\n{name}: {SCENARIOS[name].__doc__}")
    for who, (wall, cpu) in timings.items():
        beside = "" if who == "parmap" else f"   parmap takes {ours / wall:.2f} of it"
        print(f"  {who:30} {wall * 1e3:10.2f} ms wall {cpu * 1e3:10.2f} ms CPU{beside}")


# The standard library's workers import this file: they are why there is a guard.
if __name__ == "__main__":
    main()
