"""What a process gets from the one that starts it, and keeps: the same for all workers of a zygote.

A zygote whose heritage differs from what its parent would pass on now is of no more use: its workers
would run under the limits, the privileges or the settings of Python that there were before.  (The
current folder, `sys.path`, the environment as a whole and log levels are told to each worker.)
"""

from __future__ import annotations

import os
import sys

from parmap._launch.popen import interpreter_flags

# Variables that are looked at when an interpreter, the C library or its allocator starts.
_READ_ONCE = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_", "GLIBC_")
# Lines of /proc/thread-self/status.
_PASSED_ON = (
    b"Umask:", b"Uid:", b"Gid:", b"Groups:", b"NSpgid:", b"NSsid:", b"SigIgn:", b"Cap",
    b"NoNewPrivs:", b"Seccomp", b"Cpus_allowed:", b"Mems_allowed:",
)  # fmt: skip


def heritage() -> tuple[object, ...]:
    """What this thread passes on to a process that it starts, to compare.  Linux only.

    Raises OSError where there is no /proc.
    """
    variables = sorted(item for item in os.environ.items() if item[0].startswith(_READ_ONCE))
    with open("/proc/thread-self/status", "rb") as status:
        lines = [line for line in status if line.startswith(_PASSED_ON)]
    with open("/proc/thread-self/limits", "rb") as limits:
        bounds = limits.read()
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    return sys.executable, interpreter_flags(), variables, lines, bounds, niceness
