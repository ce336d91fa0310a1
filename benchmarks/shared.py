"""Shared state beside that of `multiprocessing`, interleaved in one run.

    python benchmarks/shared.py [--rounds N] [--json] [SCENARIO ...]

A scenario is a table of contestants, the first of them parmap's; each does the same many times in
some processes at once, and is measured there: microseconds of wall and of CPU for each operation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, NamedTuple

from parmap import Pool, SharedArray, SharedCounter, SharedValue, parallel_map

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.managers import SyncManager

fork = multiprocessing.get_context("fork")


class Scenario(NamedTuple):
    """What is measured, in how many processes, how often in each of them."""

    contestants: dict[str, Callable[[], Callable[[], object]]]  # makes the operation
    processes: int = 1
    times: int = 50_000
    slow: frozenset[str] = frozenset({"Manager"})  # a tenth of the count is enough for these


class Timing(NamedTuple):
    wall: float  # microseconds for each operation, all processes together
    cpu: float


# --- contestants ----------------------------------------------------------------------------------

_manager: SyncManager | None = None


def manager() -> SyncManager:
    global _manager
    if _manager is None:
        _manager = fork.Manager()
    return _manager


def counter_add() -> Callable[[], object]:
    return SharedCounter().add


def locked_value_add() -> Callable[[], object]:
    value = fork.Value("q", 0)

    def add() -> None:
        with value.get_lock():
            value.value += 1

    return add


def manager_value_add() -> Callable[[], object]:
    value, lock = manager().Value("q", 0), manager().Lock()

    def add() -> None:
        with lock:
            value.value += 1

    return add


def shared_value(method: str, *arguments: Any) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        act = getattr(SharedValue(0), method)
        return lambda: act(*arguments)

    return make


def shared_value_read() -> Callable[[], object]:
    value = SharedValue(0)
    return lambda: value.value


def mp_value_read() -> Callable[[], object]:
    value = fork.Value("q", 0)
    return lambda: value.value


def manager_value_read() -> Callable[[], object]:
    value = manager().Value("q", 0)
    return lambda: value.value


def mp_value_set() -> Callable[[], object]:
    value = fork.Value("q", 0)
    return lambda: setattr(value, "value", 1)


def created(make: Callable[[], object]) -> Callable[[], Callable[[], object]]:
    return lambda: make


def shared_memory(size: int) -> Callable[[], object]:
    def make() -> None:
        block = SharedMemory(create=True, size=size)
        block.close()
        block.unlink()

    return make


def array_element() -> Callable[[], object]:
    array = SharedArray("d", 100)
    return lambda: array.__setitem__(5, 1.0)


def mp_array_element() -> Callable[[], object]:
    array = fork.Array("d", 100)
    return lambda: array.__setitem__(5, 1.0)


def array_locked() -> Callable[[], object]:
    array = SharedArray("d", 100)
    lock = array.lock

    def add() -> None:
        with lock:
            array[5] += 1.0

    return add


def mp_array_locked() -> Callable[[], object]:
    array = fork.Array("d", 100)

    def add() -> None:
        with array.get_lock():
            array[5] += 1.0

    return add


ADDERS = {"SharedCounter": counter_add, "Value": locked_value_add, "Manager": manager_value_add}

SCENARIOS: dict[str, Scenario] = {
    "counter 1": Scenario(ADDERS, 1, 200_000),
    "counter 2": Scenario(ADDERS, 2, 200_000),
    "counter 4": Scenario(ADDERS, 4, 200_000),
    "value get": Scenario(
        {"SharedValue": shared_value_read, "Value": mp_value_read, "Manager": manager_value_read}
    ),
    "value set": Scenario({"SharedValue": shared_value("set", 1), "Value": mp_value_set}),
    "value fetch_add": Scenario(
        {
            "SharedValue": shared_value("fetch_add", 1),
            "Value": locked_value_add,
            "Manager": manager_value_add,
        }
    ),
    "value fetch_add 2": Scenario(
        {"SharedValue": shared_value("fetch_add", 1), "Value": locked_value_add}, 2
    ),
    "array element": Scenario({"SharedArray": array_element, "Array": mp_array_element}),
    "array locked": Scenario({"SharedArray": array_locked, "Array": mp_array_locked}),
    "array create 100": Scenario(
        {
            "SharedArray": created(lambda: SharedArray("d", 100)),
            "Array": created(lambda: fork.Array("d", 100)),
            "SharedMemory": created(shared_memory(800)),
        },
        times=2_000,
    ),
    "array create 1e6": Scenario(
        {
            "SharedArray": created(lambda: SharedArray("d", 1_000_000)),
            "SharedMemory": created(shared_memory(8_000_000)),
        },
        times=1_000,
    ),
}


# --- measuring ------------------------------------------------------------------------------------


def measure(make: Callable[[], Callable[[], object]], processes: int, count: int) -> Timing:
    """Do it in so many forked processes at once."""
    act = make()
    results, start = fork.SimpleQueue(), fork.Barrier(processes)

    def run() -> None:
        act()  # what the first one makes
        start.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            act()
        results.put((time.perf_counter() - wall, time.process_time() - cpu))

    running = [fork.Process(target=run) for _ in range(processes)]
    for process in running:
        process.start()
    timings = [results.get() for _ in running]
    for process in running:
        process.join()
    wall = max(timing[0] for timing in timings) / (count * processes) * 1e6
    return Timing(wall, sum(timing[1] for timing in timings) / (count * processes) * 1e6)


def attachment(rounds: int) -> dict[str, Timing]:
    """Unpickling in a running worker: what it adds to a task that takes a plain object instead."""
    with Pool(1) as pool:
        kept: list[Any] = [SharedArray("d", 100), SharedArray("d", 1_000_000), None]
        names, timings = ["small", "large", "nothing"], {}
        for name, thing in zip(names, kept, strict=True):
            walls = []
            for _ in range(rounds * 5):
                began = time.perf_counter()
                parallel_map(len_of, [thing] * 200, pool=pool, chunksize=200)
                walls.append((time.perf_counter() - began) / 200 * 1e6)
            timings[name] = Timing(statistics.median(walls), 0.0)
    return timings


def len_of(thing: Any) -> int:
    return 0 if thing is None else len(thing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, dict[str, Timing]] = {}
    for name in options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        rounds: dict[str, list[Timing]] = {who: [] for who in scenario.contestants}
        for _ in range(options.rounds):
            for who, make in scenario.contestants.items():
                count = scenario.times // (10 if who in scenario.slow else 1)
                rounds[who].append(measure(make, scenario.processes, count))
        report[name] = {
            who: Timing(*map(statistics.median, zip(*timings, strict=True)))
            for who, timings in rounds.items()
        }
        if not options.json:
            show(name, report[name])
    if not options.scenarios:
        report["array attach"] = attachment(options.rounds)
        if not options.json:
            show("array attach", report["array attach"])
    if options.json:
        print(
            json.dumps({name: {w: t._asdict() for w, t in r.items()} for name, r in report.items()})
        )


def show(name: str, results: dict[str, Timing]) -> None:
    ours = next(iter(results.values()))
    for who, (wall, cpu) in results.items():
        beside = f"x {wall / ours.wall:6.2f} wall, {cpu / ours.cpu:6.2f} CPU" if ours.cpu else ""
        print(f"{name:18} {who:14} {wall:9.3f} us wall {cpu:9.3f} us CPU   {beside}", flush=True)


if __name__ == "__main__":
    main()
