"""What the workers run. A module of its own: every start method of every peer can import it."""

from __future__ import annotations

import time
from typing import Any


def square(x: int) -> int:
    return x * x


def spin(seconds: float) -> float:
    """Be busy for so long by the clock on the wall: a stolen moment of the machine does not
    lengthen it."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def fail(x: int) -> int:
    raise ValueError(f"item {x}")


def ends(data: Any) -> tuple[int, int, int]:
    """Proof that all of it has arrived, at the cost of two bytes read."""
    view = memoryview(data).cast("B")
    return len(view), view[0], view[-1]


def made(kind: str, size: int) -> Any:
    """An array, or bytes, of that many bytes, all 7."""
    if kind == "array":
        import numpy as np

        return np.full(size, 7, dtype=np.uint8)
    return b"\7" * size


_made: dict[tuple[str, int], Any] = {}


def filled(kind: str, size: int) -> Any:
    """As `made`, once in each process."""
    if (kind, size) not in _made:
        _made[kind, size] = made(kind, size)
    return _made[kind, size]


def give_array(size: int) -> Any:
    return filled("array", size)


def give_bytes(size: int) -> Any:
    return filled("bytes", size)
