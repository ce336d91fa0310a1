"""Tests once more, for the portable implementation, in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.scripts import environment

ROOT = Path(__file__).parents[2]
# Bounded by the minute after which a hung test ends a run.
LIMIT = 55


def run_portable(files: list[Path], folder: Path, *options: str) -> None:
    seed = os.environ.get("PARMAP_TEST_SEED", "1")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
            "-o", f"faulthandler_timeout={LIMIT - 10}", f"--basetemp={folder / 'base'}",
            *options, *map(str, files),
        ],
        env=environment(PARMAP_PORTABLE="1", HYPOTHESIS_PROFILE="dev", PARMAP_TEST_SEED=seed),
        cwd=ROOT, stdin=subprocess.DEVNULL, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-20_000:]
