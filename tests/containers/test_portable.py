"""The portable implementation answers the same tests, in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parmap import SharedDict, SharedList
from parmap._memory import log
from parmap.errors import SerializationError
from parmap.shared import _following, _values
from support.container_tools import second
from support.scripts import environment

HERE = Path(__file__).parent
# Bounded by the minute after which a hung test ends a run.
LIMIT = 55

pytestmark = pytest.mark.skipif("PARMAP_PORTABLE" in os.environ, reason="this run is portable")


def run_portable(folder: Path, *options: str) -> None:
    seed = os.environ.get("PARMAP_TEST_SEED", "1")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
            "-o", f"faulthandler_timeout={LIMIT - 10}", f"--basetemp={folder / 'base'}", *options,
        ],
        env=environment(
            PARMAP_PORTABLE="1", HYPOTHESIS_PROFILE="dev", PARMAP_TEST_SEED=seed,
            PARMAP_TEST_KILLS="20",
        ),
        cwd=HERE.parent.parent, stdin=subprocess.DEVNULL, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.slow
def test_the_portable_implementation_survives_kills_and_keeps_handles(tmp_path):
    names = [str(HERE / f"test_{name}.py") for name in ("kills", "linear", "matrix")]
    chosen = "kill or saw or inside or handles or running_worker"
    run_portable(tmp_path, *names, "-k", chosen)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["containers", "machine", "kills", "linear", "matrix"])
def test_the_portable_implementation_passes_everything(name, tmp_path):
    run_portable(tmp_path, str(HERE / f"test_{name}.py"))


def test_where_descriptors_cannot_travel_handles_are_refused_and_all_else_works(monkeypatch):
    monkeypatch.setenv("PARMAP_PORTABLE", "2")
    d, inner = SharedDict(a=[1]), SharedList()
    with pytest.raises(SerializationError, match="cannot pass file descriptors"):
        d["inner"] = inner
    d["b"] = b"x" * 100_000
    assert d == {"a": [1], "b": b"x" * 100_000}


def test_a_machine_that_does_not_keep_loads_in_order_follows_under_the_mutex(monkeypatch):
    for module in (_following, _values):
        monkeypatch.setattr(module, "KEEPS_ORDER", False)
    monkeypatch.setattr(log, "_LEAST", 512)
    d = SharedDict(big=b"x" * 40_000)
    twin = second(d)
    for turn in range(300):
        d[turn % 3] = [turn]
        assert twin[turn % 3] == [turn]
    assert twin["big"] == d["big"]
    assert dict(twin.items()) == d
    assert d.update_item(0, lambda old: [*old, twin["big"][0]] if twin is None else [d["big"][0]])
