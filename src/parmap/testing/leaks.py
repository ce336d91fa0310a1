"""Did that block of code leave anything behind: a process, a descriptor, a thread, shared memory?

Everything is compared with what was there when the block began, so a test may run inside a program
that already has threads and children. Linux tells all of it through /proc; other systems tell less
(macOS: descriptors and threads; Windows: threads), and what cannot be seen is not checked.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from parmap._launch import lifeline
from parmap._launch.zygote import nursery
from parmap._memory.arena import default_arena
from parmap.pool import shutdown as end_shared_pool

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

__all__ = ["nothing_left_behind"]

# Long enough for a worker to be told to stop, ignore it, and be killed a second later.
DEFAULT_TIMEOUT = 5.0
ON_LINUX = sys.platform == "linux"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only listed, nothing is created there


@contextmanager
def nothing_left_behind(
    *, timeout: float = DEFAULT_TIMEOUT, shutdown: bool = True
) -> Iterator[None]:
    """Raise `AssertionError` when the block leaves a process, descriptor, thread or shared memory.

    What is still there when the block ends gets *timeout* seconds to go; the wait ends as soon as
    nothing is left. With *shutdown* (the default) the shared pool is ended first, since its idle
    workers are kept on purpose. When the block raises, its own error is what you see: nothing is
    checked then. The helpers of `multiprocessing` itself (fork server, resource tracker) live until
    the program ends and are not counted. Also usable as a decorator.

    Args:
        timeout: Seconds that leftovers may take to disappear.
        shutdown: Call `parmap.shutdown()` before looking.

    Raises:
        AssertionError: Something is left; the message has one line for each thing.
    """
    _open_what_stays_open()
    before = _Snapshot.take()
    yield
    if shutdown:
        end_shared_pool()
    left = _wait_until_clean(before, time.monotonic() + timeout)
    if left:
        raise AssertionError("\n".join(["left behind:", *(f"  {line}" for line in left)]))


def _open_what_stays_open() -> None:
    """Have what a first use makes for the life of the process: a pipe, a file for small blocks."""
    if os.name == "posix":
        os.close(lifeline.for_worker())
        default_arena()


def _wait_until_clean(before: _Snapshot, deadline: float) -> list[str]:
    """Return what is new since *before*, once nothing is or the deadline has passed."""
    gc.collect()  # what only waits for the collector has not leaked
    while left := _Snapshot.take().new_since(before):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        _wait_for_a_change(before, min(remaining, 0.05))
    return left


def _wait_for_a_change(before: _Snapshot, timeout: float) -> None:
    """Wait for a new thread to end; else a moment, since no event tells of processes and files."""
    for thread in threading.enumerate():
        if thread not in before.threads and thread is not threading.current_thread():
            thread.join(timeout)
            return
    threading.Event().wait(min(timeout, 0.01))


class _Snapshot(NamedTuple):
    """What this process has: each thing by an identity that is not used twice, and in words."""

    processes: Mapping[Hashable, str]
    descriptors: Mapping[Hashable, str]
    threads: Mapping[Hashable, str]
    shared_memory: Mapping[Hashable, str]

    @classmethod
    def take(cls) -> _Snapshot:
        threads: dict[Hashable, str] = {t: f"thread {t!r}" for t in threading.enumerate()}
        return cls(_descendants(), _descriptors(), threads, _shared_memory())

    def new_since(self, before: _Snapshot) -> list[str]:
        names = [str(name) for name in self.shared_memory.keys() - before.shared_memory.keys()]
        memory = [str(self.shared_memory[name]) for name in _not_of_strangers(sorted(names))]
        others = [
            words
            for now, then in (
                (self.processes, before.processes),
                (self.threads, before.threads),
                (self.descriptors, before.descriptors),
            )
            for identity, words in now.items()
            if identity not in then
        ]
        return others + memory


class _Process(NamedTuple):
    pid: int
    parent: int
    started: int  # in clock ticks since boot: with the pid an identity that is not used twice
    state: str
    name: str


def _all_processes() -> dict[int, _Process]:
    processes = {}
    for entry in _list("/proc"):
        if entry.isdigit() and (process := _read_process(int(entry))):
            processes[process.pid] = process
    return processes


def _read_process(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None  # gone meanwhile, or no such system
    # pid (name) state ppid ...: the name may hold spaces and brackets, so split at its last bracket
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return _Process(pid, int(fields[1]), int(fields[19]), fields[0], head.partition("(")[2])


def _descendants() -> dict[Hashable, str]:
    """Living and unreaped descendants of this process, without multiprocessing's own helpers."""
    processes = _all_processes()
    children: dict[int, list[_Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[Hashable, str] = {}
    helpers = _stdlib_helpers("pid") | nursery.belongings()[0]
    pending = [os.getpid()]
    while pending:
        for child in children.get(pending.pop(), ()):
            pending.append(child.pid)
            if child.pid not in helpers:
                found[child.pid, child.started] = _process_in_words(child)
    return found


def _process_in_words(process: _Process) -> str:
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    state = " (ended, but nobody waited for it)" if process.state == "Z" else ""
    return f"process {process.pid}{state}: {command[:200] or process.name}"


def _descriptors() -> dict[Hashable, str]:
    helpers = _stdlib_helpers("fd") | nursery.belongings()[1]
    folder = "/proc/self/fd" if ON_LINUX else "/dev/fd"
    found: dict[Hashable, str] = {}
    for entry in _list(folder):
        fd = int(entry) if entry.isdigit() else -1
        if fd not in helpers and (target := _target(fd)):
            found[fd, target] = f"descriptor {fd}: {target}"
    return found


def _target(fd: int) -> str | None:
    """What the descriptor leads to, as far as the system tells, or None if it is closed."""
    try:
        if ON_LINUX:
            return os.readlink(f"/proc/self/fd/{fd}")
        status = os.fstat(fd)
    except OSError:
        return None  # the descriptor through which the folder was listed, closed by now
    return f"device {status.st_dev}, inode {status.st_ino}"


def _shared_memory() -> dict[Hashable, str]:
    return {name: f"shared memory {SHARED_MEMORY}/{name}" for name in _list(SHARED_MEMORY)}


# What multiprocessing calls the shared memory that its resource tracker looks after.
_TRACKED = ("sem.mp-", "psm_")


def _not_of_strangers(names: list[str]) -> list[str]:
    """Without what a process that is not ours has made: the folder belongs to the whole machine.

    A stranger maps it; or its pid is in the name (loky's semaphores); or multiprocessing has made
    it, and none of ours can have, for then a tracker would run here.
    """
    if not _stdlib_helpers("pid"):
        names = [name for name in names if not name.startswith(_TRACKED)]
    if not names:
        return names
    ours = {os.getpid()} | {
        identity[0] for identity in _descendants() if isinstance(identity, tuple)
    }
    strangers = [pid for pid in _all_processes() if pid not in ours]
    mapped = "".join(map(_maps, strangers))
    pids = set(map(str, strangers))
    return [
        name
        for name in names
        if not _is_mapped(name, mapped) and pids.isdisjoint(re.split(r"[-._]", name))
    ]


def _maps(pid: int) -> str:
    """The lines about shared memory, of what a process has mapped."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            return "".join(line for line in file if SHARED_MEMORY in line)
    except OSError:
        return ""


def _is_mapped(name: str, mapped: str) -> bool:
    path = f"{SHARED_MEMORY}/{name}"
    try:
        # A semaphore is mapped before it has its name: that is found by the number of its file.
        return path in mapped or f" {os.stat(path).st_ino} " in mapped
    except OSError:
        return True  # it is gone


def _stdlib_helpers(kind: str) -> set[int]:
    """Pids or descriptors of multiprocessing's fork server and resource tracker, if they run."""
    names = {
        "multiprocessing.forkserver": (
            "_forkserver",
            {"pid": "_forkserver_pid", "fd": "_forkserver_alive_fd"},
        ),
        "multiprocessing.resource_tracker": ("_resource_tracker", {"pid": "_pid", "fd": "_fd"}),
    }
    found = set()
    for module, (holder, attributes) in names.items():
        owner = getattr(sys.modules.get(module), holder, None)
        number = getattr(owner, attributes[kind], None)
        if isinstance(number, int):
            found.add(number)
    return found


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # not on this system
