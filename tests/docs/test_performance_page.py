"""The figures on the page on performance are those of the result file beside them."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.harness.page import page
from benchmarks.harness.report import Report
from benchmarks.run import about

MEASURED = Path(__file__).parents[2] / "docs" / "explanation" / "measured"


def report_of(results):
    made = {
        "when": "2026-01-02T",
        "commit": "c",
        "python": "3",
        "system": "S",
        "cpus": 2,
        "load": None,
    }
    return Report({"made": made, "settings": {"rounds": 3}, "results": results})


def test_the_page_shows_what_was_measured():
    """`make bench-page` writes both; neither is changed by hand."""
    shown = (MEASURED / "figures.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.*\]\((.*)\)", shown)

    assert shown == page(Report.read(MEASURED / "figures.json"), about(), pictures)
    assert [name for name in pictures if not (MEASURED / name).is_file()] == []


def test_a_table_has_the_longer_list_downwards_and_multiples_of_ours_in_brackets():
    one = {"parmap": {"wall_ms": 20.0}, "Pool.map": {"wall_ms": 50.0}, "fork": {}}

    tall = page(report_of({"tiny/list": one}), {"tiny": "What it is."}, [])
    wide = page(report_of({f"tiny/{n}": one for n in range(4)}), {}, ["tiny-by-n.svg", "cold.svg"])

    assert (
        "### tiny\n\nWhat it is.\n\n|  | list `wall_ms` |\n| --- | ---: |\n| parmap | 20.0 |"
        in tall
    )
    assert "| Pool.map | 50.0 (2.50) |\n| fork |  |" in tall
    assert "|  | parmap | Pool.map | fork |" in wide
    assert "| 3 `wall_ms` | 20.0 | 50.0 (2.50) |  |" in wide
    assert "](tiny-by-n.svg)" in wide
    assert "cold.svg" not in wide


def test_a_scenario_without_results_has_no_table():
    assert "###" not in page(report_of({"tiny/list": {}}), {}, [])
