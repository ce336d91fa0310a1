"""What can still be learnt about a worker that is dead: its last Python stack, and who killed it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import parmap
from parmap._wire.control import CONTROL_BYTES

# faulthandler writes a stack of at most 100 frames for each of at most 100 threads.
_MOST_BYTES = 256 * 1024
# What faulthandler knows to catch, and the worker lives just long enough to write down.
_FAULTS = {"SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL"}
_OURS = os.path.join(os.path.dirname(parmap.__file__), "_worker", "")


def last_stack(page: int) -> str | None:
    """The stack that the worker wrote behind its control page as it died; None if it wrote none.

    Without the frames of our own loop below the task's.
    """
    try:
        written = os.pread(page, _MOST_BYTES, CONTROL_BYTES)
    except (OSError, AttributeError):  # Windows has no pread
        return None
    lines = written.decode(errors="replace").partition("\nExtension modules:")[0].splitlines()
    shown: list[str] = []
    ours = False
    for line in lines:
        if not line.startswith("  File "):
            ours = False
        elif _OURS in line:
            ours = True  # what follows has called us
        if not ours:
            shown.append(line)
    return "\n".join(shown).strip() or None


def is_fault(exitcode: int | None) -> bool:
    """Whether a worker that ended so has written its stack down."""
    if exitcode is None or exitcode >= 0:
        return False
    return any(-exitcode == getattr(signal, name, None) for name in _FAULTS)


def oom_kills() -> int | None:
    """How often the kernel has killed for want of memory in our cgroup; None where nobody counts."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    except (OSError, ValueError):
        return None
    for names, path in groups.items():
        if names == "":  # version 2
            file_name = f"/sys/fs/cgroup{path}/memory.events"
        elif "memory" in names.split(","):
            file_name = f"/sys/fs/cgroup/memory{path}/memory.oom_control"
        else:
            continue
        if (count := _counted(Path(file_name))) is not None:
            return count
    return None


def _counted(file: Path) -> int | None:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # the root group counts nothing, and a container may not see its own
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
