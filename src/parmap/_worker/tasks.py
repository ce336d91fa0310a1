"""One chunk, item by item: run, gather, report.

Two ways to run it.  Items that cost something, or of which there are few, are marked one by one and
reported every few milliseconds, so that a crash loses little and a stream flows.  Tiny ones run in a
loop that does nothing else, not even look at a clock: whatever it did would double their cost.

Either way a chunk can be cut short: the parent writes the chunk's number into the control page and
sends a signal, whose handler runs here between two instructions and takes away what has not begun.
The number decides, the signal only wakes: a lost, late or old one does no harm.  What was taken away is
run by other workers, and what has finished is sent at once.
"""

from __future__ import annotations

import os
from _contextvars import copy_context
from time import monotonic_ns, perf_counter_ns

from parmap import _nesting
from parmap._wire import frames as fr
from parmap._wire.control import NOTHING, SOMETHING
from parmap._wire.frames import Frame, pack_frame
from parmap._wire.utterance import NONE
from parmap._worker import hygiene, memory, output
from parmap._worker.aside import Aside
from parmap._worker.bound import frames_around
from parmap._worker.calling import caller_of
from parmap._worker.gathered import Raised, pack_outcomes
from parmap._worker.hygiene import Terminated, flush_streams

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from threading import Lock
    from typing import Any

    from parmap._memory.fdpass import Link
    from parmap._wire.control import Control
    from parmap._wire.frames import Buffer
    from parmap._wire.payload import Payload
    from parmap._wire.pickling import Codec
    from parmap._worker.seeding import Seeding
    from parmap._worker.terms import Terms
    from parmap._worker.trouble import Trouble

# Finished results of marked items wait so long at most for the rest; of an unhurried chunk 5 times.
REPORT_EVERY_NS = 10_000_000


