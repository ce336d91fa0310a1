"""Blocks of plain Python in the pages, which are no doctests since they leave something to the reader:
each runs here, as a script, with what it leaves out before it and what it promises behind it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.scripts import environment

DOCS = Path(__file__).parents[2] / "docs"
# Both sides of the tables for moving have a test of their own.
BLOCK = re.compile(r"^```python\n(?!# (?:before|now)\n)(.*?)^```$", re.MULTILINE | re.DOTALL)

SIMULATION = """
from parmap import parallel_map
parameters = [1, -2, 3]
def simulate(n):
    return abs(n)
"""
# `Client` with threads instead of a cluster.
PRETENDED_DASK = """
import sys, types
from concurrent.futures import ThreadPoolExecutor
class Client:
    def __init__(self, address):
        assert address == "tcp://scheduler:8786"
    def get_executor(self):
        return ThreadPoolExecutor(2)
sys.modules["distributed"] = types.SimpleNamespace(Client=Client)
"""
# The billion items of that page, cut down to the first three of each range.
FEW = """
import builtins
from parmap import parallel_imap
engine = ThreadPoolExecutor(2)
def range(*limits):
    return builtins.range(*limits)[:3]
"""

ROUND_ABOUT: dict[str, tuple[str, str]] = {
    "how-to/resume-after-a-crash.md": (SIMULATION, "assert results == [1, 2, 3]"),
    "how-to/use-another-engine.md": (PRETENDED_DASK + SIMULATION, "assert results == [1, 2, 3]"),
    "how-to/from-one-laptop-to-a-cluster.md": (
        PRETENDED_DASK + SIMULATION + FEW,
        "assert results == [1, 2, 3]\nassert answer == 3 + 30_003 + 60_003",
    ),
    "how-to/test-code-that-uses-parmap.md": ("", "assert _clean"),
    "how-to/shared-containers.md": (
        "from parmap import SharedDict\nd, x = SharedDict(hits=1, seen=[]), 7\n",
        'assert dict(d) == {"hits": 3, "seen": [7]}',
    ),
    "how-to/know-the-task.md": (
        "from parmap import parallel_map\n",
        "assert parallel_map(lambda _: user.get(), range(2)) == ['alice', 'alice']",
    ),
    "how-to/reproducible-random-numbers.md": (
        "from parmap import parallel_map\n",
        """
first = parallel_map(draw, range(4), seed=1)
assert first == parallel_map(draw, range(4), seed=1)
assert len(set(first)) == 4
""",
    ),
    "how-to/replace-multiprocessing-pool.md": (
        "",
        "with Pool(2) as pool:\n    assert pool.map(lambda n: n + 1, [1]) == [2]",
    ),
    "how-to/migrate-from-joblib.md": (
        """
import joblib
model, X, y = abs, [-1], [1]
def cross_val_score(model, X, y):
    global scores
    scores = joblib.Parallel(2)(joblib.delayed(model)(x) for x in X)
""",
        "assert scores == y",
    ),
}


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def test_no_block_is_left_out():
    pages = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts and blocks(page)]

    assert {page.relative_to(DOCS).as_posix() for page in pages} == set(ROUND_ABOUT)


@pytest.mark.parametrize("name", ROUND_ABOUT)
def test_the_blocks_of_a_page_run_and_keep_their_promise(tmp_path, name):
    if "joblib" in name:
        pytest.importorskip("joblib")
    before, behind = ROUND_ABOUT[name]
    script = tmp_path / "script.py"
    script.write_text("\n".join([before, *blocks(DOCS / name), behind]), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, check=False, timeout=50, cwd=tmp_path, env=environment(),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
