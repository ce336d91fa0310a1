"""The descendants of a worker: found, held still, and ended.

A worker that a deadline has passed for is ended together with what it has started: the program that
it waits for is as late as itself.  Linux tells who descends from whom in `/proc`.  Every process is
stopped before its children are looked up, so that none can be born behind our back; a worker of a
call with a limit is a "subreaper" (`parmap._worker.hygiene`), so that grandchildren whose parent is
gone are still its own.  Elsewhere `ps` is asked.  (No process group: the terminal's Ctrl-C goes by it.)
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from parmap._memory.host import BARE, LINUX, portable_level

if TYPE_CHECKING:
    from collections.abc import Callable

# A stop is not instant on another CPU: who was missed is found the next time.
_ROUNDS = 10


def end_descendants(pid: int) -> None:
    """Kill all that descend from this process, which the caller has stopped."""
    if portable_level() == BARE:
        return  # Windows: a process knows nothing of its descendants
    found: dict[int, None] = {}
    for _ in range(_ROUNDS):
        new = [each for each in _stopped(pid) if each not in found]
        if not new:
            break
        found |= dict.fromkeys(new)
    for descendant in found:
        _send(descendant, signal.SIGKILL)


def _stopped(pid: int) -> list[int]:
    """The descendants, each of them told to stop before its own are looked up."""
    children = _children_by_proc if portable_level() == LINUX else _children_by_ps()
    found: list[int] = []
    pending = [pid]
    while pending:
        for child in children(pending.pop()):
            _send(child, signal.SIGSTOP)
            found.append(child)
            pending.append(child)
    return found


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone by itself, or it has become another user's (setuid)


def _children_by_proc(pid: int) -> list[int]:
    """By thread, for a child belongs to the thread that has forked it."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        # It has ended meanwhile, or this kernel was built without that list.
        return found or _children_by_stat().get(pid, [])
    except ProcessLookupError:
        return found
    return found


def _children_by_stat() -> dict[int, list[int]]:
    family: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                # pid (name) state parent ...: the name may hold anything, brackets included
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        family.setdefault(parent, []).append(int(entry))
    return family


def _children_by_ps() -> Callable[[int], list[int]]:
    family: dict[int, list[int]] = {}
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=5, check=False,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        listed = ""  # no ps here: the worker itself is ended all the same
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        family.setdefault(parent, []).append(child)
    return lambda pid: family.get(pid, [])
