"""The bar as a person sees it: on a terminal, with failures and deaths, between lines of text."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import textwrap
from typing import TYPE_CHECKING

import pytest

from parmap import Progress, WorkerLostError, parallel_imap, parallel_map
from support.scripts import environment, program, run_script

if TYPE_CHECKING:
    from pathlib import Path


def seen_on_a_terminal(source: str, folder: Path, **variables: str) -> str:
    """What a script shows on its terminal."""
    (folder / "script.py").write_text(program(source))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, env=environment(TERM="xterm", **variables),
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as script:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the terminal's way to say that nobody is left
                break
            if not data:
                break
            shown += data
    os.close(ours)
    assert script.returncode == 0, shown.decode()
    return shown.decode()


def screen(shown: str) -> list[str]:
    """The lines that are left when all is over: a carriage return goes back to a line's begin."""
    lines = []
    for line in shown.replace("\r\n", "\n").split("\n"):
        text = ""
        for part in line.split("\r"):
            text = part + text[len(part) :]
        lines.append(text.rstrip())
    return [line for line in lines if line]


def test_a_bar_on_a_terminal_ends_with_all_that_was_done_and_failed(tmp_path):
    source = """
        import os
        from parmap import parallel_map
        def f(x):
            if x == 3:
                raise ValueError(x)
            if x == 5:
                os._exit(1)
            return x
        parallel_map(f, range(20), max_workers=2, progress="squares", on_error="return")
    """
    (line,) = screen(seen_on_a_terminal(source, tmp_path))

    assert line.startswith("squares: 100%")
    assert "20/20" in line
    assert "failed=2" in line


def test_an_unknown_length_counts_and_learns_no_total(tmp_path):
    source = """
        from parmap import parallel_map
        parallel_map(abs, (x for x in range(30)), max_workers=2, progress=True)
    """
    (line,) = screen(seen_on_a_terminal(source, tmp_path))

    assert line.startswith("30it [")


def test_what_tasks_print_stands_above_the_bar_in_whole_lines(tmp_path):
    source = """
        from parmap import parallel_map
        def f(x):
            print("task", x)
            return x
        parallel_map(f, range(10), max_workers=2, progress=True, chunksize=1)
    """
    lines = screen(seen_on_a_terminal(source, tmp_path))

    assert sorted(lines[:-1]) == sorted(f"task {x}" for x in range(10))
    assert re.match(r"100%\|.*10/10", lines[-1])


@pytest.mark.parametrize(("forced", "shown"), [("", False), ("0", False), ("1", True)])
def test_where_stderr_is_no_terminal_a_bar_is_shown_only_if_forced(forced, shown, tmp_path):
    source = """
        from parmap import parallel_map
        parallel_map(abs, range(3), max_workers=1, progress="label")
    """
    done = run_script(textwrap.dedent(source), tmp_path, PARMAP_PROGRESS=forced)

    assert done.returncode == 0
    assert ("label: 100%" in done.stderr) is shown
    assert done.stdout == ""


def dies_at_three(x: int) -> int:
    if x == 3:
        os._exit(9)
    return x


def test_a_callback_is_right_when_workers_die():
    told: list[Progress] = []
    with pytest.raises(WorkerLostError):
        parallel_map(dies_at_three, range(8), max_workers=1, progress=told.append, retry=2)
    results = parallel_map(
        dies_at_three, range(8), max_workers=2, progress=told.append, on_error="return", retry=2
    )

    assert (told[-1].done, told[-1].failed, told[-1].total) == (8, 1, 8)
    assert [told[-1].done for _ in results] == [8] * 8
    assert all(each.failed <= each.done <= 8 for each in told)


def test_a_callback_of_a_lazy_map_that_is_closed_early_has_told_what_was_done():
    told: list[Progress] = []
    with parallel_imap(abs, range(1000), max_workers=1, progress=told.append, buffersize=4) as some:
        next(some)

    assert 1 <= told[-1].done <= 1000
    assert told[-1].failed == 0
