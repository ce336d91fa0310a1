"""A `Future` that raises whatever error it was given."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TypeVar

R = TypeVar("R")


class CallFuture(Future[R]):
    """For the base class a falsy error (with a `__len__` of 0, say) is none: it returns None."""

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result and return it, or raise the error of the call."""
        error = self.exception(timeout)
        if error is None:
            return super().result()
        try:
            raise error
        finally:
            del error, self  # its traceback holds this frame
