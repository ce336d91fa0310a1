"""The rows of DESIGN.md, section 5: what is measured, its goal and its must, and where the number
is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.harness.figures import Figures

    Results = Mapping[str, Mapping[str, Figures]]


@dataclass(frozen=True)
class Goal:
    measure: str
    goal: float
    must: float
    value: Callable[[Results], float]
    at_least: bool = False

    @property
    def sign(self) -> str:
        return "≥" if self.at_least else "≤"

    def meets(self, value: float, bar: float) -> bool:
        return value >= bar if self.at_least else value <= bar


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        if self.goal.meets(self.value, self.goal.goal):
            return "goal"
        return "must" if self.goal.meets(self.value, self.goal.must) else "FALLS SHORT"


def part(scenario: str, figure: str, of: str, who: str = "parmap") -> Callable[[Results], float]:
    """`who`'s figure as a part (or a multiple) of that of `of`."""
    return lambda found: found[scenario][who][figure] / found[scenario][of][figure]


def plain(scenario: str, figure: str, who: str = "parmap") -> Callable[[Results], float]:
    return lambda found: found[scenario][who][figure]


def _each_further(found: Results) -> float:
    first, last = (found[f"cold/{n} workers"]["parmap"]["wall_ms"] for n in (1, 8))
    return (last - first) / 7


def _exception_us(found: Results) -> float:
    """CPU of an item that fails beyond that of one that does not."""
    failing, fine = (found[f"failing/{kind}"]["parmap"]["cpu_us"] for kind in ("failing", "fine"))
    return failing - fine


def _option_price(name: str) -> Callable[[Results], float]:
    def percent(found: Results) -> float:
        with_it, without = (
            found["options"][who]["wall_ms"] for who in (f"parmap {name}", "parmap")
        )
        return (with_it / without - 1) * 100

    return percent


GOALS = (
    Goal("200,000 × x*x, wall / Pool.map", 0.65, 0.80, part("tiny/list", "wall_ms", "Pool.map")),
    Goal("... / Executor.map, tuned", 0.30, 0.40, part("tiny/list", "wall_ms", "Executor, tuned")),
    Goal("CPU per trivial item, ns", 125, 150, plain("tiny/list", "cpu_ns_per_item")),
    Goal(
        "one warm task p50 / raw ping-pong", 2, 3.5,
        part("roundtrip", "p50_us", "ping-pong", "parmap Pool.submit"),
    ),
    Goal(
        "... by parallel_map([x])", 2, 3.5,
        part("roundtrip", "p50_us", "ping-pong", "parallel_map([x])"),
    ),
    Goal("warm map of 8 / Pool.map", 0.5, 0.8, part("warm8", "p50_us", "Pool.map")),
    Goal("400 × 10 ms, efficiency", 0.98, 0.97, plain("medium", "efficiency"), at_least=True),
    Goal("jump 1 µs -> 50 ms / ideal", 1.05, 1.15, plain("uneven/jump", "over_ideal")),
    Goal("Pareto, shuffled / bound", 1.03, 1.05, plain("uneven/shuffled", "over_ideal")),
    Goal("Pareto, ascending / bound", 1.03, 1.05, plain("uneven/ascending", "over_ideal")),
    Goal("Pareto, descending / bound", 1.03, 1.05, plain("uneven/descending", "over_ideal")),
    Goal("first of 1,000,000, µs", 150, 500, plain("stream", "first_us")),
    Goal("... memory held, MB", 10, 20, plain("stream", "grown_mb")),
    Goal("cold: first worker, ms", 30, 50, plain("cold/1 workers", "wall_ms")),
    Goal("cold: each further, ms (1 to 8)", 2, 5, _each_further),
    *(
        Goal(
            f"{size} arrays {words}, GB/s", goal, must,
            plain(f"arrays/array {way} {size}", "gb_per_s"), at_least=True,
        )
        for size, goal, must in (("8 MB", 5, 3), ("100 MB", 3, 1))
        for way, words in (("in", "to workers"), ("out", "back"))
    ),
    Goal("exception with traceback, µs CPU", 10, 60, _exception_us),
    Goal("replace a worker that is late, ms", 5, 20, plain("replace/late", "replaced_ms")),
    Goal("replace a worker that was killed, ms", 5, 20, plain("replace/killed", "replaced_ms")),
    Goal("task_timeout=, trivial items, %", 2, 5, _option_price("task_timeout")),
    *(
        Goal(
            f"Channel {way}, msg/s / Queue", 3.5, 2,
            part(f"channel/{way}", "rate", "Queue", "Channel"), at_least=True,
        )
        for way in ("1->1", "2->2", "1->4", "4->1")
    ),
    *(
        Goal(f"Channel {what} / Queue", goal, must, part(f"channel/{of}", key, "Queue", "Channel"))
        for what, of, key, goal, must in (
            ("64 KB, CPU", "64KB", "cpu", 0.33, 0.5),
            ("1 MB, CPU", "1MB", "cpu", 0.125, 0.25),
            ("latency p50", "latency", "p50", 0.2, 0.33),
        )
    ),
    *(
        Goal(
            f"SharedCounter.add, {n} process(es), rate / Value", goal, must,
            part(f"shared/counter {n}", "wall", "SharedCounter", "Value"), at_least=True,
        )
        for n, goal, must in ((1, 4, 3), (4, 6, 4))
    ),
    *(
        Goal(
            f"SharedDict {how}, rate / Manager", goal, must,
            part(f"containers/dict {how}", "rate", "Manager", "SharedDict"), at_least=True,
        )
        for how, goal, must in (("get", 100, 20), ("set", 20, 5))
    ),
)  # fmt: skip


def judge(results: Results) -> Iterator[Verdict]:
    for goal in GOALS:
        try:
            value: float | None = goal.value(results)
        except (KeyError, ZeroDivisionError):
            value = None
        yield Verdict(goal, value)
