"""Between a call and its engine: what is stored is not run, and what comes is stored."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any

from parmap._calls.outcomes import Batch, Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parmap._calls.run import Recorder, Source
    from parmap._checkpoint.store import Store


class CheckpointedSource:
    """Outcomes from the file where it has them, and from an engine else.

    The engine is told how many items it is spared, so indexes are those of the input everywhere.
    """

    takes_all = False  # what is known already shall be given while the rest is looked up

    def __init__(self, engine: Source, store: Store, *, star: bool) -> None:
        self.stops = engine.stops
        self.over = False  # nothing will come any more, and the file is closed
        self._engine = engine
        self._store = store
        self._star = star
        self._fed = 0
        self._spared = 0  # items since the last one that the engine was given
        self._keys: dict[int, bytes | None] = {}  # of the items that the engine has
        self._fresh: list[Batch] = []  # from the engine, not stored yet
        self._ready: deque[Batch] = deque()

    @property
    def record(self) -> Recorder | None:
        """What a profile is told of the engine's call."""
        return self._engine.record

    @property
    def error(self) -> BaseException | None:
        """Why the engine could not serve the call to its end."""
        return self._engine.error

    @property
    def appetite(self) -> int:
        """How many unfinished items keep the engine busy."""
        return self._engine.appetite

    def feed_all(self, items: Sequence[object]) -> None:
        """Give all items at once."""
        self.feed(items)
        self.end_input()

    def feed(self, items: Sequence[object], skipped: int = 0) -> None:
        """Give some more items; those that are stored are results at once."""
        first = self._fed + skipped
        self._fed, self._spared = first + len(items), self._spared + skipped
        looked_up = [
            (index, item, self._look_up(index, item)) for index, item in enumerate(items, first)
        ]
        for is_stored, run in groupby(looked_up, lambda each: each[2] is not None):
            indexes, missing, hits = zip(*run, strict=True)
            if is_stored:
                self._spared += len(hits)
                self._ready.append(Batch(indexes[0], [hit[0] for hit in hits]))
            else:
                self._engine.feed(missing, self._spared)
                self._spared = 0

    def end_input(self) -> None:
        """No more items will come."""
        self._engine.end_input()

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        """The next outcomes; None at the end, or when none come within `timeout` seconds."""
        if not self._engine.over and (self._keys or not self._ready):
            # Also where something is ready: the engine may live on being asked.
            self._collect(0 if self._ready else timeout)
        if self._ready:
            return self._ready.popleft()
        if self._engine.over:
            self._store.close()
            self.over = True
        return None

    def abandon(self) -> None:
        """Give up what has not run; nobody will ask for anything any more."""
        self._engine.abandon()

    def cancel(self, *, hurry: bool = False) -> None:
        """Give up what has not run; what is known still comes."""
        self._engine.cancel(hurry=hurry)

    def _look_up(self, index: int, item: Any) -> tuple[Any] | None:
        key = self._store.key_of(item if self._star else (item,), index)
        hit = self._store.find(key)
        if hit is None:
            self._keys[index] = key
        return hit

    def _collect(self, timeout: float | None) -> None:
        """Take what the engine has, and store all of it before anybody sees it."""
        try:
            while (batch := self._engine.next_batch(timeout)) is not None:
                self._fresh.append(batch)
                if self._engine.over:
                    break
                timeout = 0
        finally:
            if self._fresh:
                self._store_fresh()

    def _store_fresh(self) -> None:
        fresh, self._fresh = self._fresh, []
        self._ready += fresh  # first: whatever becomes of the file, nothing is lost
        self._store.keep(self._stored_parts(fresh))

    def _stored_parts(self, batches: list[Batch]) -> Iterator[tuple[bytes, object]]:
        """What is to be stored: results, but no failures."""
        for batch in batches:
            for index, outcome in enumerate(batch.outcomes, batch.first):
                key = self._keys.pop(index, None)
                if key is not None and type(outcome) is not Failed:
                    yield key, outcome