class ChunkRun:
    """The run of one chunk.  Used once."""

    __slots__ = (
        "_ahead", "_call", "_codec", "_control", "_frame", "_has_errors", "_inside", "_items",
        "_link", "_outcomes", "_reported", "_rest", "_seeding", "_since", "_size", "_skip", "_stops",
        "_terms", "_unsaid", "pid",
    )  # fmt: skip

    def __init__(
        self,
        frame: Frame,
        items: Sequence[Any],
        fn: Callable[..., Any],
        codec: Codec,
        link: Link,
        control: Control,
        terms: Terms,
    ) -> None:
        self._frame = frame
        self._terms = terms
        self._seeding: Seeding | None = None
        self.pid = os.getpid()
        self._call, self._skip = self._caller(fn)
        self._codec = codec
        self._link = link
        self._control = control
        self._inside = False  # among the items, and so able to say which one it is
        self._items: list[Any] = items if type(items) is list else list(items)
        self._size = len(self._items)
        self._rest: Iterator[Any] = iter(self._items)
        self._unsaid = [fr.CUT]  # the parent is told once; what takes it out is one step of C
        self._stops = frame.flags & fr.FLAG_STOP_ON_FAILURE
        self._outcomes: list[Any] = []  # since the last report
        self._has_errors = False  # among them
        self._ahead: Aside | None = None  # the report that was made at a cut
        self._reported = 0
        self._since = perf_counter_ns()

    def run(self) -> None:
        """Run the items in order and report on them; the last report closes the chunk."""
        if output.outlet is None:
            self._run()
            return
        output.outlet.place = self.place
        try:
            self._run()
        finally:
            output.outlet.place = None

    def _run(self) -> None:
        self._hear_cuts()
        hygiene.tell_where = self.tell_where
        _nesting.running = self
        try:
            self._run_items()
        finally:
            hygiene.on_cut = hygiene.tell_where = _nesting.running = None
        if hygiene.told_to_go:
            raise Terminated(hygiene.EXIT_TERMINATED)
        self._report(perf_counter_ns(), last=True)

    def _run_items(self) -> None:
        run = self._run_marked if self._frame.flags & fr.FLAG_MARK else self._run_bare
        # In a context of their own: what they set there is gone with them.
        if self._seeding is None:
            copy_context().run(run)
        else:
            with self._seeding:
                copy_context().run(run)

    turn: Lock | None = None  # there is one item at a time

    def tell(self) -> tuple[int, int, str, int | None] | None:
        """As a `Runner` does: which item is being run."""
        index, name = self._index(), _nesting.worker
        if index is None or name is None:
            return None
        return index, self._frame.extra + 1, name[0], self._terms.seed

    def _index(self) -> int | None:
        if self._inside:
            return self._frame.first + self._reported + len(self._outcomes)
        marked = self._control.running
        return marked - 1 if marked > 0 else None

    def meet(self, trouble: Trouble) -> None:
        """Run under `parmap.testing.chaos`: each item is marked, so that its death is its own."""
        self._call = trouble.around(self._call, self._frame.first, self._frame.extra + 1)
        self._skip += 1
        self._frame.flags |= fr.FLAG_MARK

    def tell_where(self) -> None:
        """Answer the parent's question (in a signal's handler)."""
        if self._inside:
            self._control.answer(self._frame.first + self._reported + len(self._outcomes))

    def place(self) -> tuple[int, int]:
        """The chunk, and the item that is being run; for what that says meanwhile."""
        if self._frame.flags & fr.FLAG_ALONE:
            return self._frame.chunk, NONE
        return self._frame.chunk, self._frame.first + self._reported + len(self._outcomes)

    def _caller(self, fn: Callable[..., Any]) -> tuple[Callable[[Any], Any], int]:
        """What turns an item as it came into a result, and how many of our own frames that puts
        around the user's."""
        ours = frames_around(fn)
        if self._terms.context is not None:
            fn = self._terms.around(fn)
            ours += 1
        call, more = caller_of(fn, self._frame.flags)
        if self._terms.seed is None:
            return call, ours + more
        from parmap._worker.seeding import Seeding

        self._seeding = seeding = Seeding(self._terms.seed)

        def seeded(item: Any) -> Any:
            index = self._index()
            assert index is not None
            seeding.plant(index)
            return call(item)

        return seeded, ours + more + 1

    def _hear_cuts(self) -> None:
        hygiene.on_cut = self._cut_at_once
        self._cut()  # the signal may have come before

    def _cut(self) -> bool:
        """Take away what has not begun, if the parent wants it back.

        A signal may come at any instruction, and do the same: so it may be done twice."""
        if self._control.drop < self._frame.chunk:
            return False
        begun = self._size - self._rest.__length_hint__()  # type: ignore[attr-defined]  # of a list's iterator
        del self._items[begun:]
        return True

    def _cut_at_once(self) -> None:
        """In the handler of the signal: say so now, for the item that is being run may be long."""
        if not self._cut():
            return
        try:
            self._unsaid.pop()
        except IndexError:
            return  # it was said, or is being said by the handler that this one has interrupted
        frame, stop = self._frame, self._frame.first + len(self._items)
        cut = Frame(fr.CUT, call=frame.call, chunk=frame.chunk, first=stop)
        self._link.send_all(pack_frame(cut))
        if self._outcomes:
            self._report_ahead()

    def _report_ahead(self) -> None:
        """What has finished shall not wait for the item that is being run, which may be long.

        In a thread: to pickle a result may want a lock that this item holds."""
        first, now = self._frame.first + self._reported, perf_counter_ns()
        outcomes = self._outcomes[:]
        try:
            self._ahead = Aside(lambda: self._send(*self._packed(first, outcomes, now)))
        except RuntimeError:
            return  # no thread can be had: they come with the others
        del self._outcomes[: len(outcomes)]  # in place: who runs the items has a name for the list
        self._reported += len(outcomes)

    def _run_bare(self) -> None:
        """Tiny items.  An error is the outcome of its item, and the next one follows."""
        self._control.running = SOMETHING
        call = self._call
        while True:
            outcomes = self._outcomes
            self._inside = True
            try:
                for item in self._rest if hygiene.hears_cuts else self._watched():
                    outcomes.append(call(item))
            except Terminated:
                raise
            except BaseException as error:  # whatever it is, it is that item's
                self._inside = False
                if self._failed(error):
                    return
            else:
                self._inside = False
                return

    def _failed(self, error: BaseException) -> bool:
        """An item has failed.  Whether that ends the chunk."""
        if self._terms.retried and self._terms.retried.covers(error):
            self._report_retried(error)
            return hygiene.told_to_go
        self._note(error)
        return bool(self._stops) or hygiene.told_to_go

    def _report_retried(self, error: BaseException) -> None:
        """Alone, so that the parent can keep it to itself.  Whether it is the last attempt, and so
        may end the call, the parent knows."""
        if self._outcomes:
            self._report_so_far(perf_counter_ns())
        hygiene.on_cut = None  # it must not go ahead as a failure
        self._note(error)
        self._report_so_far(perf_counter_ns(), retried=True)

    def _note(self, error: BaseException) -> None:
        self._has_errors = True
        self._outcomes.append(Raised(error))

    def _report_so_far(self, now: int, *, retried: bool = False) -> None:
        hygiene.on_cut = None  # nothing is sent in the middle of something else
        self._report(now, retried=retried)
        self._control.running = SOMETHING
        self._hear_cuts()

    def _watched(self) -> Iterator[Any]:
        """The rest of the items; for a system without such a signal, a look at the page before each."""
        for item in self._rest:
            yield item
            self._cut()

    def _run_marked(self) -> None:
        control, index = self._control, self._frame.first
        every = REPORT_EVERY_NS * (5 if self._frame.flags & fr.FLAG_UNHURRIED else 1)
        for item in self._rest:
            index += 1
            control.began = monotonic_ns()
            control.running = index
            try:
                self._outcomes.append(self._call(item))
            except Terminated:
                raise
            except BaseException as error:  # whatever it is, it is that item's
                if self._failed(error):
                    return
            if hygiene.told_to_go or memory.is_bloated:
                return
            if not hygiene.hears_cuts:
                self._cut()
            now = perf_counter_ns()
            if now - self._since > every and self._rest.__length_hint__():  # type: ignore[attr-defined]
                self._report_so_far(now)

    def _report(self, now: int, *, last: bool = False, retried: bool = False) -> None:
        if self._ahead is not None:
            self._ahead.wait()
            self._ahead = None
        outcomes, self._outcomes = self._outcomes, []
        # A result's own pickling that ends the process is that of one item, or of any of these.
        alone = len(outcomes) == 1 and self._frame.flags & fr.FLAG_MARK
        first = self._frame.first + self._reported
        self._control.running = first + 1 if alone else SOMETHING
        packed = self._packed(first, outcomes, now, last=last, retried=retried)
        self._has_errors = False
        self._control.running = NOTHING  # a death while they are written is no item's fault
        self._send(*packed)
        self._reported += len(outcomes)

    def _send(self, frame: Frame, payload: Payload) -> None:
        self._link.send_all(pack_frame(frame), frame.fds)
        payload.close()
        self._since = perf_counter_ns()

    def _packed(
        self,
        first: int,
        outcomes: list[Any],
        now: int,
        *,
        last: bool = False,
        retried: bool = False,
    ) -> tuple[Frame, Payload]:
        payload = pack_outcomes(outcomes, self._codec, self._skip, errors=self._has_errors)
        segments = [*payload.segments, *self._times(first, len(outcomes), now)]
        flags = (
            (fr.FLAG_LAST if last else 0)
            | (fr.FLAG_BLOCK if payload.block else 0)
            | (fr.FLAG_FAILURES if payload.failures else 0)
            | (fr.FLAG_RETRIED if retried else 0)
            | (fr.FLAG_BLOATED if memory.look() else 0)
            | self.more_flags
        )
        flush_streams()
        if output.took_word():
            flags |= fr.FLAG_WROTE
        frame = Frame(
            fr.RESULTS,
            call=self._frame.call,
            chunk=self._frame.chunk,
            first=first,
            count=len(outcomes),
            flags=flags,
            extra=now - self._since,
            segments=segments,
            fds=payload.fds,
        )
        return frame, payload

    more_flags = 0

    def _times(self, first: int, count: int, ran: int) -> list[Buffer]:
        """What more a report tells: of a profiled call, the times (`timing`)."""
        return []
