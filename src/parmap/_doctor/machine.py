"""What there is to see of this machine and this Python.  Nothing is started, nothing is changed."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from parmap import options
from parmap._cpus import cgroup_quota
from parmap._launch import launcher_for
from parmap._version import __version__

Facts = dict[str, dict[str, Any]]

SHM = "/dev/shm"  # noqa: S108 - it is looked at, not written to
SHM_WRITABLE = f"{SHM} writable"
# What parmap needs, and what it works with.
NEEDED = ("cloudpickle", "tqdm")
_OTHERS = ("tblib", "numpy", "joblib", "distributed", "threadpoolctl")
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def facts() -> Facts:
    """All of it, by section; numbers of bytes and the like are plain ints, None is unknown."""
    return {
        "python": _python(),
        "packages": {name: _version(name) for name in ("parmap", *NEEDED, *_OTHERS)},
        "cpus": _cpus(),
        "memory": _memory(),
        "limits": _limits(),
        "processes": _processes(),
        "environment": {
            name: os.environ[name]
            for name in sorted(os.environ)
            if name.startswith("PARMAP_") or name in _VARIABLES
        },
    }


def _python() -> dict[str, Any]:
    gil = getattr(sys, "_is_gil_enabled", None)
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "free-threaded": gil is not None and not gil(),
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    if package == "parmap":
        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpus() -> dict[str, Any]:
    affinity = getattr(os, "sched_getaffinity", None)
    load = getattr(os, "getloadavg", None)
    return {
        "in the machine": os.cpu_count(),
        "affinity": len(affinity(0)) if affinity is not None else None,
        "cgroup quota": cgroup_quota(),
        "usable": options.usable_cpus(),
        "load": round(load()[0], 2) if load is not None else None,
    }


def _memory() -> dict[str, Any]:
    known = _meminfo()
    limit = _read("/sys/fs/cgroup/memory.max") or _read(
        "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    )
    shm = shutil.disk_usage(SHM) if os.path.isdir(SHM) else None
    return {
        "total": known.get("MemTotal"),
        "available": known.get("MemAvailable"),
        "cgroup limit": _limit(limit),
        f"{SHM} size": None if shm is None else shm.total,
        f"{SHM} free": None if shm is None else shm.free,
        SHM_WRITABLE: os.access(SHM, os.W_OK),
        "anonymous files (memfd)": hasattr(os, "memfd_create"),
    }


def _limit(text: str | None) -> int | None:
    """Of a cgroup, where no limit is "max", or (v1) larger than any machine."""
    number = int(text) if text is not None and text.isdigit() else None
    return None if number is None or number > 1 << 60 else number


def _meminfo() -> dict[str, int]:
    text = _read("/proc/meminfo") or ""
    parts = [line.split() for line in text.splitlines() if line.endswith(" kB")]
    return {name.rstrip(":"): int(number) * 1024 for name, number, _ in parts}


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _limits() -> dict[str, Any]:
    try:
        import resource
    except ImportError:  # Windows
        return {}
    found: dict[str, Any] = {}
    for shown, name in (
        ("open files", "RLIMIT_NOFILE"), ("processes", "RLIMIT_NPROC"), ("memory", "RLIMIT_AS"),
    ):  # fmt: skip
        if hasattr(resource, name):
            soft, _ = resource.getrlimit(getattr(resource, name))
            found[shown] = None if soft == resource.RLIM_INFINITY else soft
    return found


def _processes() -> dict[str, Any]:
    return {
        "workers start by": launcher_for(None).start_method,
        "start methods": multiprocessing.get_all_start_methods(),
        "multiprocessing's default": multiprocessing.get_start_method(allow_none=True)
        or multiprocessing.get_all_start_methods()[0],
    }
