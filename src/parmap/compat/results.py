"""What the calls of `parmap.compat.Pool` give back, as multiprocessing's do."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, Self, TypeVar

from parmap.errors import TaskFailure, failure_of

R = TypeVar("R")


class ResultTimeoutError(multiprocessing.TimeoutError, TimeoutError):
    """No result within the time given to `AsyncResult.get` or `IMapIterator.next`."""


class AsyncResult(Generic[R]):
    """What `Pool.apply_async`, `Pool.map_async` and `Pool.starmap_async` return.  Thread-safe."""

    def __init__(self, future: Future[R]) -> None:
        self._future = future

    def get(self, timeout: float | None = None) -> R:
        """Wait for the result and return it, or raise what the call raised.

        Raises:
            TimeoutError: nothing came within `timeout` seconds; it is a
                `multiprocessing.TimeoutError`, too.
        """
        self.wait(timeout)
        if not self._future.done():
            raise ResultTimeoutError
        return self._future.result()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, or `timeout` seconds have passed."""
        try:
            self._future.exception(timeout)
        except FutureTimeoutError:
            return

    def ready(self) -> bool:
        """Whether the call has ended."""
        return self._future.done()

    def successful(self) -> bool:
        """Whether it ended without an exception.

        Raises:
            ValueError: it has not ended.
        """
        if not self._future.done():
            raise ValueError(f"{self!r} is not ready")
        return self._future.exception() is None

    def __repr__(self) -> str:
        return f"<AsyncResult {'ready' if self.ready() else 'pending'}>"


class IMapIterator(Iterator[R]):
    """What `Pool.imap` and `Pool.imap_unordered` return.

    As multiprocessing's it goes on after an item that failed: the error is raised in its place.
    Several threads may take from it.
    """

    def __init__(self) -> None:
        self._outcomes: SimpleQueue[tuple[Literal["value", "error", "end"], Any]] = SimpleQueue()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result; `multiprocessing.TimeoutError` if none comes within `timeout` seconds."""
        try:
            kind, outcome = self._outcomes.get(timeout=timeout)
        except Empty:
            raise ResultTimeoutError from None
        if kind == "value":
            result: R = outcome
            return result
        if kind == "error":
            raise outcome
        self._outcomes.put((kind, None))  # for whoever asks next
        raise StopIteration

    def _pump(self, results: Iterable[Any]) -> None:
        """Move results here as they come, however slowly they are taken: multiprocessing does."""
        try:
            for outcome in results:
                failed = is_failure(outcome)
                self._outcomes.put(("error", outcome.error) if failed else ("value", outcome))
        except BaseException as error:  # of the input, or of a pool that was terminated
            self._outcomes.put(("error", error))
        self._outcomes.put(("end", None))


def is_failure(outcome: object) -> bool:
    """Whether it stands for a failed item; a task may itself return a `TaskFailure` of its own."""
    return isinstance(outcome, TaskFailure) and failure_of(outcome.error) is outcome
