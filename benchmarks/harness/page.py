"""A result file as a page of the documentation: a table for each scenario, and the pictures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness.report import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def page(report: Report, about: Mapping[str, str], pictures: Iterable[str]) -> str:
    """Markdown; `about` has a sentence or two for the scenarios, `pictures` are files beside it."""
    made = report.content["made"]
    load = "" if made["load"] is None else f", load {made['load']:.1f} when it began"
    head = (
        f"Measured {made['when'][:10]} at `{made['commit']}`, with Python {made['python']} on"
        f" {made['system']}, {made['cpus']} CPUs{load}, in {report.content['settings']['rounds']}"
        " rounds. In brackets: the figure as a multiple of parmap's. *Tuned* is the best of several"
        " chunk sizes, which were sought before; without it, what one gets who says nothing.\n"
    )
    parts, found = [head], list(pictures)
    groups: dict[str, dict[str, Mapping[str, Figures]]] = {}
    for heat, results in report.results.items():
        name, _, variant = heat.partition("/")
        if results:
            groups.setdefault(name, {})[variant] = results
    for name, variants in groups.items():
        parts += [f"\n### {name}\n", about.get(name, ""), "", *_table(variants)]
        parts += [
            f"\n![{about.get(name)}]({each})" for each in found if each.startswith(f"{name}-")
        ]
    return "\n".join(parts) + "\n"


def _table(variants: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """The figure that each variant is about, for each contestant; the longer list downwards."""
    labels = list(dict.fromkeys(label for results in variants.values() for label in results))
    columns = [["", *labels]]
    for variant, results in variants.items():
        key = key_of(results) or ""
        ours = next(iter(results.values())).get(key)
        cells = [_cell(results.get(label, {}).get(key), ours) for label in labels]
        columns.append([f"{variant} `{key}`".strip(), *cells])
    rows = columns if len(columns) > len(labels) else list(zip(*columns, strict=True))
    return [_row(rows[0]), _row(["---", *("---:" for _ in rows[0][1:])]), *map(_row, rows[1:])]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: float | None, ours: float | None) -> str:
    if value is None:
        return ""
    if not ours or value == ours:
        return number(value)
    return f"{number(value)} ({number(value / ours)})"
