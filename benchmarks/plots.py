"""Draw a result file: one picture for each scenario, and how time grows with items and workers.

    python benchmarks/plots.py result.json [--to FOLDER] [--page]

With `--page` the folder gets the figures as a page (`figures.md`) instead of the bars, and the file
without its samples (`figures.json`): what the documentation shows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a file: `benchmarks` is a package of the folder above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.harness.page import key_of, page
from benchmarks.harness.report import Report
from benchmarks.run import about

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "results" / "plots"
OURS, THEIRS = "#1b6ca8", "#b0b7bd"


def bars(
    plt: Any, scenario: str, results: dict[str, dict[str, float]], folder: Path
) -> Path | None:
    """One bar for each contestant, ours coloured."""
    key = key_of(results)
    shown = (
        {label: figures[key] for label, figures in results.items() if key in figures} if key else {}
    )
    if not shown:
        return None
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * len(shown)), layout="constrained")
    first = next(iter(shown))
    labels = list(shown)
    axes.barh(
        labels, list(shown.values()), color=[OURS if name == first else THEIRS for name in labels]
    )
    axes.invert_yaxis()
    if max(shown.values()) > 20 * min(shown.values()) > 0:
        axes.set_xscale("log")
    axes.set_xlabel(str(key))
    axes.set_title(scenario, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return _saved(plt, figure, folder / f"{scenario.replace('/', '-').replace(' ', '-')}.svg")


def lines(
    plt: Any, report: Report, prefix: str, suffix: str, key: str, folder: Path, over: str = ""
) -> Path | None:
    """A figure over the number in the variant's name, one line for each contestant; as a part of
    `over`'s figure, if that is named."""
    series: dict[str, list[tuple[int, float]]] = {}
    for scenario, results in report.results.items():
        if not (scenario.startswith(f"{prefix}/") and scenario.endswith(f" {suffix}")):
            continue
        place = int(scenario.removeprefix(f"{prefix}/").partition(" ")[0])
        whole = results.get(over, {}).get(key, 1.0)
        for label, figures in results.items():
            if key in figures:
                series.setdefault(label, []).append((place, figures[key] / whole))
    if not series:
        return None
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, (label, points) in enumerate(series.items()):
        across, up = zip(*sorted(points), strict=True)
        axes.plot(across, up, marker="o", label=label, linewidth=1 if number else 2.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(suffix)
    axes.set_ylabel(f"{key}, as a part of the {over}'s" if over else key)
    if over:  # within one power of ten, where no axis has numbers by itself
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_title(f"{prefix}: {suffix}", loc="left")
    axes.legend(fontsize="small", frameon=False)
    return _saved(plt, figure, folder / f"{prefix}-by-{suffix}.svg")


def _saved(plt: Any, figure: Any, path: Path) -> Path:
    figure.savefig(path)
    plt.close(figure)
    return path


def draw(report: Report, folder: Path, *, bars_too: bool = True) -> list[Path]:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    shown = report.results if bars_too else {}
    drawn = [bars(plt, name, results, folder) for name, results in shown.items()]
    drawn += [
        lines(plt, report, "growth", "items", "cpu_ns_per_item", folder),
        lines(plt, report, "growth", "workers", "wall_ms", folder),
        lines(plt, report, "cold", "workers", "wall_ms", folder),
        lines(plt, report, "worth", "us", "wall_us_per_item", folder, over="loop"),
    ]
    return [path for path in drawn if path is not None]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--to", type=Path, default=PICTURES, metavar="FOLDER")
    parser.add_argument("--page", action="store_true", help="figures.md and figures.json, too")
    options = parser.parse_args(arguments)
    try:
        report = Report.read(options.results)
    except (OSError, ValueError) as unreadable:
        parser.error(str(unreadable))
    drawn = draw(report, options.to, bars_too=not options.page)
    print(f"{len(drawn)} pictures in {options.to}")
    if options.page:
        report.content["samples"] = {}
        report.write(options.to / "figures.json")
        # That of `worth` stands at the top of the documentation's page already.
        pictures = [path.name for path in drawn if not path.name.startswith("worth-")]
        text = page(report, about(), pictures)
        (options.to / "figures.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
