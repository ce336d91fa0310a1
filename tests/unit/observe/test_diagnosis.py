"""From figures to one sentence: tables of figures, no process and no clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parmap.observe._diagnosis import Fault, Figures, diagnose

# Two workers on two CPUs that did nothing but run 100 items of 20 ms: a second.
GOOD = Figures(wall=1.0, items=100, workers=2, cap=2, cpus=2, running=1.95, cpu=1.95)

TABLE = [
    (Fault.ALL_GOOD, {}),
    (Fault.ALL_GOOD, {"running": 1.41, "cpu": 1.41}),
    (Fault.MIXED, {"running": 1.3}),
    (Fault.INLINE, {"inline": True, "workers": 1, "cap": 1, "running": 1.0}),
    (Fault.SLOW_CONSUMER, {"consuming": 0.6, "running": 0.4}),
    (Fault.SLOW_PRODUCER, {"reading": 0.6, "running": 0.4}),
    (Fault.START_UP, {"startup": 0.6, "running": 0.4}),
    (Fault.GIANT_ITEM, {"slowest": 0.61, "slowest_index": 37, "running": 1.0}),
    # Half of the time, but so took every other one: that is no giant.
    (Fault.ALL_GOOD, {"slowest": 0.5, "items": 4}),
    # Alone, it could not have been faster.
    (Fault.MIXED, {"slowest": 1.0, "items": 1, "running": 1.0}),
    (Fault.BIG_RESULTS, {"pickling_results": 1.6, "running": 0.2, "bytes_back": 10**8}),
    # Pickling of small things is the price of a message, not of their size.
    (Fault.MIXED, {"pickling_results": 1.0, "running": 0.5, "bytes_back": 1000}),
    (Fault.BIG_ARGUMENTS, {"pickling_arguments": 1.6, "running": 0.2, "bytes_out": 10**8}),
    (
        Fault.REPEATED_ARGUMENT,
        {
            "pickling_arguments": 1.6,
            "running": 0.2,
            "bytes_out": 10**8,
            "repeated_bytes": 9 * 10**7,
        },
    ),
    (Fault.REPEATED_FUNCTION, {"function_bytes": 10**8, "calls": 20, "running": 0.2}),
    # In one call it has to travel.
    (Fault.MIXED, {"function_bytes": 10**8, "running": 0.2}),
    (Fault.TINY_TASKS, {"items": 200_000, "running": 0.6}),
    # Tiny, and yet faster than the loop.
    (Fault.MIXED, {"items": 200_000, "running": 1.2}),
    (Fault.TOO_MANY_THREADS, {"cpu": 1.9, "other_cpu": 1.4}),
    # There are CPUs enough for all threads.
    (Fault.ALL_GOOD, {"cpu": 1.9, "other_cpu": 1.4, "cpus": 16, "cap": 16}),
    (Fault.TOO_FEW_WORKERS, {"workers": 1, "cap": 1, "running": 0.95, "cpu": 0.95}),
    # More workers than items would be of no use.
    (Fault.ALL_GOOD, {"cap": 2, "cpus": 8, "items": 2, "slowest": 0.99}),
]


@pytest.mark.parametrize(("fault", "changes"), TABLE)
def test_each_fault_is_told_by_its_figures(fault: Fault, changes: dict[str, float]) -> None:
    assert diagnose(replace(GOOD, **changes)).fault == fault.value  # type: ignore[arg-type]


def test_each_fault_has_figures_here() -> None:
    assert {fault for fault, _ in TABLE} | {Fault.NOTHING_RAN} == set(Fault)


def test_without_calls_there_is_nothing_to_say() -> None:
    assert diagnose(None).fault == Fault.NOTHING_RAN.value
    assert diagnose(replace(GOOD, items=0)).fault == Fault.NOTHING_RAN.value


SENTENCES = [
    ({"items": 200_000, "running": 0.6}, "Tasks take 3 µs: the loop is faster"),
    (
        {"pickling_results": 0.8, "running": 0.2, "bytes_back": 10**8},
        "80 % is spent pickling results (1 MB each): return less, or use SharedArray.",
    ),
    (
        {"slowest": 0.61, "slowest_index": 37, "running": 1.0},
        "Item 37 took 61 % of the time (610 ms): split it, or put it first.",
    ),
    ({"workers": 1, "cap": 1, "running": 0.95}, "1 of 2 CPUs did all the work without a pause"),
    ({"cpu": 1.9, "other_cpu": 1.425}, "Each of 2 workers computes with about 4 threads on 2 CPUs"),
    ({}, "All good: 2 workers ran your code 98 % of the time"),
]


@pytest.mark.parametrize(("changes", "begin"), SENTENCES)
def test_the_sentence_says_how_much_and_what_to_do(changes: dict[str, float], begin: str) -> None:
    text = str(diagnose(replace(GOOD, **changes)))  # type: ignore[arg-type]

    assert text.startswith(begin)
    assert text.endswith(".")


@pytest.mark.parametrize(
    "changes", [{"wall": 0.0, "running": 0.0}, {"running": 0.0}, {"cpu": 0.0}, {"workers": 1}]
)
def test_figures_of_nothing_divide_nothing_by_zero(changes: dict[str, float]) -> None:
    assert diagnose(replace(GOOD, **changes)).text  # type: ignore[arg-type]
