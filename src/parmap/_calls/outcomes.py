"""What became of the items: encoded reports into values and failures, in the caller's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parmap._calls.verdicts import error_of_lost
from parmap._wire.payload import ERROR, Item, unpack
from parmap._words import printable, short_repr
from parmap.errors import SerializationError, TaskFailure, attach_failure, attributes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from parmap._calls.news import Lost
    from parmap._wire.frames import Buffer
    from parmap._wire.pickling import Codec

    class Encoded(Protocol):
        """Outcomes as they came: a `Report`, or what a foreign engine has brought."""

        @property
        def first(self) -> int: ...
        @property
        def segments(self) -> Sequence[Buffer]: ...
        @property
        def block(self) -> bool: ...
        @property
        def worker(self) -> str: ...
        @property
        def pid(self) -> int: ...
        @property
        def attempt(self) -> int: ...
        def take_fds(self) -> Sequence[int]: ...


class Failed:
    """Marks a failed item among values: a value may be a TaskFailure itself (of a nested call)."""

    __slots__ = ("failure",)

    def __init__(self, failure: TaskFailure) -> None:
        self.failure = failure


class Batch:
    """The outcomes of the items from `first` on: values, and `Failed` in the place of failures."""

    __slots__ = ("failed", "first", "outcomes")

    def __init__(self, first: int, outcomes: list[Any], failed: int = 0) -> None:
        self.first: int = first
        self.outcomes: list[Any] = outcomes
        self.failed: int = failed  # how many of them are failures


class Reader:
    """Turns the news of one call into batches.  `item(index)` gives the item, for the note."""

    __slots__ = ("_codec", "_item")

    def __init__(self, codec: Codec, item: Callable[[int], object]) -> None:
        self._codec = codec
        self._item = item

    def read(self, report: Encoded) -> Batch:
        """Decode a report; a result that cannot be unpickled fails its own item only."""
        values = unpack(report.segments, report.take_fds(), report.block, self._codec)
        if report.block:
            return Batch(report.first, values if type(values) is list else list(values))
        outcomes = [
            self._load(item, report.first + place, report) for place, item in enumerate(values)
        ]
        failed = sum(type(outcome) is Failed for outcome in outcomes)
        return Batch(report.first, outcomes, failed)

    def lost(self, lost: Lost) -> Batch:
        """The batch of one for an item that has cost its worker."""
        dead, error = lost.dead, error_of_lost(lost)
        worker, pid = (dead.name, dead.pid) if dead is not None else ("none", 0)
        outcome = self.failed(error, lost.index, worker, pid, lost.attempts)
        return Batch(lost.index, [outcome], 1)

    def failed(
        self, error: BaseException, index: int, worker: str, pid: int, attempts: int = 1
    ) -> Failed:
        """The outcome of an item that failed with `error`, which gets its note."""
        if isinstance(error, StopIteration):
            error = _as_runtime_error(error, index)
        place = f"item {index} ({short_repr(self._item(index))})"
        note = f"parmap: {place}, worker {printable(worker)} (pid {pid}), attempt {attempts}"
        add_note(error, note)
        failure = TaskFailure(index, error, attempts)
        attach_failure(error, failure)
        return Failed(failure)

    def _load(self, item: Item, index: int, report: Encoded) -> Any:
        try:
            value = item.load()
        except KeyboardInterrupt:
            raise  # the user's, while we were busy for them
        except BaseException as error:  # __setstate__ may raise anything
            refusal = SerializationError(
                f"the result of item {index} could not be unpickled:"
                f" {type(error).__name__}: {short_text(error)}",
                direction="to caller",
                path="result",
            )
            refusal.__cause__ = error
            return self.failed(refusal, index, report.worker, report.pid, report.attempt)
        if item.kind == ERROR:
            return self.failed(value, index, report.worker, report.pid, report.attempt)
        return value


def add_note(error: BaseException, note: str) -> None:
    """Add a note, also to an exception that refuses attributes."""
    try:
        BaseException.add_note(error, note)
    except Exception:  # its __setattr__, or a __notes__ that is no list
        notes = attributes_of(error).setdefault("__notes__", [])
        if isinstance(notes, list):
            notes.append(note)


def short_text(error: BaseException) -> str:
    """The error's text, if it has one that can be told."""
    try:
        return str(error)
    except Exception:  # the user's __str__
        return "(its __str__ raised)"


def _as_runtime_error(error: StopIteration, index: int) -> RuntimeError:
    """As in a generator (PEP 479): a StopIteration that got through would end somebody's loop."""
    replacement = RuntimeError(f"item {index} raised StopIteration")
    replacement.__cause__ = error
    return replacement
