"""What tests use instead of sleeping: conditions with a deadline, and signs between processes.

Everything here is a path, so it travels to any worker as it is.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from parmap import Pool, parallel_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

# Far above what anything here takes, below the minute after which a hung test ends the run.
PATIENCE = 20.0
_PAUSE = 0.002


def wait_until(condition: Callable[[], Any], what: str = "", timeout: float = PATIENCE) -> Any:
    """Wait until `condition()` is true and return what it gave; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what or condition}")
        threading.Event().wait(_PAUSE)
    return value


class Gate:
    """Closed until somebody, in whatever process, opens it."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)

    def open(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY))

    @property
    def is_open(self) -> bool:
        return os.path.exists(self.path)

    def wait(self, timeout: float = PATIENCE) -> None:
        wait_until(lambda: self.is_open, f"gate {self.path}", timeout)


class Diary:
    """Lines that any process appends; nothing is lost when it is killed right afterwards."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)

    def write(self, line: object) -> None:
        fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.write(fd, f"{line}\n".encode())
        os.close(fd)

    def lines(self) -> list[str]:
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def numbers(self) -> list[int]:
        return [int(line) for line in self.lines()]

    def wait_for(self, count: int, timeout: float = PATIENCE) -> list[str]:
        wait_until(lambda: len(self.lines()) >= count, f"{count} lines in {self.path}", timeout)
        return self.lines()

    def meet(self, others: int, timeout: float = PATIENCE) -> int:
        """Return once so many have come; proof that they run at the same time.  Gives the pid."""
        self.write(os.getpid())
        self.wait_for(others, timeout)
        return os.getpid()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_dead(pids: list[int], timeout: float = PATIENCE) -> None:
    wait_until(lambda: not any(map(alive, pids)), f"the end of {pids}", timeout)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def all_workers(pool: Pool, workers: int, folder: Path) -> list[int]:
    """Make a pool start this many workers; their pids.  Nothing starts later, inside a test."""
    meeting = Diary(folder / f"meeting-{time.monotonic_ns()}")
    return parallel_map(meeting.meet, [workers] * workers, pool=pool, chunksize=1)


@contextmanager
def warm_pool(folder: Path, workers: int = 2, **options: Any) -> Iterator[Pool]:
    """Give a pool whose workers all run already."""
    with Pool(workers, **options) as pool:
        all_workers(pool, workers, folder)
        yield pool


class Keeper:
    """One warm pool for the tests of a module, which would else wait for new workers each.

    A test may have cost it a worker (a call that ends early ends what runs).  The pool is given up
    then, so that no test finds workers that started meanwhile and takes them for its own.
    """

    def __init__(self, folder: Path, workers: int, options: dict[str, Any]) -> None:
        self._folder = folder
        self._workers = workers
        self._options = options
        self._stack = ExitStack()
        self._pool: Pool | None = self._stack.enter_context(Pool(workers, **options))
        self._pids = all_workers(self._pool, workers, folder)

    @contextmanager
    def lend(self) -> Iterator[Pool]:
        if self._pool is None:
            with warm_pool(self._folder, self._workers, **self._options) as pool:
                yield pool
            return
        yield self._pool
        if not all(map(alive, self._pids)):
            self.close()

    def close(self) -> None:
        self._pool = None
        self._stack.close()


@contextmanager
def kept_pool(
    tmp_path_factory: pytest.TempPathFactory, workers: int = 2, **options: Any
) -> Iterator[Keeper]:
    """For a fixture of module scope."""
    keeper = Keeper(tmp_path_factory.mktemp("pool"), workers, options)
    yield keeper
    keeper.close()
