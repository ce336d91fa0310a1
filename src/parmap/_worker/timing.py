"""One chunk whose call is profiled: as every chunk, and with what its items have taken.

Items that are marked anyway (20 us or more, or few) are timed one by one.  Tiny ones are timed
together: a look at the clock would double their cost.  One among them that turns out to be long is
found out by the cut that it provokes.
"""

from __future__ import annotations

from array import array
from heapq import nlargest
from time import perf_counter_ns, process_time_ns, thread_time_ns

from parmap._wire import frames as fr
from parmap._worker.hygiene import Terminated
from parmap._worker.tasks import ChunkRun

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parmap._memory.fdpass import Link
    from parmap._wire.control import Control
    from parmap._wire.frames import Buffer, Frame
    from parmap._wire.payload import Item
    from parmap._wire.pickling import Codec
    from parmap._worker.terms import Terms

# Of each report; the caller keeps the slowest of all.
_SLOWEST = 5
_CPU_EVERY_NS = 2_000_000


class _Cpu:
    """How much of the CPUs this process uses.  Two system calls, so not for each tiny chunk."""

    __slots__ = ("_all", "_at", "_own")

    def __init__(self) -> None:
        self._at, self._all, self._own = perf_counter_ns(), process_time_ns(), thread_time_ns()

    def used(self, now: int) -> tuple[int, int]:
        """CPU time since the last answer: of all threads, and of those that run no items."""
        if now - self._at < _CPU_EVERY_NS:
            return 0, 0
        before, own = self._all, self._own
        self._at, self._all, self._own = now, process_time_ns(), thread_time_ns()
        used = self._all - before
        return used, max(0, used - (self._own - own))


_cpu = _Cpu()


class _Loaded:
    """An item that has been unpickled already, which may have failed."""

    __slots__ = ("_error", "_value", "kind")

    def __init__(self, item: Item) -> None:
        self.kind = item.kind
        self._error: BaseException | None = None
        try:
            self._value = item.load()
        except Terminated:
            raise
        except BaseException as error:  # whatever it is, it is that item's
            self._error = error

    def load(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class TimedChunkRun(ChunkRun):
    """The run of one chunk, with times for the caller's profile."""

    __slots__ = ("_durations", "_late", "_load_ns", "_taken")

    def __init__(
        self,
        frame: Frame,
        items: Sequence[Any],
        fn: Callable[..., Any],
        codec: Codec,
        link: Link,
        control: Control,
        terms: Terms,
        taken: int,
    ) -> None:
        """The worker has had it since `taken` (`perf_counter_ns`)."""
        self._durations: list[int] = []
        self._load_ns = 0
        super().__init__(frame, items, fn, codec, link, control, terms)
        self._taken = taken
        self._load_ns = self._since - taken
        self._late: tuple[int, int] | None = None  # when it was cut short, and in which item

    more_flags = fr.FLAG_TIMES

    def _caller(self, fn: Callable[..., Any]) -> tuple[Callable[[Any], Any], int]:
        call, ours = super()._caller(fn)
        if not self._frame.flags & fr.FLAG_MARK:
            return call, ours
        plain = self._frame.flags & (fr.FLAG_ALONE | fr.FLAG_BLOCK)
        clock, note = perf_counter_ns, self._durations.append

        def timed(item: Any) -> Any:
            began = clock()
            if not plain:
                item = _Loaded(item)
                loaded = clock()
                self._load_ns += loaded - began
                began = loaded
            try:
                return call(item)
            finally:
                note(clock() - began)

        return timed, ours + 1

    def _cut(self) -> bool:
        cut = super()._cut()
        if cut and self._inside and self._late is None:
            at = self._frame.first + self._reported + len(self._outcomes)
            self._late = at, perf_counter_ns()
        return cut

    def _times(self, first: int, count: int, ran: int) -> list[Buffer]:
        """The last segment of a report."""
        done = perf_counter_ns()
        load, self._load_ns = self._load_ns, 0
        used, others = _cpu.used(done)
        numbers = [
            self._taken, load, max(0, ran - self._taken - load), done - ran, used, others,
        ]  # fmt: skip
        durations = self._durations[:count]
        del self._durations[:count]
        if len(durations) == 1:
            numbers += first, durations[0]
        else:
            for place in nlargest(_SLOWEST, range(len(durations)), durations.__getitem__):
                numbers += first + place, durations[place]
        if self._late is not None and first <= self._late[0] < first + count:
            numbers += self._late[0], max(0, ran - self._late[1])
        self._taken = done
        return [array("q", numbers).tobytes()]
