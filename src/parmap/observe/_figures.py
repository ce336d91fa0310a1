"""From the records of a profile to figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parmap._calls.recording import THIS_PROCESS, clock
from parmap._calls.spans import Totals
from parmap.observe._diagnosis import Figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._calls.recording import CallRecord
    from parmap._calls.spans import Seen

S = 1e-9  # of a nanosecond


@dataclass(slots=True)
class Group:
    """The calls of one function in one way to run them."""

    label: str
    kind: str
    cap: int = 0
    totals: Totals = field(default_factory=Totals)
    workers: set[str] = field(default_factory=set)
    slowest: list[tuple[int, int]] = field(default_factory=list)  # (ns, index), slowest first

    def figures(self, cpus: int) -> Figures:
        """What the diagnosis is made from."""
        t = self.totals
        slowest, index = self.slowest[0] if self.slowest else (0, 0)
        return Figures(
            wall=t.wall * S,
            items=t.items,
            workers=max(1, len(self.workers)),
            cap=self.cap or len(self.workers),
            cpus=cpus,
            running=t.run * S,
            startup=t.startup * S,
            pickling_arguments=(t.pickling + t.load) * S,
            pickling_results=(t.dump + t.send + t.unpickling) * S,
            reading=t.reading * S,
            consuming=t.consuming * S,
            bytes_out=t.bytes_out,
            bytes_back=t.bytes_back,
            repeated_bytes=t.repeated_bytes,
            function_bytes=t.function_bytes,
            calls=t.calls,
            cpu=t.cpu * S,
            other_cpu=t.other_cpu * S,
            slowest=slowest * S,
            slowest_index=index,
            inline=self.kind == THIS_PROCESS,
        )


def grouped(records: Sequence[CallRecord]) -> list[Group]:
    """The calls by function and way, in the order of the first of each."""
    now = clock()
    groups: dict[tuple[str, str], Group] = {}
    for record in records:
        kind = record.kind.partition(",")[0]
        group = groups.setdefault((record.label, kind), Group(record.label, kind))
        group.cap = max(group.cap, record.cap)
        group.totals.add(record.totals)
        if record.ended is None:  # it goes on
            group.totals.calls += 1
            group.totals.wall += now - record.began
        group.workers |= record.workers.keys()
        group.slowest = sorted([*group.slowest, *record.slowest], reverse=True)[:10]
    return list(groups.values())


def costliest(groups: Sequence[Group]) -> Group | None:
    """The one to speak of: where most of the time went."""
    return max(groups, key=lambda group: group.totals.wall, default=None)


def by_worker(records: Sequence[CallRecord]) -> dict[str, tuple[Seen, int]]:
    """What each worker has done for all calls, and the time (ns) that it was there for them."""
    found: dict[str, tuple[Seen, int]] = {}
    for record in records:
        end = record.ended or clock()
        for name, seen in record.workers.items():
            present = end - max(record.began, seen.started or 0)
            if record.kind == "short":
                present = record.totals.wall
            if name not in found:
                found[name] = _copy(seen), present
                continue
            sum_, before = found[name]
            for each in ("items", "chunks", "load", "run", "dump", "send"):
                setattr(sum_, each, getattr(sum_, each) + getattr(seen, each))
            sum_.started, sum_.ready = sum_.started or seen.started, sum_.ready or seen.ready
            found[name] = sum_, before + present
    return found


def _copy(seen: Seen) -> Seen:
    from dataclasses import replace

    return replace(seen)
