"""What this process is to parmap: whether it is a worker, what it runs, what its own calls may use."""

from __future__ import annotations

import os
from _contextvars import ContextVar

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from threading import Lock
    from typing import Protocol

    class Runner(Protocol):
        """Whoever runs items; it is asked only when somebody wants to know."""

        pid: int
        turn: Lock | None

        def tell(self) -> tuple[int, int, str, int | None] | None:
            """Index, attempt, worker's name, and the call's seed, of the item that is being run."""
            ...


# Workers are told, at their start and by each call: how many CPUs the calls within may use.
# None: this process is no worker, nor the child of one.
budget: int | None = None
# ... and how many threads the libraries within may use, as variables that nobody else has set.
thread_variables: dict[str, str] = {}
# The name and the pid of a worker; a process that it forks is none.
worker: tuple[str, int] | None = None
# In a pool's worker, which runs one item at a time, whatever thread asks.
running: Runner | None = None
# Elsewhere, and for a call within an item: of the item that is run in this context.
inner: ContextVar[Runner | None] = ContextVar("parmap.inner", default=None)


class RunningItem:
    """An item that is run in a context of its own."""

    __slots__ = ("_attempt", "_index", "_name", "_seed", "pid", "turn")

    def __init__(
        self, index: int, attempt: int, name: str, seed: int | None, turn: Lock | None = None
    ) -> None:
        """`turn`: what items of seeded calls within this one take, in turns."""
        self._index = index
        self._attempt = attempt
        self._name = name
        self._seed = seed
        self.turn = turn
        self.pid = os.getpid()

    def tell(self) -> tuple[int, int, str, int | None]:
        """As a `Runner` does."""
        return self._index, self._attempt, self._name, self._seed
