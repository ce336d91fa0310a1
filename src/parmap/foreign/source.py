"""Outcomes from somebody else's Executor: threads, interpreters, loky, Dask, MPI.

The engine is asked for nothing but `submit`, and a chunk is one submission (see `chunks`).
Everything here runs in the caller's thread; the engine's threads only post futures.

What an engine cannot do is not promised: items that it runs already are finished by it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from parmap._calls.outcomes import Batch, Failed, Reader
from parmap._core.chunking import ChunkSizer
from parmap._core.events import OnFailure
from parmap.errors import PoolClosedError, SerializationError, WorkerLostError
from parmap.foreign.chunks import Chunk, Function, Outcomes, Raised, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

# Two chunks for each of the engine's workers hide the way between them.
PER_WORKER = 2


class ForeignSource:
    """Outcomes from a foreign Executor."""

    def __init__(
        self,
        executor: Executor,
        fn: Callable[..., Any],
        *,
        star: bool,
        chunksize: int | None,
        on_failure: OnFailure,
    ) -> None:
        self.error: BaseException | None = None
        self.stops = on_failure is OnFailure.STOP
        self._on_failure = on_failure
        self._executor = executor
        self._workers = workers_of(executor)
        self._function = Function(fn, star=star)
        self._sizer = ChunkSizer(chunksize)
        self._items: dict[int, object] = {}
        self._fed = 0
        self._waiting: deque[range] = deque()  # indexes that no chunk has
        self._suspects: deque[int] = deque()  # lost once, with others beside them: each runs alone
        self._running: dict[Future[Outcomes], Chunk] = {}
        self._done: SimpleQueue[Future[Outcomes]] = SimpleQueue()
        self._wanted = Wanted()
        self._ended = False
        self._reader = Reader(self._function.codec, self._items.__getitem__)

    @property
    def appetite(self) -> int:
        """How many unfinished items keep the engine busy."""
        return self._sizer.appetite(self._workers)

    @property
    def over(self) -> bool:
        """Nothing will come any more, and nothing of the call runs."""
        return self._ended and not (self._waiting or self._suspects or self._running)

    def feed_all(self, items: Sequence[object]) -> None:
        """Give all items at once."""
        self.feed(items)
        self.end_input()

    def feed(self, items: Sequence[object]) -> None:
        """Give some more items."""
        first, self._fed = self._fed, self._fed + len(items)
        self._items.update(zip(range(first, self._fed), items, strict=True))
        if items and not self._ended:
            self._waiting.append(range(first, self._fed))

    def end_input(self) -> None:
        """No more items will come."""
        self._ended = True

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        """The next outcomes; None at the end, or when none come within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._submit_chunks()
            if not self._running:
                return None
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                future = self._done.get(timeout=left) if left != 0 else self._done.get_nowait()
            except Empty:
                return None
            chunk = self._running.pop(future, None)
            if chunk is None:
                continue  # of a call that did not wait for it
            batch = self._settle(chunk, future)
            if batch is not None:
                return batch

    def cancel(self, *, hurry: bool = False) -> None:
        """Drop what has not run.  With `hurry` (Ctrl-C) what runs is not waited for."""
        self._stop_at(0)
        self._ended = True
        for future in list(self._running):
            future.cancel()
        if hurry:
            self._running.clear()

    # ------------------------------------------------------------------ chunks out

    def _submit_chunks(self) -> None:
        if any(chunk.alone for chunk in self._running.values()):
            return
        while self._waiting and len(self._running) < PER_WORKER * self._workers:
            self._submit(self._next_chunk())
        if self._suspects and not self._running:
            index = self._suspects.popleft()
            self._submit(self._chunk(range(index, index + 1), alone=True))

    def _submit(self, chunk: Chunk) -> None:
        try:
            future = self._executor.submit(chunk)
        except BaseException as error:
            if _refusal_in(error) is None:  # shut down or broken: the engine says why
                self._fail(error)
                raise
            future = Future()  # it pickles at once (Dask); others would say it later, by the future
            future.set_exception(error)
        self._running[future] = chunk
        future.add_done_callback(self._done.put)

    def _next_chunk(self) -> Chunk:
        indexes = self._waiting[0]
        size = self._sizer.size(
            sum(map(len, self._waiting)), more_to_come=not self._ended, workers=self._workers
        )
        indexes, rest = indexes[:size], indexes[size:]
        if rest:
            self._waiting[0] = rest
        else:
            self._waiting.popleft()
        return self._chunk(indexes)

    def _chunk(self, indexes: range, *, alone: bool = False) -> Chunk:
        items = [self._items[index] for index in indexes]
        stops = self._on_failure is not OnFailure.CONTINUE
        return Chunk(self._function, indexes.start, items, self._wanted, stops=stops, alone=alone)

    # ------------------------------------------------------------------ outcomes in

    def _settle(self, chunk: Chunk, future: Future[Outcomes]) -> Batch | None:
        if future.cancelled():
            if self._wanted.stop_at is None:
                self._fail(PoolClosedError(f"{self._executor!r} cancelled a chunk of this call"))
            return None
        if (error := future.exception()) is not None:
            return self._engine_failed(chunk, error)
        outcomes = future.result()
        batch = self._read(chunk.first, outcomes)
        done = len(batch.outcomes)
        self._sizer.measured(done, outcomes.elapsed, outcomes.nbytes)
        for index in range(chunk.first, chunk.first + done):
            self._items.pop(index, None)
        self._give_back(range(chunk.first + done, chunk.first + len(chunk)))
        if batch.failed:
            places = (place for place, each in enumerate(batch.outcomes) if type(each) is Failed)
            self._failed(batch.first + next(places))
        return batch if done else None

    def _read(self, first: int, outcomes: Outcomes) -> Batch:
        outcomes.first = first
        if outcomes.encoded:
            return self._reader.read(outcomes)
        values = [
            self._reader.failed(value.error, first + place, outcomes.worker, outcomes.pid)
            if type(value) is Raised
            else value
            for place, value in enumerate(outcomes.values)
        ]
        return Batch(first, values, sum(type(value) is Failed for value in values))

    def _engine_failed(self, chunk: Chunk, error: BaseException) -> Batch | None:
        """The engine lost the chunk, or could not pickle it.

        The guilty item is found by sending each by itself, and at last with no other beside it:
        engines charge what merely waited at a worker that died (Dask: "4 workers died while trying
        to run it").  An engine that is broken for good says so at the next submission.
        """
        indexes = range(chunk.first, chunk.first + len(chunk))
        if len(indexes) > 1:
            self._waiting.extendleft(range(index, index + 1) for index in reversed(indexes))
            return None
        said: BaseException | None = _refusal_in(error)
        if said is None:
            if not chunk.alone:
                self._suspects.append(chunk.first)
                return None
            said = WorkerLostError(index=chunk.first, exitcode=None, signal=None, attempts=1)
            said.__cause__ = error
        outcome = self._reader.failed(said, chunk.first, type(self._executor).__name__, 0)
        self._items.pop(chunk.first, None)
        self._failed(chunk.first)
        return Batch(chunk.first, [outcome], 1)

    def _failed(self, index: int) -> None:
        if self._on_failure is OnFailure.STOP:
            self.cancel()
        elif self._on_failure is OnFailure.FINISH_EARLIER:
            self._stop_at(index)

    def _give_back(self, indexes: range) -> None:
        stop_at = self._wanted.stop_at
        if stop_at is not None:
            indexes = range(indexes.start, min(indexes.stop, stop_at))
        if indexes:
            self._waiting.appendleft(indexes)

    def _stop_at(self, index: int) -> None:
        """Items from `index` on are no longer wanted."""
        before = self._wanted.stop_at
        stop_at = self._wanted.stop_at = index if before is None else min(index, before)
        cut = (range(each.start, min(each.stop, stop_at)) for each in self._waiting)
        self._waiting = deque(each for each in cut if each)
        self._suspects = deque(each for each in self._suspects if each < stop_at)
        self._ended = True

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self.cancel()


def _refusal_in(error: BaseException | None) -> SerializationError | None:
    """Our own word that a chunk cannot travel, which an engine may have wrapped."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, SerializationError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def workers_of(executor: Executor) -> int:
    """How many chunks the engine can run at a time, as far as it tells."""
    asked = getattr(executor, "_max_workers", None)  # threads, processes, loky, MPI
    if isinstance(asked, int) and asked > 0:
        return asked
    client: Any = getattr(executor, "_client", None)  # Dask's
    if client is not None and callable(getattr(client, "ncores", None)):
        return max(1, int(sum(client.ncores().values())))
    return os.cpu_count() or 1
