"""The numbered examples print what stands beside them, and the table of counterparts is complete."""

from __future__ import annotations

import multiprocessing
import queue
import subprocess
import sys
from multiprocessing import connection, queues
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from support.scripts import environment

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TABLE = DOCS / "reference" / "from-multiprocessing.md"
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
BY_THEMSELVES = [path for path in EXAMPLES if "dask" not in path.name]  # tests/ecosystem has Dask


@pytest.mark.parametrize("source", BY_THEMSELVES, ids=lambda path: path.stem)
def test_an_example_prints_what_stands_beside_it(tmp_path, source):
    """From any folder, warnings being errors, and with nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(source)],
        capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path, env=environment(),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == source.with_suffix(".out").read_text(encoding="utf-8")
    lines = source.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 135
    assert not any(line.startswith("if __name__") for line in lines)
    assert "sleep" not in source.read_text(encoding="utf-8")


@pytest.mark.parametrize("source", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_a_page_shows_the_example_and_the_list_names_it(source):
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))

    assert f"literalinclude}} ../../examples/{source.name}" in pages
    assert f"literalinclude}} ../../examples/{source.stem}.out" in pages
    assert f"`{source.name}`" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "kind",
    [
        BaseProcess, queues.Queue, queues.JoinableQueue, queues.SimpleQueue, queue.Queue,
        connection.Connection,
    ],
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)  # fmt: skip
def test_the_table_has_a_counterpart_or_a_reason_for_every_method(kind):
    known = TABLE.read_text(encoding="utf-8")
    missing = [name for name in dir(kind) if not name.startswith("_") and f"`{name}" not in known]

    assert missing == []


@pytest.mark.parametrize(
    "name", ["active_children", "cpu_count", "Queue", "SimpleQueue", "Pipe", "freeze_support"]
)
def test_the_table_names_the_functions_of_multiprocessing(name):
    assert hasattr(multiprocessing, name)
    assert f"`{name}(" in TABLE.read_text(encoding="utf-8")
