"""A result file as a page of the documentation: a table for each scenario, and the pictures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness.report import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.harness.figures import Figures
    from benchmarks.harness.report import Report

# What a scenario is about; the first that it has is shown.
KEYS = (
    "over_ideal", "efficiency", "gb_per_s", "first_us", "replaced_ms", "wall_us_per_item", "p50_us",
    "wall_ms", "cpu_ms", "rate", "p50", "wakeups",
)  # fmt: skip


def key_of(results: Mapping[str, Figures]) -> str | None:
    """The figure of a scenario that one looks at first."""
    names = {name for figures in results.values() for name in figures}
    return next((key for key in KEYS if key in names), None)


def page(report: Report, about: Mapping[str, str]) -> str:
    """Markdown; `about` has a sentence or two for the scenarios."""
    made = report.content["made"]
    load = "" if made["load"] is None else f", load {made['load']:.1f} when it began"
    head = (
        f"Measured {made['when'][:10]} at `{made['commit']}`, with Python {made['python']} on"
        f" {made['system']}, {made['cpus']} CPUs{load}, in {report.content['settings']['rounds']}"
        " rounds. In brackets: the figure as a multiple of parmap's. *Tuned* is the best of several"
        " chunk sizes, which were sought before; without it, what one gets who says nothing.\n"
    )
    parts = [head]
    groups: dict[str, dict[str, Mapping[str, Figures]]] = {}
    for heat, results in report.results.items():
        name, _, variant = heat.partition("/")
        if results:
            groups.setdefault(name, {})[variant] = results
    for name, variants in groups.items():
        parts += [f"\n### {name}\n", about.get(name, ""), "", *_table(variants)]
    return "\n".join(parts) + "\n"


def _table(variants: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """A row for each variant, a column for each contestant, of the figure that it is about."""
    labels = list(dict.fromkeys(label for results in variants.values() for label in results))
    lines = [_row(["", *labels]), _row(["---", *("---:" for _ in labels)])]
    for variant, results in variants.items():
        key = key_of(results)
        ours = next(iter(results.values())).get(key or "")
        cells = [_cell(results.get(label, {}).get(key or ""), ours) for label in labels]
        lines.append(_row([f"{variant} `{key}`".strip(), *cells]))
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: float | None, ours: float | None) -> str:
    if value is None:
        return ""
    if not ours or value == ours:
        return number(value)
    return f"{number(value)} ({value / ours:.2g})"
