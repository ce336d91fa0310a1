"""The same call in this very process: `max_workers=0`, for debugging, and for calls within workers
that have no CPU to spare.  Nothing is pickled; breakpoints and coverage just work."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from parmap._calls.outcomes import Batch, Reader
from parmap._core.events import OnFailure
from parmap._wire.pickling import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class InlineSource:
    """Runs each item when its outcome is asked for."""

    def __init__(self, fn: Callable[..., Any], *, star: bool, on_failure: OnFailure) -> None:
        self._fn = fn
        self._star = star
        self.stops = on_failure is not OnFailure.CONTINUE
        self._items: deque[object] = deque()
        self._next = 0
        self._ended = False
        self._current: object = None
        self._reader = Reader(Codec("to worker"), lambda index: self._current)
        self.appetite = 1
        self.error: BaseException | None = None

    def feed_all(self, items: Sequence[object]) -> None:
        """Give all items at once."""
        self._items.extend(items)
        self._ended = True

    def feed(self, items: Sequence[object]) -> None:
        """Give some more items."""
        self._items.extend(items)

    def end_input(self) -> None:
        """No more items will come."""
        self._ended = True

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        """Run one item; None when none is there, or nobody wants to wait for one."""
        if not self._items or timeout == 0:
            return None
        item = self._current = self._items.popleft()
        index, self._next = self._next, self._next + 1
        try:
            value = self._fn(*item) if self._star else self._fn(item)  # type: ignore[misc]
        except KeyboardInterrupt:
            raise  # in this process it is the user's
        except BaseException as error:  # whatever it is, it is that item's
            if self.stops:
                self.cancel()
            if error.__traceback__ is not None:  # without our own frame
                error.__traceback__ = error.__traceback__.tb_next
            worker = threading.current_thread().name
            return Batch(index, [self._reader.failed(error, index, worker, os.getpid())], 1)
        return Batch(index, [value])

    @property
    def over(self) -> bool:
        """Nothing will come any more."""
        return self._ended and not self._items

    def cancel(self, *, hurry: bool = False) -> None:
        """Drop what has not run."""
        self._items.clear()
        self._ended = True
