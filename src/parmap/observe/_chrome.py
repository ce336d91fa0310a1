"""A profile as a Chrome trace: https://ui.perfetto.dev and chrome://tracing open it.

The "Trace Event Format": complete events (``ph: "X"``) with instants and durations in microseconds,
metadata events (``ph: "M"``) that name processes and threads.  Each worker is a process of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parmap.observe._timeline import Timeline

_US = 1e-3  # of a nanosecond


def chrome_trace(timeline: Timeline, about: dict[str, str]) -> dict[str, Any]:
    """The object to write as JSON."""
    return {
        "traceEvents": list(_events(timeline)),
        "displayTimeUnit": "ms",
        "otherData": about,
    }


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for order, lane in enumerate(timeline.lanes):
        # A thread of a foreign engine lives in our own process, next to the caller's lane.
        pid = lane.pid or os.getpid()
        place = {"pid": pid, "tid": order}
        yield {"ph": "M", "name": "process_name", **place, "args": {"name": lane.name}}
        yield {"ph": "M", "name": "thread_name", **place, "args": {"name": lane.name}}
        yield {"ph": "M", "name": "process_sort_index", **place, "args": {"sort_index": order}}
        for bar in lane.bars:
            yield {
                "ph": "X", "name": bar.title, "cat": bar.what, "ts": bar.began * _US,
                "dur": (bar.ended - bar.began) * _US, **place, "args": bar.facts,
            }  # fmt: skip
