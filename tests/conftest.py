"""For every test: Hypothesis profiles, one printed seed, a leak check where processes are real."""

from __future__ import annotations

import gc
import os
import platform
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from parmap.testing.leaks import nothing_left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where processes are real.
WATCHED = {Path(__file__).parent / name for name in ("integration", "faults")}

# One number repeats a run: PARMAP_TEST_SEED=<what the header printed>.
SEED = int(os.environ.get("PARMAP_TEST_SEED") or random.SystemRandom().randrange(2**32))
os.environ["PARMAP_TEST_SEED"] = str(SEED)  # the processes of `pytest -n` take it from here

# Deadlines are off: on a loaded machine an example that starts a process has no fair one.
hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile("nightly", max_examples=10_000, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
hypothesis.settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Seed Hypothesis too, before its plug-in reads the option, unless that was given."""
    if getattr(config.option, "hypothesis_seed", None) is None and PROFILE != "ci":
        config.option.hypothesis_seed = str(SEED)


def pytest_collection_finish() -> None:
    """What is there by now stays: the leak checker, which collects after each test, need not look
    through it.  That was half of the time of all tests."""
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> list[str]:
    import parmap

    settings = hypothesis.settings()
    chance = "derandomised" if settings.derandomize else f"seed {config.option.hypothesis_seed}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        f"parmap: {parmap.__version__} on {python}, {sys.platform}, {os.cpu_count()} CPUs",
        f"hypothesis profile: {PROFILE} ({settings.max_examples} examples, {chance})",
        f"PARMAP_TEST_SEED={SEED}",
    ]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance for tests that kill at random moments: from the printed seed and the test's name."""
    return random.Random(f"{SEED}:{request.node.nodeid}")


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test with real processes must end with no process, descriptor or thread of its own."""
    if WATCHED.isdisjoint(request.path.parents):
        yield
        return
    with nothing_left_behind():
        yield
