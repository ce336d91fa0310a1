"""How long a thread waits for locks inside an operation that has a timeout of its own."""

from __future__ import annotations

import time
from _thread import _local

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    R = TypeVar("R")


class _Until(_local):
    time: float | None = None


_until = _Until()


def check_seconds(timeout: object) -> None:
    """Refuse what is no timeout, at the door; a negative one is over at once, as 0 is."""
    if isinstance(timeout, bool) or not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if timeout != timeout:  # noqa: PLR0124 - nan: a wait until nan would never end
        raise ValueError("timeout must be a number of seconds, not nan")


def within(seconds: float, act: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Return ``act(...)``; in it this thread waits for locks for so long only.

    A holder may have been stopped (SIGSTOP, a debugger): it is not dead, and nobody can go on; but
    who has a timeout gets his TimeoutError.
    """
    before = _until.time
    _until.time = time.monotonic() + seconds
    try:
        return act(*arguments, **options)
    finally:
        _until.time = before


def check_time() -> None:
    """Raise TimeoutError when this thread has waited long enough."""
    until = _until.time
    if until is not None and time.monotonic() >= until:
        raise TimeoutError(
            "another process is in the middle of using this object, and is stopped or busy"
        )


def bounded(deadline: float | None) -> float | None:
    """Return `deadline`, or the end of this thread's patience if that comes first."""
    until = _until.time
    if until is None or (deadline is not None and deadline < until):
        return deadline
    return until


def left(deadline: float | None, most: float) -> float:
    """Return the seconds to wait now: `most`, or what is left until the deadline."""
    return most if deadline is None else max(0.0, min(most, deadline - time.monotonic()))
