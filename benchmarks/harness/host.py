"""A contestant's own process: makes the peer, then runs a round each time it is asked.

Started by `conduct.Host` as ``python -m benchmarks.harness.host FD SCENARIO VARIANT LABEL QUICK
CHUNK``. Each answer is ``(kind, value)``: ``ok`` with figures, ``skipped`` or ``failed`` with the
reason."""

from __future__ import annotations

import importlib
import sys
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from benchmarks.harness import peers
from benchmarks.harness.scenario import Contestant, Job, Scenario, Skipped, workers_of

if TYPE_CHECKING:
    from collections.abc import Callable


def load(name: str) -> Scenario:
    """`SCENARIO` of a module of `benchmarks/scenarios`, or of the module of a full name."""
    module = name if "." in name else f"benchmarks.scenarios.{name}"
    scenario = importlib.import_module(module).SCENARIO
    assert isinstance(scenario, Scenario)
    return scenario


class Contest:
    """One contestant of one variant."""

    def __init__(
        self,
        scenario: Scenario,
        contestant: Contestant,
        variant: str,
        quick: bool,
        chunk: int | None,
    ) -> None:
        self.scenario, self.contestant = scenario, contestant
        self.variant, self.quick = variant, quick
        self.chunk = chunk
        if chunk is None and len(contestant.chunks) == 1:
            (self.chunk,) = contestant.chunks
        self.workers = workers_of(variant)
        self.peer: peers.Peer | None = None

    def open(self) -> dict[str, Any]:
        peers.load(self.contestant.peer)
        if not self.scenario.fresh:
            self.peer = self.make()
            self.peer.warm()
        return {}

    def make(self) -> peers.Peer:
        return peers.PEERS[self.contestant.peer](self.workers, dict(self.contestant.options))

    def tune(self) -> dict[str, Any]:
        """Try each chunk size once, and keep the best."""
        candidates = self.contestant.chunks
        if len(candidates) > 1:
            times = {chunk: _cost(self._once(chunk)) for chunk in candidates}
            self.chunk = min(times, key=times.__getitem__)
        return {} if self.chunk is None else {"chunksize": self.chunk}

    def run(self) -> dict[str, Any]:
        if self.peer is not None:
            self.peer.warm()  # idle workers may have gone while others had their turn
        return self._once(self.chunk)

    def _once(self, chunk: int | None) -> dict[str, Any]:
        job = Job(self.make, self.peer, self.variant, chunk, self.quick, self.workers)
        self.scenario.run(job)
        return dict(job.figures)

    def close(self) -> dict[str, Any]:
        if self.peer is not None:
            self.peer.close()
        return {}


def _cost(figures: dict[str, float]) -> float:
    """What a tuner of chunk sizes looks at: the time of a call, or of many of them."""
    return figures["p50_us"] if "p50_us" in figures else figures["wall_ms"]


def answer(work: Callable[[], dict[str, Any]]) -> tuple[str, Any]:
    try:
        return "ok", work()
    except Skipped as why:
        return "skipped", str(why)
    except Exception as error:  # noqa: BLE001 - no peer's failure may stop the run
        traceback.print_exc()
        first = (str(error).splitlines() or [""])[0]
        return "failed", f"{type(error).__name__}: {first}"[:160]


def main() -> None:
    descriptor, name, variant, label, quick, chunk = sys.argv[1:]
    parent = Connection(int(descriptor))
    scenario = load(name)
    contestant = next(each for each in scenario.contestants(variant) if each.label == label)
    contest = Contest(scenario, contestant, variant, quick == "True", int(chunk) if chunk else None)
    while True:
        try:
            order = parent.recv()
        except EOFError:
            break
        parent.send(answer(getattr(contest, order)))
        if order == "close":
            break


if __name__ == "__main__":
    main()
