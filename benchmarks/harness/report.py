"""The result file, and the tables that are printed from it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.figures import Figures, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.harness.conduct import Entry
    from benchmarks.harness.goals import Verdict

SCHEMA = 1
PACKAGES = ("parmap-mp", "numpy", "joblib", "loky", "mpire", "pebble", "faster-fifo")


class Report:
    """Everything of a run: scenario -> contestant -> figure, the rounds behind it, and what went
    wrong."""

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        self.content = content or {
            "schema": SCHEMA, "made": surroundings(), "results": {}, "samples": {}, "notes": {},
        }  # fmt: skip

    @property
    def results(self) -> dict[str, dict[str, Figures]]:
        found: dict[str, dict[str, Figures]] = self.content["results"]
        return found

    @property
    def notes(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self.content["notes"]
        return found

    @property
    def samples(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        found: dict[str, dict[str, dict[str, list[float]]]] = self.content["samples"]
        return found

    def add_heat(self, scenario: str, entries: Iterable[Entry], rounds: int) -> None:
        results, samples, notes = {}, {}, {}
        for entry in entries:
            label, note = entry.contestant.label, entry.note
            if entry.rounds:
                results[label] = entry.figures()
                samples[label] = {
                    name: [figures[name] for figures in entry.rounds if name in figures]
                    for name in entry.rounds[0]
                }
                if len(entry.rounds) < rounds:
                    note = (
                        f"{note}; {len(entry.rounds)} rounds"
                        if note
                        else f"{len(entry.rounds)} rounds"
                    )
            if note:
                notes[label] = note
        self.results[scenario], self.samples[scenario] = results, samples
        self.notes[scenario] = notes

    def add_module(self, name: str, results: Mapping[str, dict[str, Figures]]) -> None:
        for scenario, figures in results.items():
            self.results[f"{name}/{scenario}"] = figures

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Report:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"{path} is not a result file of schema {SCHEMA}: make it anew")
        return cls(content)


def surroundings() -> dict[str, Any]:
    """Where and of what the numbers are."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def table(scenario: str, results: Mapping[str, Figures], notes: Mapping[str, str]) -> str:
    """One scenario: a line for each contestant, each figure with ours as a part of it in brackets."""
    first = next(iter(results), None)
    labels = [*results, *(label for label in notes if label not in results)]
    names = list(dict.fromkeys(name for figures in results.values() for name in figures))
    rows = [[scenario, *names]]
    for label in labels:
        figures = results.get(label, {})
        ours = results[first] if first is not None and label != first else {}
        cells = [_cell(figures.get(name), ours.get(name)) for name in names]
        rows.append([f"  {label}", *cells])
    lines = _aligned(rows)
    for number, label in enumerate(labels, 1):
        if label in notes:
            lines[number] += f"   {notes[label]}"
    return "\n".join(lines)


def _cell(value: float | None, ours: float | None) -> str:
    if value is None:
        return ""
    part = None if ours is None else ratio(ours, value)
    return number(value) + ("       " if part is None else f" ({part:.2f})".ljust(7))


def number(value: float) -> str:
    if value != 0 and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def verdicts_table(verdicts: Iterable[Verdict]) -> str:
    rows = [["DESIGN.md, section 5", "measured", "goal", "must", ""]]
    rows += [
        [
            verdict.goal.measure,
            "-" if verdict.value is None else number(verdict.value),
            f"{verdict.goal.sign} {verdict.goal.goal:g}",
            f"{verdict.goal.sign} {verdict.goal.must:g}",
            verdict.word,
        ]
        for verdict in verdicts
    ]
    return "\n".join(_aligned(rows))
