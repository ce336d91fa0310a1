"""Functions that workers import by name (`from support.tasks import double`)."""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.gates import Diary, Gate

START_METHODS = [None, "spawn", "forkserver", "fork"]

seen: list[object] = []  # what an initializer or an item wrote into this worker's module


def double(x: Any) -> Any:
    return 2 * x


def add(x: Any, y: Any) -> Any:
    return x + y


def identity(x: Any) -> Any:
    return x


def pid_of(_: object) -> int:
    return os.getpid()


def fail(x: object) -> object:
    raise ValueError(f"bad item {x!r}")


def fail_if_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"odd {x}")
    return x


def exit_now(status: int) -> None:
    os._exit(status)


def kill_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)  # the signal comes before


def segfault(_: object = None) -> None:
    import ctypes

    ctypes.string_at(0)


def hang(gate: Gate) -> None:
    """Say that this runs, then run on."""
    gate.open()
    time.sleep(600)


def hang_in_c(gate: Gate) -> None:
    """Say that this runs, from inside of C, and never come back: it hears no signal afterwards."""
    opening = map(os.open, [gate.path], [os.O_CREAT | os.O_WRONLY])
    sum(itertools.chain(opening, range(10**12)))


def write_and_wait(diary: Diary, gate: Gate, x: object) -> object:
    diary.write(x)
    gate.wait()
    return x


def remember(*values: object) -> None:
    """An initializer."""
    seen.extend(values)


def recall(_: object = None) -> list[object]:
    return list(seen)


class Thing:
    """An importable class with a method and a value."""

    def __init__(self, value: int) -> None:
        self.value = value

    def times(self, x: int) -> int:
        return self.value * x

    def __call__(self, x: int) -> int:
        return self.value + x

    def __eq__(self, other: object) -> bool:
        return type(other) is Thing and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class BreaksInPickle:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("I do not travel")


def _explode(error: BaseException) -> None:
    raise error


class BreaksInUnpickle:
    """Can be pickled, but not unpickled."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or RuntimeError("I do not arrive")

    def __reduce__(self) -> Any:
        return _explode, (self.error,)


class EndsInPickle:
    """Its pickling leaves Python."""

    def __init__(self, error: type[BaseException] = SystemExit) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error(7)


class KillsInUnpickle:
    """The process that unpickles it dies."""

    def __reduce__(self) -> Any:
        return os.kill, (_OwnPid(), signal.SIGKILL)


class _OwnPid:
    """Becomes the pid of the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os.getpid, ()


class KillsInPickle:
    """The process that pickles it dies."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


def through_a_gate(item: tuple[str, str, int]) -> int:
    """Pass, open the gate, or wait until somebody has."""
    from support.gates import Gate

    path, what, number = item
    gate = Gate(path)
    if what == "wait":
        gate.wait()
    elif what == "open":
        gate.open()
    return number


def exit_if_told(x: int) -> int:
    """End the process if told so."""
    if x:
        os._exit(3)
    return x
