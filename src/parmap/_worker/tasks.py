"""One chunk, item by item: run, gather, report.

Results go back at the latest every few milliseconds, so that a crash loses little and a stream
flows; a chunk that turns out dearer than meant gives its rest back, for other workers to run.
"""

from __future__ import annotations

from time import monotonic_ns, perf_counter_ns

from parmap._wire import frames as fr
from parmap._wire.control import NOTHING, SOMETHING
from parmap._wire.frames import Frame, pack_frame
from parmap._wire.payload import ERROR, PayloadBuilder, pack_values
from parmap._worker import hygiene, memory
from parmap._worker.bound import frames_around
from parmap._worker.hygiene import Terminated, flush_streams

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parmap._memory.fdpass import Link
    from parmap._wire.control import Control
    from parmap._wire.payload import Item
    from parmap._wire.pickling import Codec
    from parmap._worker.retried import Retried

# Finished results wait this long at most for the rest of their chunk.
REPORT_EVERY_NS = 4_000_000
# Unmarked items are this cheap that a look at the clock and the drop word for each would show.
# Between two looks so many are run: if they have become dear meanwhile, so many run unseen.
STRIDE = 64


class ChunkRun:
    """The run of one chunk.  Used once."""

    __slots__ = (
        "_call", "_codec", "_control", "_errors", "_frame", "_inside", "_link", "_outcomes",
        "_reported", "_retried", "_since", "_skip",
    )  # fmt: skip

    def __init__(
        self,
        frame: Frame,
        fn: Callable[..., Any],
        codec: Codec,
        link: Link,
        control: Control,
        retried: Retried,
    ) -> None:
        self._frame = frame
        self._call, self._skip = _caller(fn, frame.flags)
        self._codec = codec
        self._link = link
        self._control = control
        self._retried = retried
        self._inside = False  # among the items, and so able to say which one it is
        self._outcomes: list[Any] = []  # since the last report
        self._errors: dict[int, BaseException] = {}  # place in _outcomes -> error
        self._reported = 0
        self._since = perf_counter_ns()

    def run(self, items: Sequence[Any]) -> None:
        """Run the items in order and report on them; the last report closes the chunk."""
        frame, control = self._frame, self._control
        marked = bool(frame.flags & fr.FLAG_MARK)
        stride = 1 if marked else STRIDE
        patience = frame.extra or None
        began = self._since
        hygiene.tell_where = self.tell_where
        for start in range(0, frame.count, stride):
            if control.drop >= frame.chunk:
                break
            if marked:
                control.began = monotonic_ns()
                control.running = frame.first + start + 1
            else:
                control.running = SOMETHING
            self._run_some(items[start : start + stride])
            if hygiene.told_to_go:
                raise Terminated(hygiene.EXIT_TERMINATED)
            if self._errors and frame.flags & fr.FLAG_STOP_ON_FAILURE:
                break
            now = perf_counter_ns()
            if memory.is_bloated:
                break
            if patience is not None and now - began > patience:
                break
            if now - self._since > REPORT_EVERY_NS and start + stride < frame.count:
                self._report(now)
        self._report(perf_counter_ns(), last=True)
        hygiene.tell_where = None

    def tell_where(self) -> None:
        """Answer the parent's question (from a signal's handler, between any two instructions)."""
        if self._inside:
            self._control.answer(self._frame.first + self._reported + len(self._outcomes))

    def _run_some(self, items: Sequence[Any]) -> None:
        """Run a few items; an error is the outcome of its item, and the next one follows."""
        call, rest = self._call, iter(items)
        while True:
            outcomes = self._outcomes
            self._inside = True
            try:
                for item in rest:
                    outcomes.append(call(item))
            except Terminated:
                raise
            except BaseException as error:  # whatever it is, it is that item's
                self._inside = False
                if self._retried and self._retried.covers(error):
                    self._report_retried(error)
                    continue
                self._errors[len(outcomes)] = error
                outcomes.append(None)
                if self._frame.flags & fr.FLAG_STOP_ON_FAILURE:
                    return
            else:
                self._inside = False
                return

    def _report_retried(self, error: BaseException) -> None:
        """Alone, so that the parent can keep it to itself.  Whether it is the last attempt, and so
        may end the call, the parent knows."""
        if self._outcomes:
            self._report(perf_counter_ns())
        self._errors[0] = error
        self._outcomes.append(None)
        self._report(perf_counter_ns(), retried=True)

    def _report(self, now: int, *, last: bool = False, retried: bool = False) -> None:
        outcomes, self._outcomes = self._outcomes, []
        errors, self._errors = self._errors, {}
        # If a result's own pickling ends the process, it is that of one item, or of any of these.
        alone = len(outcomes) == 1 and self._frame.flags & fr.FLAG_MARK
        first = self._frame.first + self._reported
        self._control.running = first + 1 if alone else SOMETHING
        if errors:
            builder = PayloadBuilder(self._codec)
            for place, value in enumerate(outcomes):
                if place in errors:
                    builder.add_error(errors[place], skip_frames=self._skip)
                else:
                    builder.add_value(value, _result, place)
            payload = builder.build()
        else:
            payload = pack_values(outcomes, self._codec, _result)
        flags = (
            (fr.FLAG_LAST if last else 0)
            | (fr.FLAG_BLOCK if payload.block else 0)
            | (fr.FLAG_FAILURES if payload.failures else 0)
            | (fr.FLAG_RETRIED if retried else 0)
            | (fr.FLAG_BLOATED if memory.look() else 0)
        )
        frame = Frame(
            fr.RESULTS,
            call=self._frame.call,
            chunk=self._frame.chunk,
            first=first,
            count=len(outcomes),
            flags=flags,
            extra=now - self._since,
            segments=payload.segments,
            fds=payload.fds,
        )
        flush_streams()
        # The items are done: a death while their results are written is no item's fault.
        self._control.running = NOTHING
        self._link.send_all(pack_frame(frame), frame.fds)
        payload.close()
        self._reported += len(outcomes)
        self._since = perf_counter_ns()


def _result(place: int) -> str:
    return "result"


def _caller(fn: Callable[..., Any], flags: int) -> tuple[Callable[[Any], Any], int]:
    """What turns an item as it came into a result, and how many of our own frames that puts around
    the user's."""
    ours = 1 + frames_around(fn)
    block, star = flags & fr.FLAG_BLOCK, flags & fr.FLAG_STAR
    if block and star:
        return lambda arguments: fn(*arguments), ours + 1
    if block:
        return fn, ours
    if star:
        return lambda item: fn(*_load(item)), ours + 1
    return lambda item: fn(_load(item)), ours + 1


def _load(item: Item) -> Any:
    """The argument of one item.  It may have failed to be pickled by the caller, or fail here."""
    try:
        value = item.load()
    except Terminated:
        raise
    except BaseException as error:
        from parmap.errors import SerializationError

        raise SerializationError(
            f"an argument could not be unpickled: {type(error).__name__}: {error}",
            direction="to worker",
            path="args",
        ) from error
    if item.kind == ERROR:
        raise value
    return value
