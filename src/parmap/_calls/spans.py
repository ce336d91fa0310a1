"""What a profile keeps of a call: spans of time, sums, and what each worker has done."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Span(NamedTuple):
    """Some items at one worker.  Instants are of `clock`, which all processes share."""

    worker: str
    first: int
    items: int
    taken: int  # the worker had it
    loaded: int  # ... had unpickled the arguments, as far as it tells them apart
    ran: int  # ... had run the items
    dumped: int  # ... had pickled the results
    came: int  # the caller had them
    bytes_out: int
    bytes_back: int
    chunks: int = 1


class Doing(NamedTuple):
    """What the caller's process did meanwhile."""

    what: str  # "pickling", "unpickling", "reading input", "consuming"
    began: int
    ended: int


@dataclass(slots=True)
class Seen:
    """What one worker has done for one call."""

    name: str
    pid: int
    started: int | None = None  # when it was started for this call; None: it was there before
    ready: int | None = None
    items: int = 0
    chunks: int = 0
    load: int = 0
    run: int = 0
    dump: int = 0
    send: int = 0
    dumped: int = 0  # of its last span, like the next one
    came: int = 0


@dataclass(slots=True)
class Totals:
    """Sums over one or more calls; times in ns."""

    calls: int = 0
    items: int = 0
    chunks: int = 0
    wall: int = 0
    startup: int = 0
    # in the caller's process
    pickling: int = 0
    unpickling: int = 0
    reading: int = 0
    consuming: int = 0
    # at the workers
    load: int = 0
    run: int = 0
    dump: int = 0
    send: int = 0
    cpu: int = 0
    other_cpu: int = 0  # of threads other than the one that runs the items
    bytes_out: int = 0
    bytes_back: int = 0
    function_bytes: int = 0
    repeated_bytes: int = 0  # of chunks with an argument that the chunk before had, too
    smallest: int = 0  # chunk
    largest: int = 0

    def add(self, other: Totals) -> None:
        """Take these in, too."""
        smallest = min(filter(None, (self.smallest, other.smallest)), default=0)
        largest = max(self.largest, other.largest)
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.smallest, self.largest = smallest, largest


def halved_spans(spans: Sequence[Span]) -> list[Span]:
    """Two neighbours of one worker become one span."""
    halved: list[Span] = []
    waiting: dict[str, Span] = {}
    for span in spans:
        before = waiting.pop(span.worker, None)
        if before is None:
            waiting[span.worker] = span
            continue
        load = before.loaded - before.taken + span.loaded - span.taken
        dump = before.dumped - before.ran + span.dumped - span.ran
        halved.append(
            Span(
                span.worker, min(before.first, span.first), before.items + span.items, before.taken,
                min(before.taken + load, span.ran), max(span.dumped - dump, before.taken + load),
                span.dumped, span.came, before.bytes_out + span.bytes_out,
                before.bytes_back + span.bytes_back, before.chunks + span.chunks,
            )
        )  # fmt: skip
    return halved + list(waiting.values())


def halved_doings(doings: Sequence[Doing]) -> list[Doing]:
    halved: list[Doing] = []
    waiting: dict[str, Doing] = {}
    for doing in doings:
        before = waiting.pop(doing.what, None)
        if before is None:
            waiting[doing.what] = doing
        else:
            halved.append(Doing(doing.what, before.began, doing.ended))
    return halved + list(waiting.values())
