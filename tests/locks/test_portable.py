"""The portable implementation answers the same tests, in an interpreter of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.portable import run_portable

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif("PARMAP_PORTABLE" in os.environ, reason="this run is portable")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "locks",
        "kills",
        pytest.param("waiting", marks=pytest.mark.stress),
        pytest.param("machine", marks=pytest.mark.stress),
    ],
)
def test_the_portable_implementation_passes(name, tmp_path):
    run_portable([HERE / f"test_{name}.py"], tmp_path)


@pytest.mark.stress
def test_the_portable_implementation_goes_every_road(tmp_path):
    run_portable([HERE / "test_matrix.py"], tmp_path)
