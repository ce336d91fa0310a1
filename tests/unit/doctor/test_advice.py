"""From what the doctor has seen to what is wrong: a table, no process."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from parmap._doctor.advice import advise
from parmap._doctor.selfcheck import Check

SOUND: dict[str, dict[str, Any]] = {
    "packages": {"parmap": "1", "cloudpickle": "3", "tqdm": "4"},
    "cpus": {"in the machine": 8, "affinity": 8, "cgroup quota": None, "usable": 8},
    "memory": {
        "total": 1 << 34, "available": 1 << 33, "/dev/shm writable": True,
        "anonymous files (memfd)": True,
    },
    "limits": {"open files": 1024, "processes": 10_000},
}  # fmt: skip
GOOD = [Check("a map", None), Check("a timeout", None)]
NEEDED = ("cloudpickle", "tqdm")


def advice_for(section: str, **changes: Any) -> list[tuple[str, bool]]:
    facts = deepcopy(SOUND)
    facts[section].update(changes)
    found = advise(facts, GOOD, NEEDED)
    return [(f"{each.what} -> {each.cure}", each.harmless) for each in found]


def test_a_sound_machine_needs_no_advice() -> None:
    assert advise(SOUND, GOOD, NEEDED) == []


@pytest.mark.parametrize(
    ("section", "changes", "words", "harmless"),
    [
        ("packages", {"tqdm": None}, ("tqdm is not installed", "pip install tqdm"), False),
        ("limits", {"open files": 64}, ("64 files open", "ulimit -n 4096"), False),
        ("limits", {"processes": 12}, ("12 processes", "ulimit -u 4096"), False),
        ("memory", {"/dev/shm writable": False}, ("does without it", "--shm-size=1g"), True),
        (
            "memory",
            {"/dev/shm writable": False, "anonymous files (memfd)": False},
            ("/dev/shm is missing", "mount -t tmpfs"),
            False,
        ),
        ("memory", {"available": 1 << 20}, ("only 1.05 MB", "end something"), True),
        ("cpus", {"usable": 1}, ("affinity or a cgroup quota", "docker --cpus"), True),
        ("cpus", {"usable": 1, "in the machine": 1}, ("the machine has one", "the loop"), True),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(
    section: str, changes: dict[str, Any], words: tuple[str, str], harmless: bool
) -> None:
    ((told, is_harmless),) = advice_for(section, **changes)

    assert all(word in told for word in words), told
    assert is_harmless == harmless


def test_a_check_that_fails_without_a_known_cause_is_ours_to_know() -> None:
    (advice,) = advise(SOUND, [Check("a map", "OSError: no"), *GOOD], NEEDED)

    assert advice.what == "a map does not work: OSError: no"
    assert "report it" in advice.cure


def test_unlimited_is_enough() -> None:
    assert advice_for("limits", **{"open files": None, "processes": None}) == []
