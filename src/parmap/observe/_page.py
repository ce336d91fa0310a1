"""A profile as one HTML page: nothing is fetched, no library is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parmap.observe._units import percent, seconds

if TYPE_CHECKING:
    from parmap.observe._diagnosis import Diagnosis
    from parmap.observe._timeline import Bar, Timeline

_TEMPLATE = Path(__file__).with_name("_page.html")

# In the order of an item's way; the page has a colour for each.
_WORDS = {
    "start-up": "starting",
    "pickling": "pickling",
    "sending": "sending back",
    "unpickling": "unpickling",
    "running": "running your code",
    "reading": "reading input",
    "consuming": "your code between results",
}


def page(timeline: Timeline, summary: str, diagnosis: Diagnosis, about: dict[str, str]) -> str:
    """The whole page."""
    data = {**_drawing(timeline), **_words(timeline, about)}
    data |= {"summary": summary, "diagnosis": diagnosis.text, "fault": diagnosis.fault}
    # In a script no text may end it, or begin a comment.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace("@@DATA@@", text)


def _drawing(timeline: Timeline) -> dict[str, Any]:
    """Bars as short rows: kind, begin, end (in microseconds), and which chunk they belong to."""
    used = {bar.what for lane in timeline.lanes for bar in lane.bars}
    kinds = [kind for kind in _WORDS if kind in used]
    chunks: list[dict[str, Any]] = []
    places: dict[int, int] = {}  # the facts of one chunk are one object

    def row(bar: Bar) -> list[float]:
        place = places.setdefault(id(bar.facts), len(chunks))
        if place == len(chunks):
            chunks.append(bar.facts)
        return [kinds.index(bar.what), _us(bar.began), _us(bar.ended), place]

    lanes = [
        {"name": lane.name, "bars": [row(bar) for bar in lane.bars]} for lane in timeline.lanes
    ]
    return {
        "length": max(1.0, _us(timeline.length)), "lanes": lanes, "chunks": chunks,
        "kinds": kinds, "words": _WORDS,
    }  # fmt: skip


def _us(ns: int) -> float:
    return max(0, ns) / 1000


def _words(timeline: Timeline, about: dict[str, str]) -> dict[str, Any]:
    workers = timeline.lanes[1:] or timeline.lanes  # the first is the caller's own
    running = [bar for lane in workers for bar in lane.bars if bar.what == "running"]
    busy = sum(bar.ended - bar.began for bar in running)
    items = sum(bar.facts.get("count", 0) for bar in running)
    share = busy / (timeline.length * len(workers)) if workers and timeline.length else 0.0
    return {
        "about": f"parmap {about['parmap']}, {about['python']}, {about['cpus']} CPUs",
        "figures": [
            ["block", seconds(timeline.length * 1e-9)],
            ["items", f"{items:,}"],
            ["workers", str(len(workers))],
            ["running your code", percent(share)],
        ],
    }
