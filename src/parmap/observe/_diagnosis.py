"""From figures to one sentence: what keeps the calls of a profile from being faster, and the cure.

A pure function.  The rules are asked in their order, and the first that applies speaks: first those
where the workers were not even needed, then those about what travels, then those about the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from parmap.observe._units import percent, seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable


class Fault(Enum):
    """What a diagnosis can be."""

    NOTHING_RAN = "nothing ran"
    INLINE = "inline"
    SLOW_CONSUMER = "slow consumer"
    SLOW_PRODUCER = "slow producer"
    START_UP = "start-up"
    GIANT_ITEM = "giant item"
    REPEATED_ARGUMENT = "repeated argument"
    REPEATED_FUNCTION = "repeated function"
    BIG_ARGUMENTS = "big arguments"
    BIG_RESULTS = "big results"
    TINY_TASKS = "tiny tasks"
    TOO_MANY_THREADS = "too many threads"
    TOO_FEW_WORKERS = "too few workers"
    ALL_GOOD = "all good"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a profile says of its calls.

    Attributes:
        fault: its kind, in two words: ``"giant item"``, ``"all good"``, ...
        text: one sentence, with the cure.
    """

    fault: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The calls of one function together, in seconds and bytes.

    `running` is the sum over all workers: about what the loop would have taken.
    """

    wall: float
    items: int
    workers: int  # that have run something
    cap: int  # that might have
    cpus: int
    running: float
    startup: float = 0.0
    pickling_arguments: float = 0.0  # both sides of each way
    pickling_results: float = 0.0
    reading: float = 0.0
    consuming: float = 0.0
    bytes_out: int = 0
    bytes_back: int = 0
    repeated_bytes: int = 0
    function_bytes: int = 0
    calls: int = 1
    cpu: float = 0.0
    other_cpu: float = 0.0
    slowest: float = 0.0
    slowest_index: int = 0
    inline: bool = False

    @property
    def work(self) -> float:
        """All that kept somebody busy."""
        return self.running + self.pickling_arguments + self.pickling_results

    @property
    def speedup(self) -> float:
        """How many times as fast as the loop, about."""
        return self.running / self.wall if self.wall > 0 else 0.0

    def share(self, seconds: float) -> float:
        """Of the time of the calls."""
        return min(1.0, seconds / self.wall) if self.wall > 0 else 0.0


# From here on a part of the time is what the time went for.
MAJOR = 0.5
# Pickling is rarely more than half even where it is the trouble: sending is as much again.
PICKLING = 0.4
# Less than this per item is not worth shrinking.
BIG_BYTES = 4096
# Items shorter than this are called tiny, if parallel was no faster than the loop.
TINY_SECONDS = 200e-6
# A giant is so many times as long as the mean of the others.
GIANT = 4.0
# So much of the workers' time spent running is as good as it gets on a shared machine.
GOOD = 0.7


def diagnose(figures: Figures | None) -> Diagnosis:
    """The one sentence."""
    if figures is None or figures.items == 0:
        return Diagnosis(
            Fault.NOTHING_RAN.value,
            "Nothing ran: no item of a parallel call has finished in the block.",
        )
    for fault, applies, tell in _RULES:
        if applies(figures):
            return Diagnosis(fault.value, tell(figures))
    return Diagnosis(Fault.MIXED.value, _mixed(figures))


def _is_giant(f: Figures) -> bool:
    others = (f.running - f.slowest) / max(1, f.items - 1)
    return f.items > 1 and f.share(f.slowest) >= MAJOR and f.slowest >= GIANT * others


def _is_repeated(f: Figures) -> bool:
    return _arguments_weigh(f) and f.repeated_bytes >= 0.5 * f.bytes_out


def _arguments_weigh(f: Figures) -> bool:
    big = f.bytes_out / f.items >= BIG_BYTES
    return big and f.pickling_arguments >= max(PICKLING * f.work, 0.1 * f.wall)


def _function_weighs(f: Figures) -> bool:
    """One that carries data, sent to each worker and for each call anew."""
    heavy = f.function_bytes > 1_000_000 and f.function_bytes > 4 * f.bytes_out
    return heavy and f.calls > 1 and f.speedup < MAJOR * f.workers


def _results_weigh(f: Figures) -> bool:
    big = f.bytes_back / f.items >= BIG_BYTES
    return big and f.pickling_results >= max(PICKLING * f.work, 0.1 * f.wall)


def _are_tiny(f: Figures) -> bool:
    return f.running / f.items < TINY_SECONDS and f.speedup < 1.0


def _threads(f: Figures) -> float:
    """How many threads of a worker compute at the same time, about."""
    own = f.cpu - f.other_cpu
    return f.cpu / own if own > 0 else 1.0


def _are_oversubscribed(f: Figures) -> bool:
    threads = _threads(f)
    return f.cpu > 0.1 * f.running and threads >= 1.5 and threads * f.workers > 1.25 * f.cpus


def _are_too_few(f: Figures) -> bool:
    return f.cap < min(f.cpus, f.items) and f.running >= GOOD * f.wall * f.workers


_Rule = tuple[Fault, "Callable[[Figures], bool]", "Callable[[Figures], str]"]

_RULES: tuple[_Rule, ...] = (
    (
        Fault.INLINE,
        lambda f: f.inline,
        lambda f: (
            "max_workers=0 runs every item in this process, one after the other: leave it away"
            " to use all CPUs."
        ),
    ),
    (
        Fault.SLOW_CONSUMER,
        lambda f: f.share(f.consuming) >= MAJOR,
        lambda f: (
            f"{percent(f.share(f.consuming))} of the time your own code was busy with the"
            " results and the workers waited for it: do that part in the workers, too."
        ),
    ),
    (
        Fault.SLOW_PRODUCER,
        lambda f: f.share(f.reading) >= MAJOR,
        lambda f: (
            f"{percent(f.share(f.reading))} of the time went into reading the input: send what"
            " is cheap to make (names, indexes) and load the rest in the workers."
        ),
    ),
    (
        Fault.START_UP,
        lambda f: f.share(f.startup) >= MAJOR,
        lambda f: (
            f"{percent(f.share(f.startup))} of the time went into starting workers"
            f" ({seconds(f.startup)}): they stay warm for the next call, so give them more to do"
            " in one program, or use the loop."
        ),
    ),
    (
        Fault.REPEATED_ARGUMENT,
        _is_repeated,
        lambda f: (
            f"The same argument is sent again and again ({size(f.bytes_out)} in all): bind it"
            " with functools.partial, which sends it once to each worker, or use a SharedArray."
        ),
    ),
    (
        Fault.REPEATED_FUNCTION,
        _function_weighs,
        lambda f: (
            f"The function carries data along and was sent anew for each of {f.calls} calls"
            f" ({size(f.function_bytes)}): make one call of them, load the data in a Pool's"
            " initializer, or use a SharedArray."
        ),
    ),
    (
        Fault.BIG_RESULTS,
        lambda f: _results_weigh(f) and f.pickling_results >= f.pickling_arguments,
        lambda f: (
            f"{percent(f.pickling_results / f.work)} is spent pickling results"
            f" ({size(f.bytes_back / f.items)} each): return less, or use SharedArray."
        ),
    ),
    (
        Fault.BIG_ARGUMENTS,
        _arguments_weigh,
        lambda f: (
            f"{percent(f.pickling_arguments / f.work)} is spent pickling arguments"
            f" ({size(f.bytes_out / f.items)} each): send less (a name, an index), or use"
            " SharedArray."
        ),
    ),
    (
        Fault.GIANT_ITEM,
        _is_giant,
        lambda f: (
            f"Item {f.slowest_index} took {percent(f.share(f.slowest))} of the time"
            f" ({seconds(f.slowest)}): split it, or put it first."
        ),
    ),
    (
        Fault.TINY_TASKS,
        _are_tiny,
        lambda f: (
            f"Tasks take {seconds(f.running / f.items)}: the loop is faster; do more in each"
            " task, or keep the loop."
        ),
    ),
    (
        Fault.TOO_MANY_THREADS,
        _are_oversubscribed,
        lambda f: (
            f"Each of {f.workers} workers computes with about {_threads(f):.0f} threads on"
            f" {f.cpus} CPUs, and they are in each other's way: set OMP_NUM_THREADS=1 (and"
            " OPENBLAS_NUM_THREADS, MKL_NUM_THREADS) before the workers start, or use fewer workers."
        ),
    ),
    (
        Fault.TOO_FEW_WORKERS,
        _are_too_few,
        lambda f: (
            f"{f.cap} of {f.cpus} CPUs did all the work without a pause: allow more workers"
            " (max_workers)."
        ),
    ),
    (
        Fault.ALL_GOOD,
        lambda f: f.running >= GOOD * f.wall * f.workers,
        lambda f: (
            f"All good: {_workers(f.workers)} ran your code"
            f" {percent(f.share(f.running / f.workers))} of the time, {f.speedup:.1f} times as"
            " much of it as one loop could have."
        ),
    ),
)


def _mixed(f: Figures) -> str:
    """Nothing stands out: what is largest after running itself."""
    busy = f.running / max(1, f.workers)
    parts = {
        "start-up": f.startup,
        "pickling arguments": f.pickling_arguments,
        "pickling results": f.pickling_results,
        "reading the input": f.reading,
        "your code between results": f.consuming,
    }
    parts["workers waiting for work"] = max(0.0, f.wall - busy - sum(parts.values()))
    name = max(parts, key=parts.__getitem__)
    return (
        f"No single fault: {_workers(f.workers)} ran your code {percent(f.share(busy))} of the"
        f" time; the next largest part is {name} ({percent(f.share(parts[name]))})."
    )


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"
