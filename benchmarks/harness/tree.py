"""CPU time and memory of a process and of all that descend from it, and their end."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import psutil

ON_LINUX = sys.platform == "linux"


def family(pid: int | None = None) -> list[Any]:
    """The process (default: this one) and its descendants, the process first."""
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds() -> float:
    """CPU time of this process, its living descendants, and those that any of them has waited for.

    What looking costs falls before the first clock is read or after the last: callers read the
    clocks at the end of one call and at the beginning of the next.
    """
    descendants = family()[1:]
    return sum(_spent(process) for process in descendants) + own_cpu_seconds()


def cpu_seconds_after() -> float:
    """The same, own clock first: for the end of what is measured."""
    own = own_cpu_seconds()
    return own + sum(_spent(process) for process in family()[1:])


def own_cpu_seconds() -> float:
    """This process and the children that it has waited for."""
    own = time.process_time()
    if sys.platform == "win32":
        return own
    import resource

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own + ended.ru_utime + ended.ru_stime


def _spent(process: Any) -> float:
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    fine = _fine_clock(process.pid)
    return float(ended) + (times.user + times.system if fine is None else fine)


def _fine_clock(pid: int) -> float | None:
    """Linux: the CPU clock of another process in nanoseconds, where /proc counts ticks of 10 ms."""
    if not ON_LINUX:
        return None
    try:
        # clock_getcpuclockid(3), which Python lacks: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def memory_mb(pid: int) -> float:
    """Memory of a process and its descendants in MB: shared pages once (PSS; elsewhere USS, which
    leaves them out)."""
    total = 0
    for process in family(pid):
        try:
            total += _proportional(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # it ended between the list and the look
    return total / 1e6


def _proportional(process: Any) -> int:
    if ON_LINUX:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return int(process.memory_full_info().uss)


def end_child(pid: int) -> None:
    """Kill a forked child, and wait for it."""
    import signal

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def end(pid: int) -> None:
    """Kill a process that we started, and what descends from it; nothing else."""
    condemned = family(pid)
    if hasattr(os, "killpg"):
        import signal

        try:  # a session of its own: those whose parent has died are in it, too
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    for process in condemned:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(condemned[1:], timeout=5)
