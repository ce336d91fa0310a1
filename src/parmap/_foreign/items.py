"""The items of a chunk on a foreign engine, one by one: each in its context, told of, and seeded."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from parmap import _nesting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from parmap._worker.seeding import Seeding

# Held while the items of a seeded call run in this process; a call within one has another.
TURN = threading.Lock()


class ItemRunner:
    """Runs the items of one chunk, each in a context of its own.

    Those of a seeded call take turns in their process: the generators are the whole process's.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        context: Context,
        *,
        star: bool,
        attempt: int,
        worker: str,
        seed: int | None,
        turn: threading.Lock,
    ) -> None:
        self._fn = fn
        self._context = context
        self._star = star
        self._attempt = attempt
        self._worker = worker
        self._seed = seed
        self._seeding: Seeding | None = None
        self._turn = turn

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The time in which the chunk may run."""
        if self._seed is None:
            yield
            return
        from parmap._worker.seeding import Seeding

        with self._turn, Seeding(self._seed) as self._seeding:
            yield

    def __call__(self, index: int, argument: Any) -> Any:
        """The result of one item.  One frame around the user's."""
        turn = None if self._seed is None else threading.Lock()
        item = _nesting.RunningItem(index, self._attempt, self._worker, self._seed, turn)
        context = self._context.copy()
        context.run(_nesting.inner.set, item)
        if self._seeding is not None:
            self._seeding.plant(index)
        return context.run(self._fn, *argument) if self._star else context.run(self._fn, argument)
