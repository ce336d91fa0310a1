"""Every row of the pages on moving to parmap runs on both sides, and gives what stands at its end."""

from __future__ import annotations

import json
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.scripts import environment

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
NAMES = ["multiprocessing", "concurrent-futures", "joblib"]
BLOCK = re.compile(r"^```python\n# (before|now)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A cell is a little program of one line or more; it has its last expression's value.
RUN = """
import ast, json, sys

def value_of(cell):
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else ast.parse("None").body[0]
    exec(compile(tree, "<cell>", "exec"), globals())
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), globals())

for cell in json.loads(sys.argv[1]):
    print(repr(value_of(cell)), flush=True)
"""
# What the left sides assume, and Python 3.14 no longer does.
FORKING = "import multiprocessing; multiprocessing.set_start_method('fork')\n"


def programs(cell):
    return "\n".join(re.findall(r"`([^`]+)`", cell))


def rows(page):
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    return [[programs(cell) for cell in line.strip("| ").split(" | ")] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "now"])
@pytest.mark.parametrize("name", NAMES)
def test_every_row_gives_what_stands_at_its_end(tmp_path, name, side):
    """As a script, in one session from top to bottom: without a guard, which forks do not need."""
    if side == "before" and name == "joblib":
        pytest.importorskip("joblib")
    if side == "before" and "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("the left sides have no guard")
    page = (PAGES / f"migrate-from-{name}.md").read_text(encoding="utf-8")
    table = [row for row in rows(page) if len(row) == 3 and all(row)]
    script = tmp_path / "script.py"
    preamble = dict(BLOCK.findall(page))[side]
    script.write_text((FORKING if side == "before" else "") + preamble + RUN, encoding="utf-8")
    cells = json.dumps([row[side == "now"] for row in table])

    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), cells],
        capture_output=True, text=True, check=False, timeout=50, cwd=tmp_path, env=environment(),
    )  # fmt: skip

    assert done.stderr == ""
    assert list(zip(table, done.stdout.splitlines(), strict=True)) == [
        (row, row[2]) for row in table
    ]
    assert len(table) >= 8
