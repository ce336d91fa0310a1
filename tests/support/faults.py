"""Blows, and workers that wait for one at a step of the protocol that the test has chosen."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.gates import Diary, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Of the system calls, the ones in which a worker waits for its link (x86-64, arm64).
_SENDING = {"46", "44", "211", "206"}
_RECEIVING = {"47", "45", "212", "207"}
LARGE = 4 * 1024 * 1024  # far more than a socket takes


def exit_on_request(*_: object) -> None:
    """An initializer: SIGUSR1 ends this process with status 0, whatever it is doing."""
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _wait_for_death(pid)


def exit_with_0(pid: int) -> None:
    os.kill(pid, signal.SIGUSR1)
    os.kill(pid, signal.SIGCONT)
    _wait_for_death(pid)


def stop_then_kill(pid: int) -> None:
    stop(pid)
    kill(pid)


def _wait_for_death(pid: int) -> None:
    """A process that was killed may still finish the write it is in, if somebody reads before it gets
    a CPU to die on."""
    wait_until(lambda: _state(pid) in "ZX", f"the death of {pid}")


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _state(pid) == "T", f"the stop of {pid}")


def resume(pid: int) -> None:
    """Let it go on, if it lives."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


BLOWS: dict[str, tuple[Callable[[int], None], int]] = {
    "SIGKILL": (kill, -9),
    "exit 0": (exit_with_0, 0),
    "SIGSTOP, SIGKILL": (stop_then_kill, -9),
}


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _waits_in(pid: int, calls: set[str]) -> bool:
    with open(f"/proc/{pid}/syscall", encoding="utf-8") as file:
        return file.read().split()[0] in calls


def wait_until_it_sends(pid: int) -> None:
    """Until the worker is inside the write of a result that nobody reads."""
    wait_until(lambda: _waits_in(pid, _SENDING), f"a write of {pid}")


def wait_until_it_receives(pid: int) -> None:
    """Until the worker has written all, and waits for its parent."""
    wait_until(lambda: _waits_in(pid, _RECEIVING), f"{pid} to wait for work")


class Stage:
    """Where a worker waits for its blow: the first that comes there does, the next ones pass."""

    def __init__(self, folder: Path) -> None:
        self.victim = Diary(folder / "victim")
        self._taken = str(folder / "taken")

    def halt(self) -> None:
        try:
            os.close(os.open(self._taken, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        self.victim.write(os.getpid())
        while True:
            signal.pause()

    @contextmanager
    def strikes(self, blow: Callable[[int], None]) -> Iterator[None]:
        """Whoever halts in this block is dealt the blow."""
        striker = threading.Thread(target=lambda: blow(int(self.victim.wait_for(1)[0])))
        striker.start()
        try:
            yield
        finally:
            striker.join()


class HaltsWhenUnpickled:
    """An argument."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.stage,)


def _unpickle(stage: Stage) -> int:
    stage.halt()
    return 0


class HaltsWhenPickled:
    """A result."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __reduce__(self) -> tuple[Any, ...]:
        self.stage.halt()
        return int, (0,)


class Meanwhile:
    """An argument whose first pickling, in the parent's loop, keeps the loop from anything else."""

    def __init__(self, act: Callable[[], object], value: int) -> None:
        self._acts = [act]
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        if self._acts:
            self._acts.pop()()
        return int, (self._value,)
