"""The journey of one item: the recorded events lead to the commands that the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import parmap
from support.scripts import environment

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "journey-of-a-task.md"
RECORDED = PAGE.parent / "journey"


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=50, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_scheduler_decides_today_as_it_did_when_this_was_recorded():
    """Where it no longer does, for a good reason, the trace is to be recorded anew."""
    replayed = run("-m", "parmap.testing", "replay", RECORDED / "trace.jsonl")

    assert replayed == (RECORDED / "replay.txt").read_text(encoding="utf-8")


def test_the_program_prints_what_stands_beside_it():
    printed = run(RECORDED / "program.py")

    assert printed == (RECORDED / "program.out").read_text(encoding="utf-8")


def test_the_files_that_the_page_names_are_there():
    source = Path(parmap.__file__).parent
    named = set(re.findall(r"`([\w/]+\.py)`", PAGE.read_text(encoding="utf-8")))

    assert len(named) > 20
    assert [name for name in sorted(named) if not (source / name).is_file()] == []
