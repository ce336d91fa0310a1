"""How many CPUs there are for this process, and for the calls within a worker."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from parmap import _nesting

# What takes as long to find out as a short map is found out anew after so many seconds.
_HOLDS = 1.0

# When it was found out, and what it was.
_quota: tuple[float, float | None] = (-math.inf, None)
_recent: tuple[float, int] = (-math.inf, 1)


def usable_cpus() -> int:
    """The CPUs that this process may use: its affinity, and its cgroup's quota rounded up.

    >>> usable_cpus() >= 1
    True
    """
    count = getattr(os, "process_cpu_count", None)  # from 3.13 on; heeds PYTHON_CPU_COUNT, too
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    if count is not None:
        cpus = count() or 1
    else:
        cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _current_quota()
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


def share(workers: int) -> int:
    """The CPUs for the calls within each of so many workers: its own, and its part of the idle ones."""
    available = _recently_usable() if _nesting.budget is None else _nesting.budget
    return max(1, available // max(1, workers))


def _recently_usable() -> int:
    global _recent
    now = time.monotonic()
    if now - _recent[0] > _HOLDS:
        _recent = now, usable_cpus()
    return _recent[1]


def _current_quota() -> float | None:
    global _quota
    now = time.monotonic()
    if now - _quota[0] > _HOLDS:
        _quota = now, cgroup_quota()
    return _quota[1]


def cgroup_quota(
    proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float | None:
    """CPUs granted by this process's cgroup and those above it; None: no limit, or not Linux."""
    try:
        groups = [line.split(":", 2) for line in proc.read_text().splitlines()]
    except OSError:
        groups = []
    # A container may see its own group as the root, whatever path the kernel tells.
    places = {(root, "/"), (root / "cpu", "/")}
    for group in groups:
        if len(group) == 3:
            _, names, path = group
            if not names:
                places.add((root, path))
                places.add((root / "unified", path))
            elif "cpu" in names.split(","):
                places |= {(root / "cpu", path), (root / names, path)}
    quotas = [
        quota
        for home, path in places
        for folder in _upwards(home, path)
        if (quota := _quota_of(folder)) is not None
    ]
    return min(quotas, default=None)


def _upwards(home: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [home.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_of(folder: Path) -> float | None:
    """The quota of one group, of version 2 or 1."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        except (OSError, ValueError):
            return None
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return granted if granted > 0 else None  # -1 is no limit
