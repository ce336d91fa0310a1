"""What an open profile is told of the calls in its block, while they run.

Nothing is told, and workers are asked for nothing, while no profile is open: then a call has no
record.  A record is told things by several threads (its caller's, and whoever drives), so it has a
lock.  What it keeps is bounded, however many items there are: sums, the slowest items, and spans of
chunks, of which neighbours become one when there are too many.
"""

from __future__ import annotations

import heapq
import threading
from array import array
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from parmap._calls.spans import Doing, Seen, Span, Totals, halved_doings, halved_spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._calls.profiling import Recording
    from parmap._calls.remote import RemoteCall
    from parmap._launch.peer import Peer
    from parmap._wire.frames import Buffer, Frame

clock = perf_counter_ns

# Of each call: more than a screen has columns.
MOST_SPANS = 2000
MOST_SLOW = 10
# Calls that have a record of their own; those after them are added up by the name of the function.
MOST_CALLS = 100
# So much is only noted at a time.
_MOST_NOTES = 500
# Smaller arguments may travel as often as they like.
_LARGE = 4096
# Items that run in this process are one span for so long.
_SPAN_NS = 3_000_000


@dataclass(slots=True)
class CallRecord:
    """One call, or what many of one function have in common."""

    label: str
    kind: str  # "workers", "this process", or the name of the engine
    cap: int
    began: int
    ended: int | None = None
    totals: Totals = field(default_factory=Totals)
    workers: dict[str, Seen] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    doings: list[Doing] = field(default_factory=list)
    slowest: list[tuple[int, int]] = field(default_factory=list)  # a heap of (ns, index)
    recordings: tuple[Recording, ...] = ()
    is_asked: bool = True  # a profile still wants to know
    _notes: deque[tuple[Callable[..., None], tuple[Any, ...]]] = field(default_factory=deque)
    _on_the_way: dict[tuple[str, int], int] = field(default_factory=dict)  # chunk -> bytes
    _arguments: tuple[object, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """A profile was closed: does another one still want to know?"""
        self.is_asked = any(recording.is_open for recording in self.recordings)

    # ------------------------------------------------------------------ at the caller's

    def did(self, what: str, began: int, ended: int | None = None) -> None:
        """The caller's process has done this since `began`."""
        self._note(self._did, what, began, clock() if ended is None else ended)

    def end(self) -> None:
        """The call is over, and so is the record; may be said twice."""
        with self._lock:
            if self.ended is not None:
                return
            self.ended = clock()
            self.totals.wall += self.ended - self.began
            self.totals.calls += 1
            self._arguments = ()
        for recording in self.recordings:
            recording.ended(self)

    def goes_on(self) -> None:
        """One of the calls that share this record is over."""
        with self._lock:
            self.ended = clock()
            self.totals.wall = self.ended - self.began
            self.totals.calls += 1

    # ------------------------------------------------------------------ by whoever drives

    def sends(self, peer: Peer, call: RemoteCall, frame: Frame, began: int) -> None:
        """A chunk was pickled since `began`, and goes to this worker now."""
        now, nbytes = clock(), frame.nbytes
        if peer.name not in self.workers:
            self._meet(peer, call, began)
        repeated = False
        if nbytes >= _LARGE:
            arguments = call.arguments_of(frame.first)
            repeated = any(map(_is_same, arguments, self._arguments))
            self._arguments = arguments
        self._note(self._sent, peer.name, frame.chunk, frame.count, nbytes, repeated, began, now)

    def came(self, peer: Peer, frame: Frame, times: Buffer | None) -> None:
        """A report of the items of a chunk, and what the worker has measured.

        It was not asked to if the chunk was sent before there was a record: `_express`.
        """
        nbytes = frame.nbytes
        if times is None:
            self.ran_there(peer.name, peer.pid, frame.first, frame.count, frame.extra, nbytes)
            return
        self._note(
            self._back, peer.name, frame.chunk, frame.first, frame.count, nbytes, times, clock()
        )

    # ------------------------------------------------------------------ by other ways to run items

    def ran_here(self, index: int, began: int) -> None:
        """An item has run in this very process."""
        now = clock()
        with self._lock:
            self._slow(now - began, index)
            last = self.spans[-1] if self.spans else None
            self._see(THIS_PROCESS, 0)
            if last is not None and last.came - last.taken < _SPAN_NS:
                self.spans.pop()
                self._add(last._replace(items=last.items + 1, ran=now, dumped=now, came=now), last)
                return
            self._chunk(1)
            self._add(Span(THIS_PROCESS, index, 1, began, began, now, now, now, 0, 0))

    def ran_there(
        self, worker: str, pid: int, first: int, count: int, run: int, nbytes: int
    ) -> None:
        """A chunk has come back from an engine that tells no more than this."""
        now = clock()
        with self._lock:
            self._see(worker, pid)
            began = now - run
            self._chunk(count)
            self._add(Span(worker, first, count, began, began, now, now, now, 0, nbytes))
            if count == 1:
                self._slow(run, first)

    def went(self, worker: str, pid: int, items: int, run: int, nbytes: int, began: int) -> None:
        """A short call went there and back at once; the record is that of many such.

        It takes some 20 us in all, so this only notes it.
        """
        self._note(self._trip, worker, pid, items, run, nbytes, began, clock())

    # ------------------------------------------------------------------ the books

    def _note(self, enter: Callable[..., None], *what: Any) -> None:
        """To enter something takes longer than to note it, and is done when there is time."""
        self._notes.append((enter, what))
        if len(self._notes) >= _MOST_NOTES:
            self.fold()

    def fold(self) -> None:
        """Enter what was only noted."""
        with self._lock:
            while self._notes:
                enter, what = self._notes.popleft()
                enter(*what)

    def _meet(self, peer: Peer, call: RemoteCall, began: int) -> None:
        with self._lock:
            new = peer.started_at >= self.began
            if new and not self.workers:
                self.totals.startup = began - self.began
            seen = Seen(peer.name, peer.pid, peer.started_at if new else None, peer.ready_at)
            self.workers[peer.name] = seen
            self.totals.function_bytes += 0 if call.is_alone else call.function.nbytes

    def _sent(
        self,
        worker: str,
        chunk: int,
        items: int,
        nbytes: int,
        repeated: bool,
        began: int,
        now: int,
    ) -> None:
        self._did("pickling", began, now)
        self.totals.repeated_bytes += nbytes if repeated else 0
        self.totals.bytes_out += nbytes
        self._chunk(items)
        self._on_the_way[worker, chunk] = nbytes

    def _back(
        self, worker: str, chunk: int, first: int, items: int, nbytes: int, times: Buffer, now: int
    ) -> None:
        numbers = array("q")
        numbers.frombytes(times)
        taken, load, run, dump, cpu, other = numbers[:6]
        bytes_out = self._on_the_way.pop((worker, chunk), 0)  # shown with the first report
        ran = taken + load + run
        self.totals.cpu += cpu
        self.totals.other_cpu += other
        self._add(
            Span(worker, first, items, taken, taken + load, ran, ran + dump, now, bytes_out, nbytes)
        )
        for place in range(6, len(numbers), 2):
            self._slow(numbers[place + 1], numbers[place])

    def _trip(
        self, worker: str, pid: int, items: int, run: int, nbytes: int, began: int, now: int
    ) -> None:
        totals = self.totals
        totals.calls += 1
        totals.wall += now - began
        totals.bytes_out += nbytes
        self.ended = now
        self._see(worker, pid)
        self._chunk(items)
        start = began + max(0, now - began - run) // 2
        end = start + run
        self._add(Span(worker, 0, items, start, start, end, end, end, nbytes, nbytes))

    def _did(self, what: str, began: int, ended: int) -> None:
        name, doings = _NAMES.get(what, what), self.doings
        setattr(self.totals, name, getattr(self.totals, name) + ended - began)
        if doings:
            last = doings[-1]
            if last.what == what and began - last.ended < _SPAN_NS // 10:
                doings[-1] = Doing(what, last.began, ended)
                return
        doings.append(Doing(what, began, ended))
        if len(doings) > MOST_SPANS:
            self.doings = halved_doings(doings)

    def _chunk(self, items: int) -> None:
        totals = self.totals
        totals.chunks += 1
        totals.smallest = min(totals.smallest or items, items)
        totals.largest = max(totals.largest, items)

    def _see(self, worker: str, pid: int) -> None:
        if worker not in self.workers:
            self.workers[worker] = Seen(worker, pid)

    def _slow(self, ns: int, index: int) -> None:
        if len(self.slowest) < MOST_SLOW:
            heapq.heappush(self.slowest, (ns, index))
        elif ns > self.slowest[0][0]:
            heapq.heapreplace(self.slowest, (ns, index))

    def _add(self, span: Span, instead: Span | None = None) -> None:
        totals, seen = self.totals, self.workers.get(span.worker)
        if seen is None:
            return
        self.spans.append(span)
        if len(self.spans) > MOST_SPANS:
            self.spans = halved_spans(self.spans)
        count = span.items - (instead.items if instead else 0)
        load, run = span.loaded - span.taken, span.ran - span.loaded
        if instead is not None:
            run -= instead.ran - instead.loaded
        dump = span.dumped - span.ran
        # It went on with the next chunk before the caller had looked at what it had sent.
        send = max(0, span.came - span.dumped) - max(0, seen.came - max(span.taken, seen.dumped))
        seen.items += count
        seen.chunks += instead is None
        seen.load, seen.run, seen.dump = seen.load + load, seen.run + run, seen.dump + dump
        seen.send, seen.dumped, seen.came = seen.send + send, span.dumped, span.came
        totals.items += count
        totals.load, totals.run, totals.dump = (
            totals.load + load, totals.run + run, totals.dump + dump
        )  # fmt: skip
        totals.send += send
        totals.bytes_back += span.bytes_back


THIS_PROCESS = "this process"
_NAMES = {"reading input": "reading"}
_SMALL = (int, float, complex, bool, str, bytes, type(None))


def _is_same(one: object, other: object) -> bool:
    """The very same object, and none that costs nothing."""
    return one is other and (not isinstance(one, _SMALL) or _length(one) > 1000)


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else 0
