"""Two result files side by side: what has a change done?

    python benchmarks/compare.py before.json after.json

A machine is never twice the same. So parmap's figures are put beside how the standard library's
moved between the two runs (`drift`, their geometric mean in the same scenario), and what is left
is called better or worse only where it is larger than the rounds of either run differ among
themselves, and than 5 %."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING

if __package__ in {None, ""}:  # run as a file: `benchmarks` is a package of the folder above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.harness.figures import MORE_IS_BETTER, spread
from benchmarks.harness.report import Report, number

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = ("parmap", "parallel_map", "Channel", "Shared")
REFERENCES = ("Pool", "Executor", "fork", "loop", "ping-pong", "Queue", "Value", "Manager", "Lock")
TIMES = frozenset({
    "wall_ms", "cpu_ms", "p50_us", "p99_us", "first_us", "cpu_us", "cpu_ns_per_item",
    "wall_ns_per_item", "gb_per_s", "replaced_ms", "rate", "cpu", "p50", "p99",
})  # fmt: skip
LEAST = 0.05  # less than that is never worth a word
LEAST_MB = 2.0  # ... nor so little memory, however many times as much it is


@dataclass(frozen=True)
class Change:
    """One figure of ours, in both runs."""

    scenario: str
    label: str
    figure: str
    before: float
    after: float
    drift: float  # of the others between the two runs: 1.1 is a tenth more
    noise: float

    @property
    def factor(self) -> float:
        """After as a part of before, the drift of the machine taken out."""
        return self.after / self.before / self.drift

    @property
    def word(self) -> str:
        bar = 1 + max(LEAST, self.noise)
        if self.figure.endswith("_mb") and abs(self.after - self.before) < LEAST_MB:
            return ""
        if 1 / bar <= self.factor <= bar:
            return ""
        return "better" if (self.factor > 1) == (self.figure in MORE_IS_BETTER) else "WORSE"


def changes(before: Report, after: Report) -> Iterator[Change]:
    """Every figure of ours that both have; zero tells nothing."""
    for scenario, results in after.results.items():
        old = before.results.get(scenario, {})
        for label, figures in results.items():
            if not label.startswith(OURS):
                continue
            for figure, value in figures.items():
                earlier = old.get(label, {}).get(figure, 0.0)
                if earlier <= 0 or value <= 0:
                    continue
                yield Change(
                    scenario, label, figure, earlier, value,
                    drift(before, after, scenario, figure) if figure in TIMES else 1.0,
                    max(_noise(report, scenario, label, figure) for report in (before, after)),
                )  # fmt: skip


def drift(before: Report, after: Report, scenario: str, figure: str) -> float:
    """How the standard library's own figures moved: that was the machine, not the change."""
    factors = [
        figures[figure] / earlier
        for label, figures in after.results[scenario].items()
        if label.startswith(REFERENCES)
        and figures.get(figure, 0.0) > 0
        and (earlier := before.results.get(scenario, {}).get(label, {}).get(figure, 0.0)) > 0
    ]
    return geometric_mean(factors) if factors else 1.0


def _noise(report: Report, scenario: str, label: str, figure: str) -> float:
    return spread(report.samples.get(scenario, {}).get(label, {}).get(figure, []))


def table(found: list[Change], *, everything: bool) -> str:
    lines = [f"{'':44} {'before':>10} {'after':>10} {'drift':>6} {'left':>6} {'noise':>6}"]
    for change in found:
        if change.word or everything:
            name = f"{change.scenario}  {change.label}  {change.figure}"
            lines.append(
                f"{name:44} {number(change.before):>10} {number(change.after):>10} "
                f"{change.drift:6.2f} {change.factor:6.2f} {change.noise:6.2f}  {change.word}"
            )
    better, worse = (sum(change.word == word for change in found) for word in ("better", "WORSE"))
    lines.append(f"{better} better, {worse} worse, {len(found) - better - worse} the same")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--everything", action="store_true", help="unchanged figures, too")
    options = parser.parse_args(arguments)
    try:
        before, after = Report.read(options.before), Report.read(options.after)
    except (OSError, ValueError) as unreadable:
        parser.error(str(unreadable))
    print(table(list(changes(before, after)), everything=options.everything))
    return 0


if __name__ == "__main__":
    sys.exit(main())
