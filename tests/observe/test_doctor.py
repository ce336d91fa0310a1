"""`python -m parmap`: the command line, on this machine and on one with a fault."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import parmap
from support.scripts import environment

if TYPE_CHECKING:
    from pathlib import Path

CHECKS = ["a map", "a group with a channel", "a shared counter", "a killed worker", "a timeout"]


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def doctor(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "parmap", *arguments, folder=folder)


def test_without_arguments_it_shows_help(tmp_path: Path) -> None:
    done = doctor(folder=tmp_path)

    assert done.returncode == 0
    assert "doctor" in done.stdout


def test_it_knows_its_version(tmp_path: Path) -> None:
    assert doctor("--version", folder=tmp_path).stdout == f"parmap {parmap.__version__}\n"


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    done = doctor("surgeon", folder=tmp_path)

    assert done.returncode == 2
    assert "surgeon" in done.stderr


@pytest.mark.slow
def test_a_sound_machine_is_all_good(tmp_path: Path) -> None:
    done = doctor("doctor", folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("\nall good\n")
    assert all(f"  {check:<28}works\n" in done.stdout for check in CHECKS)
    assert "not measured" not in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_too_few_open_files_are_found_and_told(tmp_path: Path) -> None:
    """As JSON: every check says why it failed, nothing hangs, and there is one cause."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12));"
        "from parmap.__main__ import main; sys.exit(main(['doctor', '--json']))"
    )

    done = run(sys.executable, "-c", script, folder=tmp_path)

    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (1, False)
    assert report["facts"]["limits"]["open files"] == 12
    assert [check["name"] for check in report["checks"]] == CHECKS
    assert any(check["error"] for check in report["checks"])
    (advice,) = [each for each in report["advice"] if not each["harmless"]]
    assert "12 files open" in advice["what"]
    assert "ulimit -n" in advice["cure"]


def _can_hide_shm() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and not subprocess.run(
        [unshare, "--mount", "mount", "-t", "tmpfs", "-o", "ro", "none", "/dev/shm"],
        capture_output=True, check=False,
    ).returncode  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not _can_hide_shm(), reason="this user may not hide /dev/shm from a process")
def test_without_dev_shm_all_works_and_is_told(tmp_path: Path) -> None:
    hide = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'

    done = run(
        "unshare", "--mount", "/bin/sh", "-c", hide, "sh",
        sys.executable, "-m", "parmap", "doctor", folder=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "note: /dev/shm is missing or cannot be written: parmap does without it" in done.stdout
    assert "cure: mount it" in done.stdout
    assert done.stdout.endswith("\nall good\n")
