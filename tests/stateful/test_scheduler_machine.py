"""Hypothesis drives the scheduler through a pretend world that has the real races.

The rules that are checked stand in `support/pretend_world.py`, at each command; here is only what
may happen, and in the end the fair run in which everything must come to its end.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from parmap._core.chunking import OVERRUN, TARGET_SECONDS
from parmap._core.events import OnFailure
from parmap._core.retry import ONCE, RetryPolicy
from support.pretend_world import Fate, Process, Start, World

if TYPE_CHECKING:
    from collections.abc import Callable

PICK = st.integers(0, 7)
# Most items are fine, or nothing would ever get far enough to be lost.
FATES = st.lists(
    st.sampled_from([*[Fate.FINE] * 15, Fate.FAILS, Fate.POISON, *Fate]), min_size=5, max_size=40
).map(tuple)


RETRIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 3),
    first_delay=st.sampled_from([0.0, 0.0, 0.3, 150.0]),
    lost=st.booleans(),
    late=st.booleans(),
)


def rarely(value: bool) -> st.SearchStrategy[bool]:
    """What ends everything must not happen in every run."""
    return st.sampled_from([not value] * 7 + [value])


def among(fit: Callable[[Process], Any]) -> Callable[[Any], Any]:
    """The step makes sense while there is such a process."""
    return precondition(lambda self: any(map(fit, self.world.processes.values())))


class SchedulerMachine(RuleBasedStateMachine):
    """Callers, processes and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.how_it_ends = Start.COMES
        self.submitted: list[int] = []

    @initialize(
        limit=st.sampled_from([None, None, 1, 2, 3]),
        idle_timeout=st.sampled_from([None, 1.0]),
        max_tasks=st.sampled_from([None, None, 1, 4]),
        how=st.sampled_from([Start.COMES, Start.COMES, *Start]),
    )
    def begin(
        self, limit: int | None, idle_timeout: float | None, max_tasks: int | None, how: Start
    ) -> None:
        self.world = World(limit=limit, idle_timeout=idle_timeout, max_tasks=max_tasks)
        self.how_it_ends = how

    # ------------------------------------------------------------------ callers

    @precondition(lambda self: len(self.world.calls) < 3)
    @rule(
        cap=st.integers(1, 4),
        chunksize=st.sampled_from([None, None, 1, 3, 5, 20]),
        on_failure=st.sampled_from([OnFailure.FINISH_EARLIER, *OnFailure]),
        fates=FATES,
        cost=st.sampled_from([1e-6, 1e-6, 1e-3, 1e-3, 0.05]),
        cursed=rarely(True),
        count=st.one_of(st.integers(0, 40), st.just(40)),
        whole=st.sampled_from(["at once", "in parts", "not yet"]),
        name=st.sampled_from([None, "f"]),
        task_timeout=st.sampled_from([None, 0.2, 0.2, 5.0]),
        retry=st.one_of(st.just(ONCE), RETRIES),
    )
    def open_call(
        self, cap, chunksize, on_failure, fates, cost, cursed, count, whole, name, task_timeout,
        retry,
    ) -> None:  # fmt: skip
        call = self.world.open_call(
            cap=cap,
            chunksize=chunksize,
            on_failure=on_failure,
            fates=fates,
            cost=cost,
            cursed=cursed,
            items=count if whole == "at once" else None,
            name=name,
            task_timeout=task_timeout,
            retry=retry,
        )
        if whole != "at once":
            self.world.feed(call, count)
        if whole == "in parts":
            self.world.end_input(call)

    @precondition(lambda self: len(self.world.calls) < 3)
    @rule(
        fate=st.sampled_from([Fate.SLOW, *Fate]),
        task_timeout=st.sampled_from([None, 0.2]),
        retry=RETRIES,
    )
    def submit(self, fate: Fate, task_timeout: float | None, retry: RetryPolicy) -> None:
        call = self.world.open_call(
            cap=1, chunksize=1, fates=(fate,), task_timeout=task_timeout, retry=retry
        )
        self.submitted.append(call)
        self.world.feed(call, 1)
        self.world.end_input(call)

    @precondition(lambda self: self.submitted)
    @rule(pick=PICK)
    def kill_task(self, pick: int) -> None:
        self.world.kill_task(self.submitted[pick % len(self.submitted)])

    @precondition(lambda self: self.unfed())
    @rule(
        pick=PICK,
        count=st.integers(1, 20),
        skipped=st.sampled_from([0, 0, 1, 7]),
        more=st.booleans(),
    )
    def feed(self, pick: int, count: int, skipped: int, *, more: bool) -> None:
        unfed = self.unfed()
        call = unfed[pick % len(unfed)]
        self.world.feed(call, count, skipped)
        if not more:
            self.world.end_input(call)

    @precondition(lambda self: self.world.opened)
    @rule(pick=PICK, index=st.integers(0, 40))
    def cancel_item(self, pick: int, index: int) -> None:
        self.world.cancel_item(self.call(pick), index)

    @precondition(lambda self: self.world.opened)
    @rule(pick=PICK, hurry=st.booleans(), really=rarely(True))
    def cancel_call(self, pick: int, *, hurry: bool, really: bool) -> None:
        if really:
            self.world.cancel_call(self.call(pick), hurry=hurry)

    @precondition(lambda self: self.world.opened)
    @rule(pick=PICK, really=rarely(True))
    def drop_waiting(self, pick: int, *, really: bool) -> None:
        if really:
            self.world.drop_waiting(self.call(pick))

    @precondition(lambda self: self.world.opened > 2)
    @rule(cancel=st.booleans(), really=rarely(True))
    def shut_down(self, *, cancel: bool, really: bool) -> None:
        if really:
            self.world.shut_down(cancel=cancel)

    @rule(seconds=st.sampled_from([0.01, 0.03, 0.1, 0.4, 1.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    # ------------------------------------------------------------------ processes

    @among(lambda process: True)
    @rule(rounds=st.integers(1, 12))
    def all_goes_well_for_a_while(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.hum()

    @among(lambda process: process.asked)
    @rule(pick=PICK, how=st.sampled_from([Start.COMES, *Start]))
    def start(self, pick: int, how: Start) -> None:
        self.world.start(self.one(pick, lambda process: process.asked), how)

    @among(lambda process: process.runs and not process.came_ready)
    @rule(pick=PICK, well=rarely(False))
    def prepare(self, pick: int, *, well: bool) -> None:
        process = self.one(pick, lambda process: process.runs and not process.came_ready)
        self.world.come_up(process)
        self.world.get_ready(process, well=well)

    @among(lambda process: process.runs and process.jobs)
    @rule(pick=PICK, steps=st.integers(1, 30))
    def work(self, pick: int, steps: int) -> None:
        process = self.one(pick, lambda process: process.runs and process.jobs)
        for _ in range(steps):
            self.world.work(process)

    @among(lambda process: process.question)
    @rule(pick=PICK)
    def reply(self, pick: int) -> None:
        self.world.reply(self.one(pick, lambda process: process.question))

    @among(lambda process: process.runs and process.jobs and process.jobs[0].inside)
    @rule(pick=PICK)
    def come_to_an_end(self, pick: int) -> None:
        fit = lambda process: process.runs and process.jobs and process.jobs[0].inside  # noqa: E731
        self.world.come_to_an_end(self.one(pick, fit))

    @among(lambda process: process.runs)
    @rule(pick=PICK, really=rarely(True))
    def bloat(self, pick: int, *, really: bool) -> None:
        if really:
            self.world.bloat(self.one(pick, lambda process: process.runs))

    @among(lambda process: process.between_items)
    @rule(pick=PICK)
    def report(self, pick: int) -> None:
        self.world.report(self.one(pick, lambda process: process.between_items))

    @among(lambda process: process.sits_on_items)
    @rule(pick=PICK, heard=rarely(False), steps=st.integers(0, 4))
    def run_late(self, pick: int, *, heard: bool, steps: int) -> None:
        process = self.one(pick, lambda process: process.sits_on_items)
        self.world.wait(OVERRUN * TARGET_SECONDS)
        if heard:
            self.world.hear_the_cut(process)
        for _ in range(steps):
            self.world.work(process)

    @among(lambda process: process.signalled_to_cut and process.jobs)
    @rule(pick=PICK)
    def hear_the_cut(self, pick: int) -> None:
        self.world.hear_the_cut(
            self.one(pick, lambda process: process.signalled_to_cut and process.jobs)
        )

    @among(lambda process: process.pipe)
    @rule(pick=PICK, messages=st.integers(1, 3))
    def hear(self, pick: int, messages: int) -> None:
        process = self.one(pick, lambda process: process.pipe)
        for _ in range(messages):
            self.world.hear(process)

    @among(lambda process: process.runs)
    @rule(pick=PICK, noticed=st.booleans())
    def kill(self, pick: int, *, noticed: bool) -> None:
        process = self.one(pick, lambda process: process.runs)
        self.world.kill(process)
        if noticed:
            self.world.bury(process)

    @among(lambda process: not process.alive)
    @rule(pick=PICK)
    def bury(self, pick: int) -> None:
        self.world.bury(self.one(pick, lambda process: not process.alive))

    # ------------------------------------------------------------------ the end

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # a step has failed: that is the news, not what the rest would make of it
        self.world.run_to_the_end(self.how_it_ends)

    # ------------------------------------------------------------------ choices

    def call(self, pick: int) -> int:
        """Any call that there ever was: of one that has ended, the caller may not know yet."""
        return 1 + pick % self.world.opened

    def unfed(self) -> list[int]:
        return [book.id for book in self.world.calls.values() if not book.all_fed]

    def one(self, pick: int, fit: Callable[[Process], Any]) -> Process:
        processes = list(filter(fit, self.world.processes.values()))
        return processes[pick % len(processes)]


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(stateful_step_count=60)
