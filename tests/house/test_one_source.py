"""A fact that stands in two places says the same in both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MINOR = re.compile(r"3\.\d\d")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pythons(project: dict[str, Any]) -> list[str]:
    return [c.rpartition(" ")[2] for c in project["classifiers"] if MINOR.fullmatch(c[-4:])]


def test_the_oldest_python_is_the_required_one(project: dict[str, Any]) -> None:
    assert project["requires-python"] == f">={pythons(project)[0]}"


def test_the_ci_matrix_has_every_supported_python(project: dict[str, Any]) -> None:
    workflow = ROOT / ".github" / "workflows" / "tests.yml"
    if not workflow.exists():
        pytest.skip("not a checkout: a wheel is being tested")
    matrix = re.search(r"python: \[(.*)\]", workflow.read_text(encoding="utf-8"))

    assert matrix is not None
    assert MINOR.findall(matrix[1]) == pythons(project)
