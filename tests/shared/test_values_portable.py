"""The portable implementation answers the same tests, in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.scripts import environment

HERE = Path(__file__).parent
LIMIT = 55  # bounded by the minute after which a hung test ends a run

pytestmark = pytest.mark.skipif("PARMAP_PORTABLE" in os.environ, reason="this run is portable")


def run_portable(names: list[str], folder: Path, *options: str) -> None:
    seed = os.environ.get("PARMAP_TEST_SEED", "1")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
            "-o", f"faulthandler_timeout={LIMIT - 10}", f"--basetemp={folder / 'base'}",
            *options, *(str(HERE / f"test_{name}.py") for name in names),
        ],
        env=environment(PARMAP_PORTABLE="1", HYPOTHESIS_PROFILE="dev", PARMAP_TEST_SEED=seed),
        cwd=HERE.parent.parent, stdin=subprocess.DEVNULL, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.slow
def test_the_portable_implementation_keeps_the_promises(tmp_path):
    chosen = "counts or forked or killed or many_updates or linearizable or view or running_worker"
    run_portable(["counter", "value", "array", "values_matrix"], tmp_path, "-k", chosen)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["counter", "value", "array", "values_matrix"])
def test_the_portable_implementation_passes_everything(name, tmp_path):
    run_portable([name], tmp_path)
