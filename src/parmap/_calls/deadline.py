"""The limit of a whole call: when its caller stops waiting."""

from __future__ import annotations

import time

from parmap._core.deadlines import LONGEST_WAIT
from parmap.errors import CallTimeoutError, TaskFailure


class Deadline:
    """Counts from the moment that it is made; without a timeout it never passes."""

    __slots__ = ("_at", "_timeout")

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    @property
    def passed(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at

    def cap(self, wait: float | None) -> float | None:
        """Wait so long (None: for ever), but not beyond the deadline."""
        if self._at is None:
            return wait
        left = max(0.0, min(self._at - time.monotonic(), LONGEST_WAIT))
        return left if wait is None else min(wait, left)

    def error(self, results: list[object] | None = None) -> CallTimeoutError:
        """What the caller gets."""
        message = f"the call took longer than its timeout of {self._timeout} s"
        if results is not None:
            open_ = sum(
                isinstance(each, TaskFailure) and isinstance(each.error, CallTimeoutError)
                for each in results
            )
            message += f": {open_} of {len(results)} items had not finished"
        return CallTimeoutError(message, results=results)
