"""Every row of the page on other libraries names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "ecosystem.md"
ROWS = [
    line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| library")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[2].strip()[:30])
def test_a_row_names_its_tests(row):
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row.split("|")[3])

    assert named, row
    for path, name in named:
        file = ROOT / path if path.startswith("tests/") else ROOT / "tests" / "ecosystem" / path
        assert re.search(rf"^(def|class) {name}\b", file.read_text(encoding="utf-8"), re.MULTILINE)
