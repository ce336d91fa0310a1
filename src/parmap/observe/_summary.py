"""A profile as text: where the time went, in two small tables, and the diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap.observe._figures import S, by_worker, costliest
from parmap.observe._units import percent, seconds, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._calls.recording import CallRecord
    from parmap._calls.spans import Seen
    from parmap.observe._diagnosis import Diagnosis
    from parmap.observe._figures import Group

# More lines than these would not be read.
_MOST_ROWS = 12

_CALLS = ("calls", "items", "time", "running", "chunks", "sent", "back")
_WORKERS = ("items", "start-up", "unpickling", "running", "pickling", "sending back", "idle")


def summary(records: Sequence[CallRecord], groups: Sequence[Group], diagnosis: Diagnosis) -> str:
    """The whole text, without a newline at its end."""
    parts = []
    if groups:
        parts += [_calls(groups), _callers(groups), _workers(records), _slowest(groups)]
    return "\n\n".join([*filter(None, parts), str(diagnosis)])


def _calls(groups: Sequence[Group]) -> str:
    rows: list[tuple[str, ...]] = [("function", *_CALLS)]
    shown = sorted(groups, key=lambda group: -group.totals.wall)
    for group in shown[:_MOST_ROWS]:
        t = group.totals
        rows.append((
            f"{group.label} ({_how(group)})", f"{t.calls:,}", f"{t.items:,}", seconds(t.wall * S),
            seconds(t.run * S), _sizes(group), size(t.bytes_out + t.function_bytes),
            size(t.bytes_back),
        ))  # fmt: skip
    return _table(rows, len(shown) - _MOST_ROWS)


def _how(group: Group) -> str:
    number = len(group.workers)
    if group.kind in {"workers", "submit", "short"}:
        return f"{number} worker{'s' * (number != 1)}"
    return group.kind


def _sizes(group: Group) -> str:
    t = group.totals
    if not t.chunks:
        return "-"
    span = f"{t.smallest:,}" if t.smallest == t.largest else f"{t.smallest:,}-{t.largest:,}"
    return f"{t.chunks:,} of {span}"


def _callers(groups: Sequence[Group]) -> str:
    """The caller's process, of the time of all calls."""
    wall = sum(group.totals.wall for group in groups)
    parts = {
        "start-up": sum(group.totals.startup for group in groups),
        "pickling": sum(group.totals.pickling for group in groups),
        "unpickling": sum(group.totals.unpickling for group in groups),
        "reading input": sum(group.totals.reading for group in groups),
        "your own code": sum(group.totals.consuming for group in groups),
    }
    parts["waiting"] = max(0, wall - sum(parts.values()))
    told = ", ".join(f"{name} {percent(ns / wall)}" for name, ns in parts.items() if ns and wall)
    return f"this process: {told}"


def _workers(records: Sequence[CallRecord]) -> str:
    rows: list[tuple[str, ...]] = [("worker", *_WORKERS)]
    found = list(by_worker(records).values())
    for seen, present in found[:_MOST_ROWS]:
        rows.append((seen.name, f"{seen.items:,}", *_shares(seen, present)))
    return _table(rows, len(found) - _MOST_ROWS)


def _shares(seen: Seen, present: int) -> list[str]:
    start = seen.ready - seen.started if seen.started and seen.ready else 0
    parts = [start, seen.load, seen.run, seen.dump, seen.send]
    parts.append(max(0, present - sum(parts)))
    whole = max(1, *parts, sum(parts))
    return [percent(part / whole) if part else "-" for part in parts]


def _slowest(groups: Sequence[Group]) -> str:
    group = costliest(groups)
    if group is None or not group.slowest:
        return ""
    items = ", ".join(f"{index} ({seconds(ns * S)})" for ns, index in group.slowest[:5])
    return f"slowest items of {group.label}: {items}"


def _table(rows: Sequence[Sequence[str]], left_out: int) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
    if left_out > 0:
        lines.append(f"... and {left_out} more")
    return "\n".join(lines)
