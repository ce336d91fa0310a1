"""Outcomes from somebody else's Executor: threads, interpreters, loky, Dask, MPI.

The engine is asked for nothing but `submit`, and a chunk is one submission (see `chunks`).
Everything here runs in the caller's thread; the engine's threads only post futures.

What an engine cannot do is not promised: items that it runs already are finished by it.
"""

from __future__ import annotations

import heapq
import os
import time
from collections import deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from parmap._calls.outcomes import Batch, Failed, Reader
from parmap._core.chunking import TARGET_SECONDS, ChunkSizer
from parmap._core.deadlines import LONGEST_WAIT
from parmap._core.events import OnFailure
from parmap._foreign.chunks import Chunk, Function, Outcomes, Raised, Wanted
from parmap._limits import NO_LIMITS, Limits
from parmap.errors import PoolClosedError, SerializationError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from parmap._calls.recording import CallRecord

# Dask's scheduler spends up to 4 ms on a task (measured: docs/how-to/from-one-laptop-to-a-cluster.md).
# Chunks of so many seconds for each worker that it serves keep it busy for half of its time.
SCHEDULER_SECONDS = 0.008
# Two chunks for each of the engine's workers hide the way between them.
PER_WORKER = 2


class ForeignSource:
    """Outcomes from a foreign Executor."""

    takes_all = True

    def __init__(
        self,
        executor: Executor,
        fn: Callable[..., Any],
        *,
        star: bool,
        chunksize: int | None,
        on_failure: OnFailure,
        limits: Limits = NO_LIMITS,
        record: CallRecord | None = None,
    ) -> None:
        self.record = record
        if limits.task_timeout is not None:
            raise ValueError(
                f"task_timeout cannot be kept by {type(executor).__name__}: another engine's worker"
                " cannot be ended from here; use parmap's own workers (no pool=, or a parmap.Pool)"
            )
        self._retry, self._policy = limits.retry, limits.policy()
        self.error: BaseException | None = None
        self.stops = on_failure is OnFailure.STOP
        self._on_failure = on_failure
        self._executor = executor
        self._workers = workers_of(executor)
        self._function = Function(fn, star=star, seed=limits.seed)
        size = chunksize or getattr(executor, "_parmap_chunksize", None)
        self._sizer = ChunkSizer(size, target=_target(executor, self._workers))
        self._items: dict[int, object] = {}
        self._fed = 0
        self._waiting: deque[range] = deque()  # indexes that no chunk has
        # Lost once, with others beside them (index, attempt): each runs alone.
        self._suspects: deque[tuple[int, int]] = deque()
        self._resting: list[tuple[float, int, int]] = []  # a heap: due, index, attempt
        self._ready: deque[Batch] = deque()
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
        return self._ended and not (
            self._waiting or self._suspects or self._resting or self._running or self._ready
        )

    def feed_all(self, items: Sequence[object]) -> None:
        """Give all items at once."""
        self.feed(items)
        self.end_input()

    def feed(self, items: Sequence[object], skipped: int = 0) -> None:
        """Give some more items; `skipped`: so many before them are not to be run."""
        first = self._fed + skipped
        self._fed = first + len(items)
        self._items.update(zip(range(first, self._fed), items, strict=True))
        if items and not self._ended:
            self._waiting.append(range(first, self._fed))

    def end_input(self) -> None:
        """No more items will come."""
        self._ended = True

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        """The next outcomes; None at the end, or when none come within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            self._submit_chunks()
            if not self._running and not self._resting:
                return None
            until = min(self._resting)[0] if self._resting else None
            if deadline is not None and (until is None or deadline < until):
                until = deadline
            if not self._take(until) and until == deadline:
                return None
        return self._ready.popleft()

    def _take(self, until: float | None) -> bool:
        """Deal with the next chunk that is done; False if none is until then."""
        left = None if until is None else min(until - time.monotonic(), LONGEST_WAIT)
        try:
            future = self._done.get(timeout=None if left is None else max(0.0, left))
        except Empty:
            return False
        chunk = self._running.pop(future, None)
        if chunk is not None:  # else it is of a call that did not wait for it
            self._settle(chunk, future)
        return True

    def abandon(self) -> None:
        """Drop what has not run; nobody will ask for it."""
        self.cancel()

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
        while self._resting and self._resting[0][0] <= time.monotonic():
            _, index, attempt = heapq.heappop(self._resting)
            self._submit(self._chunk(range(index, index + 1), attempt=attempt))
        while self._waiting and len(self._running) < PER_WORKER * self._workers:
            self._submit(self._next_chunk())
        if self._suspects and not self._running:
            index, attempt = self._suspects.popleft()
            self._submit(self._chunk(range(index, index + 1), alone=True, attempt=attempt))

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

    def _chunk(self, indexes: range, *, alone: bool = False, attempt: int = 1) -> Chunk:
        items = [self._items[index] for index in indexes]
        stops = self._on_failure is not OnFailure.CONTINUE
        return Chunk(
            self._function, indexes.start, items, self._wanted,
            stops=stops, alone=alone, attempt=attempt,
        )  # fmt: skip

    # ------------------------------------------------------------------ outcomes in

    def _settle(self, chunk: Chunk, future: Future[Outcomes]) -> None:
        if future.cancelled():
            if self._wanted.stop_at is None:
                self._fail(PoolClosedError(f"{self._executor!r} cancelled a chunk of this call"))
            return
        if (error := future.exception()) is not None:
            self._engine_failed(chunk, error)
            return
        outcomes = future.result()
        batch = self._read(chunk, outcomes)
        done = len(batch.outcomes)
        if self.record is not None:
            self.record.ran_there(
                outcomes.worker, outcomes.pid, chunk.first, done, int(outcomes.elapsed * 1e9),
                outcomes.nbytes,
            )  # fmt: skip
        self._sizer.measured(done, outcomes.elapsed, outcomes.nbytes)
        self._give_back(range(chunk.first + done, chunk.first + len(chunk)))
        self._accept(batch, chunk.attempt)

    def _read(self, chunk: Chunk, outcomes: Outcomes) -> Batch:
        outcomes.first, outcomes.attempt = chunk.first, chunk.attempt
        if outcomes.encoded:
            return self._reader.read(outcomes)
        worker, pid = outcomes.worker, outcomes.pid
        values = [
            self._reader.failed(value.error, index, worker, pid, chunk.attempt)
            if type(value) is Raised
            else value
            for index, value in enumerate(outcomes.values, chunk.first)
        ]
        return Batch(chunk.first, values, sum(type(value) is Failed for value in values))

    def _accept(self, batch: Batch, attempt: int) -> None:
        """Keep these outcomes for the caller, but those of items that are to run once more."""
        first, kept = batch.first, list[Any]()
        for index, outcome in enumerate(batch.outcomes, batch.first):
            failed = type(outcome) is Failed
            if failed and self._is_retried(outcome.failure.error, index, attempt):
                due = time.monotonic() + self._policy.delay(attempt)
                heapq.heappush(self._resting, (due, index, attempt + 1))
                self._keep(first, kept)
                first, kept = index + 1, []
                continue
            kept.append(outcome)
            if failed:
                self._failed(index)
        self._keep(first, kept)

    def _keep(self, first: int, outcomes: list[Any]) -> None:
        for index in range(first, first + len(outcomes)):
            self._items.pop(index, None)
        if outcomes:
            failed = sum(type(each) is Failed for each in outcomes)
            self._ready.append(Batch(first, outcomes, failed))

    def _is_retried(self, error: BaseException, index: int, attempt: int) -> bool:
        retry, stop_at = self._retry, self._wanted.stop_at
        wanted = stop_at is None or index < stop_at
        return (
            retry is not None
            and wanted
            and attempt < retry.attempts
            and isinstance(error, retry.reasons)
        )

    def _engine_failed(self, chunk: Chunk, error: BaseException) -> None:
        """The engine lost the chunk, or could not pickle it.

        The guilty item is found by sending each by itself, and at last with no other beside it:
        engines charge what merely waited at a worker that died (Dask: "4 workers died while trying
        to run it").  An engine that is broken for good says so at the next submission.
        """
        indexes = range(chunk.first, chunk.first + len(chunk))
        if len(indexes) > 1:
            self._waiting.extendleft(range(index, index + 1) for index in reversed(indexes))
            return
        said: BaseException | None = _refusal_in(error)
        if isinstance(error, WorkerLostError):  # it knows what it says
            said = error
        if said is None:
            if not chunk.alone:
                self._suspects.append((chunk.first, chunk.attempt))
                return
            said = WorkerLostError(
                index=chunk.first, exitcode=None, signal=None, attempts=chunk.attempt
            )
            said.__cause__ = error
        name = type(self._executor).__name__
        outcome = self._reader.failed(said, chunk.first, name, 0, chunk.attempt)
        self._accept(Batch(chunk.first, [outcome], 1), chunk.attempt)

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
        self._suspects = deque(each for each in self._suspects if each[0] < stop_at)
        self._resting = [each for each in self._resting if each[1] < stop_at]
        heapq.heapify(self._resting)
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
    client = _dask_client(executor)
    if client is not None:
        return max(1, int(sum(client.ncores().values())))
    return os.cpu_count() or 1


def _target(executor: Executor, workers: int) -> float:
    """How long a chunk shall take there."""
    return TARGET_SECONDS if _dask_client(executor) is None else SCHEDULER_SECONDS * workers


def _dask_client(executor: Executor) -> Any:
    client: Any = getattr(executor, "_client", None)
    return client if callable(getattr(client, "ncores", None)) else None
