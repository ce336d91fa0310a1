"""What both pictures of a profile are drawn from: a lane for each process, with bars on it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parmap._calls.recording import THIS_PROCESS
from parmap.observe._units import seconds, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parmap._calls.recording import CallRecord
    from parmap._calls.spans import Span

# A piece of a chunk that is shorter than this is no bar of its own.
_LEAST_NS = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took time; instants in ns from the beginning of the profile."""

    what: str
    title: str
    began: int
    ended: int
    facts: dict[str, Any]


@dataclass(slots=True)
class Lane:
    """One process (or thread of a foreign engine)."""

    name: str
    pid: int
    bars: list[Bar] = field(default_factory=list)


@dataclass(slots=True)
class Timeline:
    """All lanes, the caller's first."""

    length: int
    lanes: list[Lane]


def timeline(records: Sequence[CallRecord], began: int, until: int) -> Timeline:
    """What happened when."""
    caller = Lane(THIS_PROCESS, os.getpid())
    lanes: dict[str, Lane] = {}
    for record in records:
        for name, seen in record.workers.items():
            if name != THIS_PROCESS and name not in lanes:
                lanes[name] = Lane(name, seen.pid)
            lane = lanes.get(name, caller)
            if seen.started is not None and seen.ready is not None:
                lane.bars.append(
                    Bar("start-up", "start-up", seen.started - began, seen.ready - began, {})
                )
        caller.bars += [
            Bar(_short(each.what), f"{each.what}: {record.label}", each.began - began,
                each.ended - began, {"call": record.label})
            for each in list(record.doings)
        ]  # fmt: skip
        for span in list(record.spans):
            lanes.get(span.worker, caller).bars.extend(_bars(record, span, began))
    everything = [caller, *lanes.values()]
    for lane in everything:
        lane.bars.sort(key=lambda bar: bar.began)
    return Timeline(until - began, everything)


def _short(what: str) -> str:
    return {"reading input": "reading", "consuming": "consuming"}.get(what, what)


def _bars(record: CallRecord, span: Span, began: int) -> Iterator[Bar]:
    """The parts of a chunk's way through its worker."""
    slow = {index: ns for ns, index in record.slowest}
    last = span.first + span.items - 1
    items = f"item {span.first}" if span.items == 1 else f"items {span.first}-{last}"
    if span.chunks > 1:
        items = f"{span.items} items in {span.chunks} chunks, from {span.first} on"
    if record.kind == "short":
        items = f"{span.items} items"
    facts: dict[str, Any] = {
        "call": record.label, "items": items, "count": span.items,
        "sent": size(span.bytes_out), "back": size(span.bytes_back),
    }  # fmt: skip
    slowest = max(
        ((ns, index) for index, ns in slow.items() if span.first <= index <= last), default=None
    )
    if slowest is not None and span.items > 1:
        facts["slowest"] = f"item {slowest[1]} ({seconds(slowest[0] * 1e-9)})"
    title = f"{record.label}: {items}"
    parts = (
        ("unpickling", span.taken, span.loaded),
        ("running", span.loaded, span.ran),
        ("pickling", span.ran, span.dumped),
        ("sending", span.dumped, span.came),
    )
    for what, start, end in parts:
        if end - start >= _LEAST_NS or what == "running":
            name = title if what == "running" else f"{what}: {title}"
            yield Bar(what, name, start - began, max(start, end) - began, facts)
