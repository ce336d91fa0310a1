"""From what was seen to what is wrong, and its cure.  A pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parmap._doctor.machine import SHM, SHM_WRITABLE
from parmap.observe._units import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._doctor.machine import Facts
    from parmap._doctor.selfcheck import Check

# A program's own files, and what a worker needs: its link, its page, its death, its leash, spares.
_OWN_FILES, _FILES_PER_WORKER = 40, 6
_LITTLE_MEMORY = 200 << 20


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that is wrong, or (`harmless`) worth knowing."""

    what: str
    cure: str
    harmless: bool = False


def advise(facts: Facts, checks: Sequence[Check], needed: Sequence[str]) -> list[Advice]:
    """All there is to say, the worst first."""
    found = [*_packages(facts, needed), *_limits(facts), *_memory(facts), *_cpus(facts)]
    if all(advice.harmless for advice in found):  # else that is why
        cure = "please report it, with the output of `python -m parmap doctor --json`"
        found += [
            Advice(f"{check.name} does not work: {check.error}", cure)
            for check in checks
            if check.error is not None
        ]
    return sorted(found, key=lambda advice: advice.harmless)


def _packages(facts: Facts, needed: Sequence[str]) -> list[Advice]:
    missing = [name for name in needed if facts["packages"].get(name) is None]
    return [
        Advice(f"the package {name} is not installed", f"python -m pip install {name}")
        for name in missing
    ]


def _limits(facts: Facts) -> list[Advice]:
    workers = facts["cpus"]["usable"]
    files, wanted = facts["limits"].get("open files"), _OWN_FILES + _FILES_PER_WORKER * workers
    found = []
    if files is not None and files < wanted:
        found.append(
            Advice(
                f"this process may have {files} files open; {workers} workers and the program"
                f" itself need about {wanted}",
                "raise the limit: ulimit -n 4096 (in a service: LimitNOFILE=4096)",
            )
        )
    processes = facts["limits"].get("processes")
    if processes is not None and processes < workers + 20:
        found.append(
            Advice(
                f"this user may have {processes} processes and threads",
                "raise the limit: ulimit -u 4096 (in a container: --pids-limit)",
            )
        )
    return found


def _memory(facts: Facts) -> list[Advice]:
    memory = facts["memory"]
    found = []
    on_linux = memory["total"] is not None
    if on_linux and not memory[SHM_WRITABLE]:
        does_without = memory["anonymous files (memfd)"]
        found.append(
            Advice(
                f"{SHM} is missing or cannot be written: "
                + ("parmap does without it, " if does_without else "")
                + "multiprocessing's own locks, queues and shared memory do not",
                f"mount it: mount -t tmpfs tmpfs {SHM} (docker: --shm-size=1g)",
                harmless=does_without,
            )
        )
    available = memory["available"]
    if available is not None and available < _LITTLE_MEMORY:
        found.append(
            Advice(f"only {size(available)} of memory are available", "end something", True)
        )
    return found


def _cpus(facts: Facts) -> list[Advice]:
    usable, present = facts["cpus"]["usable"], facts["cpus"]["in the machine"] or 1
    if usable > 1:
        return []
    why = "the machine has one" if present == 1 else "affinity or a cgroup quota says so"
    return [
        Advice(
            f"one CPU is usable ({why}): computing in parallel is not faster here",
            "allow more (taskset, docker --cpus), or use the loop",
            harmless=True,
        )
    ]
