"""What a scenario is: which contestants do which work, how it is checked, what is measured."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.harness import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.figures import Figures
    from benchmarks.harness.peers import Peer

WORKERS = 2
TUNED = ", tuned"


class Skipped(Exception):  # noqa: N818 - not an error: it says why there is no number
    """This contestant cannot take part here; its text is printed."""


class WrongResultError(AssertionError):
    """A contestant was quick and wrong."""


def workers_of(variant: str) -> int:
    """Of "8 workers", 8."""
    number = variant.partition(" workers")[0]
    return int(number) if number.isdecimal() else WORKERS


@dataclass(frozen=True)
class Contestant:
    """One line of the table."""

    label: str
    peer: str  # a key of `peers.PEERS`
    chunks: tuple[int, ...] = ()  # several: the best of them is sought before the first round
    options: tuple[tuple[str, Any], ...] = ()


@dataclass
class Job:
    """What `Scenario.run` gets: one contestant, one variant, one round."""

    make: Callable[[], Peer]
    warm_peer: Peer | None  # None where nothing is to be warm: the scenario makes its own
    variant: str
    chunksize: int | None = None
    quick: bool = False
    workers: int = WORKERS
    figures: Figures = field(default_factory=dict)

    @property
    def peer(self) -> Peer:
        assert self.warm_peer is not None
        return self.warm_peer

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Wall time of the block, and CPU time of the whole process tree."""
        cpu = tree.cpu_seconds()
        began = time.perf_counter()
        yield
        self.figures["wall_ms"] = (time.perf_counter() - began) * 1e3
        self.figures["cpu_ms"] = (tree.cpu_seconds_after() - cpu) * 1e3

    def check(self, truth: bool, what: str) -> None:
        if not truth:
            raise WrongResultError(what)


@dataclass(frozen=True)
class Scenario:
    """`SCENARIO` in a module of `benchmarks/scenarios`."""

    run: Callable[[Job], None]
    contestants: Callable[[str], list[Contestant]]  # of a variant; parmap first, ratios are to it
    variants: tuple[str, ...] = ("",)
    quick_variants: tuple[str, ...] | None = None
    fresh: bool = False  # a new process for each round: nothing is warm
    bound: float = 60.0  # seconds that one round may take before it is ended


# The peers that take items and give results, with their default and with a tuned chunk size.
MAPPERS = (
    "parmap", "Pool.map", "Pool.imap", "Pool.imap_unordered", "Executor", "joblib", "loky", "mpire",
    "pebble", "fork",
)  # fmt: skip
UNTUNABLE = {"parmap", "fork", "loop"}  # the point of parmap; and the floor has no chunks


def contest(
    *peers: str, chunks: tuple[int, ...] = (), tuned_only: tuple[str, ...] = ()
) -> list[Contestant]:
    """Each peer at its default and, given chunk sizes to try, at the best of them."""
    contestants = []
    for peer in peers or MAPPERS:
        if peer not in tuned_only:
            contestants.append(Contestant(peer, peer))
        if chunks and peer not in UNTUNABLE:
            contestants.append(Contestant(peer + TUNED, peer, chunks))
    return contestants
