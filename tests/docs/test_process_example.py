"""The example of this chapter prints what stands beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.scripts import environment

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "work-with-processes.md"


@pytest.mark.parametrize("name", ["01_process_basics"])
def test_an_example_prints_what_stands_beside_it(tmp_path, name):
    """From any folder, warnings being errors, and with nothing on stderr."""
    source = EXAMPLES / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(source)],
        capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path, env=environment(),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == source.with_suffix(".out").read_text(encoding="utf-8")
    lines = source.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert not any(line.startswith("if __name__") for line in lines)


def test_the_page_shows_the_example_and_names_every_method_of_process():
    """The table has a row for each public name of a Process, or the page says why not."""
    from multiprocessing.process import BaseProcess

    page = PAGE.read_text(encoding="utf-8")

    assert "literalinclude} ../../examples/01_process_basics.py" in page
    assert "literalinclude} ../../examples/01_process_basics.out" in page
    missing = [
        name for name in dir(BaseProcess) if not name.startswith("_") and f"`{name}" not in page
    ]
    assert missing == []
