"""Run the contestants of a scenario in turn, each in a process of its own, and gather what they say.

Round by round through all of them, so that a noisy moment of the machine hits all. Nothing that a
contestant does, or fails to do, ends the run: it is noted, and the others go on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.harness import tree
from benchmarks.harness.figures import Figures, medians
from benchmarks.harness.host import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.scenario import Contestant, Scenario

ROOT = Path(__file__).resolve().parents[2]
GLANCE = 0.25  # seconds between two looks whether a contestant has died
SAMPLE = 0.01  # ... and between two looks at its memory, in the round for that
CLOSING = 10.0


class NoAnswerError(Exception):
    """The contestant's process died, or was ended because it took too long."""


@dataclass(frozen=True)
class Settings:
    rounds: int = 7
    quick: bool = False
    budget: float = 30.0  # seconds of rounds for one contestant of one variant; then it sits out
    peers: tuple[str, ...] = ()  # only these


class Host:
    """A contestant's process, seen from here."""

    def __init__(
        self, scenario: str, variant: str, label: str, quick: bool, chunk: int | None
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._ours, theirs = Pipe()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.harness.host",
                str(theirs.fileno()), scenario, variant, label, str(quick),
                "" if chunk is None else str(chunk),
            ],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=self._errors, env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, order: str, bound: float, look: Callable[[], object] | None = None) -> Any:
        """The answer to `order`; meanwhile `look`, when given, again and again."""
        try:
            self._ours.send(order)
            deadline = time.monotonic() + bound
            while not self._ours.poll(SAMPLE if look else GLANCE):
                # Its workers may hold copies of the pipe: its death need not show there.
                if self._process.poll() is not None and not self._ours.poll():
                    raise NoAnswerError(
                        f"died with exit code {self._process.returncode}{self._said()}"
                    )
                if time.monotonic() > deadline:
                    raise NoAnswerError(f"ended after {bound:.0f} s without an answer")
                if look:
                    look()
            return self._ours.recv()
        except (EOFError, OSError) as broken:
            self._process.wait(CLOSING)
            raise NoAnswerError(
                f"died with exit code {self._process.returncode}{self._said()}"
            ) from broken

    def _said(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f" ({lines[-1][:120]})" if lines else ""

    def end(self) -> None:
        """Politely, then not."""
        if self._process.poll() is None:
            try:
                self.ask("close", CLOSING)
                self._process.wait(CLOSING)
            except (NoAnswerError, subprocess.TimeoutExpired):
                pass
        self.kill()

    def kill(self) -> None:
        """With whatever it has started."""
        if self._ours.closed:
            return  # its number may be another's by now
        tree.end(self.pid)
        self._process.wait()
        self._ours.close()
        self._errors.close()


@dataclass
class Entry:
    """What a contestant has shown so far."""

    contestant: Contestant
    host: Host | None = None
    chunk: int | None = None  # the best of those tried
    rounds: list[Figures] = field(default_factory=list)
    memory: Figures = field(default_factory=dict)
    note: str = ""
    out: bool = False
    spent: float = 0.0

    def figures(self) -> Figures:
        return medians(self.rounds) | self.memory if self.rounds else {}


@dataclass(frozen=True)
class Heat:
    """One variant of one scenario."""

    name: str
    scenario: Scenario
    variant: str
    settings: Settings

    def start(self, entry: Entry) -> Host:
        return Host(
            self.name, self.variant, entry.contestant.label, self.settings.quick, entry.chunk
        )

    def prepare(self, entry: Entry) -> None:
        entry.host = self.start(entry)
        bound = self.scenario.bound * max(1, len(entry.contestant.chunks))
        if self._ask(entry, "open", CLOSING * 3) is None:
            return
        tuned = self._ask(entry, "tune", bound)
        if tuned:
            entry.chunk = tuned["chunksize"]
            entry.note = f"chunksize {tuned['chunksize']}"

    def run(self, entry: Entry) -> None:
        """One round of one contestant, unless it has used up its time."""
        if entry.out or (entry.rounds and self.settings.budget < entry.spent):
            return
        began = time.monotonic()
        if self.scenario.fresh:
            with self.start(entry) as entry.host:
                figures = self._ask(entry, "run", self.scenario.bound, first="open")
        else:
            figures = self._ask(entry, "run", self.scenario.bound)
        entry.spent += time.monotonic() - began
        if figures is not None:
            entry.rounds.append(figures)

    def weigh(self, entry: Entry) -> None:
        """One more round, for the memory alone: looking at it would disturb the others. In a fresh
        process, since one that has done this before holds what it took then."""
        if entry.out or entry.host is None or self.scenario.fresh:
            return
        if entry.spent > self.settings.budget * len(entry.rounds):
            return  # a single round has taken all of its time: no second for this
        entry.host.end()
        host = entry.host = self.start(entry)
        if self._ask(entry, "open", CLOSING * 3) is None:
            return
        before = peak = tree.memory_mb(host.pid)

        def look() -> None:
            nonlocal peak
            peak = max(peak, tree.memory_mb(host.pid))

        if self._ask(entry, "run", self.scenario.bound * 2, look=look) is not None:
            entry.memory = {"pss_mb": peak, "grown_mb": peak - before}

    def _ask(
        self, entry: Entry, order: str, bound: float,
        look: Callable[[], object] | None = None, first: str | None = None,
    ) -> Any:  # fmt: skip
        host = entry.host
        assert host is not None
        try:
            if first is not None:
                kind, value = host.ask(first, CLOSING)
                if kind == "ok":
                    kind, value = host.ask(order, bound, look)
            else:
                kind, value = host.ask(order, bound, look)
        except NoAnswerError as why:
            kind, value = "failed", str(why)
            host.kill()
        if kind == "ok":
            return value
        entry.out = True
        entry.note = f"{kind}: {value}"
        host.end()
        return None


def heat(name: str, variant: str, settings: Settings) -> list[Entry]:
    """All contestants of a variant, through all rounds."""
    scenario = load(name)
    this = Heat(name, scenario, variant, settings)
    entries = [
        Entry(contestant)
        for contestant in scenario.contestants(variant)
        if not settings.peers or contestant.peer in settings.peers
    ]
    try:
        if not scenario.fresh:
            for entry in entries:
                this.prepare(entry)
        for number in range(settings.rounds):
            turn = number % len(entries)  # nobody is always the one after the slowest
            for entry in entries[turn:] + entries[:turn]:
                this.run(entry)
        for entry in entries:
            this.weigh(entry)
    finally:
        for entry in entries:
            if entry.host is not None and not entry.out and not scenario.fresh:
                entry.host.end()
    return entries
