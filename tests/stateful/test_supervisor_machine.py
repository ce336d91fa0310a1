"""Hypothesis drives the supervisor through a pretend world that has the real races.

The rules that are checked stand in `support/group_world.py`, at each command; here is only what may
happen, and in the end the fair run in which every member must come to its end.

A machine that finds nothing proves little.  So the second half plants faults in the supervisor, the
slips of the pen that its rules forbid, and the machine must find each of them.
"""

from __future__ import annotations

import inspect
import random
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from parmap._core import supervision
from parmap.errors import InternalError
from support.group_world import Book, Process, World

if TYPE_CHECKING:
    from collections.abc import Callable

PICK = st.integers(0, 7)
SECONDS = st.sampled_from([0.5, 2.0, 5.0])
# Restarts, within seconds, after a delay.
BUDGETS = [
    (0, 0.0, 0.0),
    (0, 0.0, 0.0),
    (1, 2.0, 0.0),
    (1, 2.0, 0.0),
    (2, 60.0, 0.0),
    (2, 60.0, 9.0),
]


def some(fit: Callable[[Process], object]) -> Callable[[Any], Any]:
    """Only while there is such a process: steps that do nothing find nothing."""
    return precondition(lambda self: self.those(fit))


class SupervisorMachine(RuleBasedStateMachine):
    """An owner, processes and time, in any order."""

    core = supervision

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.core)
        self.by_stopping = False

    # ------------------------------------------------------------------ the owner

    @precondition(lambda self: len(self.world.books) < 5)
    @rule(budget=st.sampled_from(BUDGETS), stubborn=st.sampled_from([False, False, True]))
    def add(self, budget: tuple[int, float, float], *, stubborn: bool) -> None:
        self.world.add(*budget, stubborn=stubborn)

    @precondition(lambda self: self.world.books)
    @rule(pick=PICK, kill=st.booleans())
    def end(self, pick: int, *, kill: bool) -> None:
        self.world.end(self.book(pick), kill=kill)

    @precondition(lambda self: len(self.world.books) > 1)
    @rule(how=st.sampled_from(["stop", "close"]))
    def leave_the_block(self, how: str) -> None:
        if how == "stop":
            self.world.stop()
        else:
            self.world.close()

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @initialize(by_stopping=st.booleans())
    def choose_how_it_ends(self, *, by_stopping: bool) -> None:
        self.by_stopping = by_stopping

    # ------------------------------------------------------------------ the loop

    @precondition(lambda self: self.world.commands)
    @rule(refuse=st.sampled_from([False, False, True]))
    def obey(self, *, refuse: bool) -> None:
        while self.world.obey(refuse=refuse):
            continue

    @some(lambda process: process.pipe)
    @rule(pick=PICK)
    def hear(self, pick: int) -> None:
        self.world.hear(self.pick(pick, lambda process: process.pipe))

    @some(lambda process: not process.alive)
    @rule(pick=PICK)
    def bury(self, pick: int) -> None:
        self.world.bury(self.pick(pick, lambda process: not process.alive))

    # ------------------------------------------------------------------ processes

    @some(lambda process: process.alive and not process.done)
    @rule(pick=PICK, well=st.sampled_from([True, False, False]), heard=st.booleans())
    def function_ends(self, pick: int, *, well: bool, heard: bool) -> None:
        book = self.pick(pick, lambda process: process.alive and not process.done)
        self.world.function_ends(book, well=well)
        if heard:
            self.world.hear(book)

    @some(lambda process: process.alive and process.done)
    @rule(pick=PICK, buried=st.booleans())
    def leave(self, pick: int, *, buried: bool) -> None:
        book = self.pick(pick, lambda process: process.alive and process.done)
        self.world.leave(book)
        if buried:
            self.world.bury(book)

    @some(lambda process: process.alive)
    @rule(pick=PICK, again=st.booleans())
    def crash(self, pick: int, *, again: bool) -> None:
        """`again`: the whole of a restart at once, or little would ever be started twice."""
        book = self.pick(pick, lambda process: process.alive)
        self.world.crash(book)
        if again:
            self.world.bury(book)
        if book.due is not None:
            self.world.wait(max(0.0, book.due - self.world.now))
            while self.world.obey():
                continue

    @some(lambda process: process.alive and process.signalled)
    @rule(pick=PICK, how=st.sampled_from(["dies", "raises", "returns"]))
    def take_signal(self, pick: int, how: str) -> None:
        book = self.pick(pick, lambda process: process.alive and process.signalled)
        self.world.take_signal(book, how)

    # ------------------------------------------------------------------ the end

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # a step has failed: that is the news, not what the rest would make of it
        self.world.run_to_the_end(by_stopping=self.by_stopping)

    def book(self, pick: int) -> Book:
        """Any member that there ever was: of one that has ended, its owner may not know yet."""
        return self.world.books[1 + pick % len(self.world.books)]

    def those(self, fit: Callable[[Process], object]) -> list[Book]:
        """Members whose process is just so."""
        return [b for b in self.world.books.values() if b.process is not None and fit(b.process)]

    def pick(self, pick: int, fit: Callable[[Process], object]) -> Book:
        those = self.those(fit)
        return those[pick % len(those)]


TestSupervisorMachine = SupervisorMachine.TestCase
TestSupervisorMachine.settings = settings(stateful_step_count=40)


# ---------------------------------------------------------------------- planted faults

FAULTS = {
    "nobody is stopped at the report of a failure": (
        "            self._stop()  # at once",
        "            pass  # at once",
    ),
    "nobody is stopped at a death": (
        "            self._settle(member, end, exitcode, payload)\n            self._stop()",
        "            self._settle(member, end, exitcode, payload)",
    ),
    "no deadline for those who are told to go": (
        "                member.deadline = self._now + self._grace\n                self._out",
        "                self._out",
    ),
    "no deadline for those who are leaving by themselves": (
        "            else:  # it is",
        "            elif False:  # it is",
    ),
    "who has reported is told to go, too": (
        "member.state is State.RUNNING and member.report is None:",
        "member.state is State.RUNNING:",
    ),
    "a report of failure counts although its owner has ended the member": (
        "            return member.told is None\n",
        "            return member.report is not None or member.told is None\n",
    ),
    "what is raised in the cleanup of a stopped member counts": (
        "member.report is not None and not member.report.obeying",
        "member.report is not None",
    ),
    "the owner's word after a report makes a failure vanish": (
        "        if member.report is None or (member.report.failed",
        "        if True or (member.report.failed",
    ),
    "a failure that waits for its process's death is settled as stopped": (
        "            member.final = True\n",
        "",
    ),
    "a refused start counts although nobody wants it any more": (
        "        if member.told is not None:  # meanwhile",
        "        if False:  # meanwhile",
    ),
    "a member with budget fails because the group stops": (
        "        elif self._stopping:  # it would",
        "        elif self._stopping and self._settle(member, end, exitcode, payload):  # it would",
    ),
    "a member is started again while the group stops": (
        "        elif self._stopping:  # it would",
        "        elif False:  # it would",
    ),
    "the report of an earlier start is kept": (
        "member.state, member.report = State.WAITING, None",
        "member.state = State.WAITING",
    ),
    "restarts are not counted": ("            member.restarts.append(self._now)\n", ""),
    "the window of a budget never passes": (
        "self.restarts[0] <= now - self.within",
        "self.restarts[0] <= now - self.within - 1e6",
    ),
    "one start too many": (
        "len(self.restarts) < self.max_restarts",
        "len(self.restarts) <= self.max_restarts",
    ),
    "starts are not counted": (
        "member.state, member.attempts = State.RUNNING, member.attempts + 1",
        "member.state = State.RUNNING",
    ),
    "who waits to be started again is forgotten at the stop": (
        "State.WAITING:\n                self._settle(member, End.STOPPED, None, None)",
        "State.WAITING:\n                member.deadline = None",
    ),
    "who waits to be started again cannot be ended": (
        "        if member.state is State.WAITING:\n            self._settle(member, End.ENDED",
        "        if False:\n            self._settle(member, End.ENDED",
    ),
    "a newcomer is started while the group stops": (
        "        if self._stopping:\n            self._settle(member, End.STOPPED",
        "        if False:\n            self._settle(member, End.STOPPED",
    ),
    "the group is over while members are left": (
        "return self._closed and not self._members",
        "return self._closed",
    ),
    "the block's failure does not close the group": (
        "                self._closed = True\n                self._stop()",
        "                self._stop()",
    ),
    "a deadline is kept when it has passed": (
        "            member.deadline = None\n            if member.state is State.WAITING",
        "            if member.state is State.WAITING",
    ),
    "everybody is told again at each failure": (
        "        if self._stopping:\n            return\n",
        "        for m in self._members.values(): m.state = State.RUNNING if m.told else m.state\n",
    ),
}


def faulty(old: str, new: str) -> types.ModuleType:
    """The supervisor's module with one slip of the pen."""
    source = inspect.getsource(supervision)
    assert source.count(old) == 1, f"this fault has no place any more: {old!r}"
    module = types.ModuleType("faulty_supervision")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source.replace(old, new), module.__name__, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def stroll(core: types.ModuleType, chance: random.Random) -> None:
    """One walk of the machine without Hypothesis, which costs a millisecond per step."""
    world = World(core)

    def some(fit: Callable[[Process], object]) -> Book | None:
        those = [b for b in world.books.values() if b.process is not None and fit(b.process)]
        return chance.choice(those) if those else None

    for _ in range(chance.randrange(3, 40)):
        step = chance.randrange(12)
        book = chance.choice(list(world.books.values())) if world.books else None
        if step <= 1 and len(world.books) < 5:
            world.add(*chance.choice(BUDGETS), stubborn=chance.random() < 0.3)
        elif step == 2 and book is not None and chance.random() < 0.4:
            world.end(book, kill=chance.random() < 0.5)
        elif step == 3 and chance.random() < 0.2:
            (world.stop if chance.random() < 0.5 else world.close)()
        elif step == 4:
            world.wait(chance.choice([0.5, 2.0, 5.0]))
        elif step <= 6:
            world.obey(refuse=chance.random() < 0.2)
        elif step == 7 and (book := some(lambda process: process.pipe)):
            world.hear(book)
        elif step == 8 and (book := some(lambda process: not process.alive)):
            world.bury(book)
        elif step == 9 and (book := some(lambda process: not process.done)):
            world.function_ends(book, well=chance.random() < 0.3)
        elif step == 10 and (book := some(lambda process: process.alive)):
            (world.leave if book.process.done else world.crash)(book)
        elif step == 11 and (book := some(lambda process: process.signalled)):
            world.take_signal(book, chance.choice(["dies", "raises", "returns"]))
    world.run_to_the_end(by_stopping=chance.random() < 0.5)


def test_thousands_of_strolls_find_nothing(rng: random.Random) -> None:
    for _ in range(5_000):
        stroll(supervision, rng)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    planted = faulty(*FAULTS[fault])
    chance = random.Random(1)

    with pytest.raises((AssertionError, InternalError)):
        for _ in range(30_000):
            stroll(planted, chance)


# The rare ones would take Hypothesis half a minute each.
COMMON = [
    "nobody is stopped at a death",
    "no deadline for those who are told to go",
    "one start too many",
    "starts are not counted",
    "a newcomer is started while the group stops",
    "the group is over while members are left",
    "the block's failure does not close the group",
    "a deadline is kept when it has passed",
]


@pytest.mark.parametrize("fault", COMMON)
def test_hypothesis_finds_a_planted_fault(fault: str) -> None:
    planted = faulty(*FAULTS[fault])

    class Faulty(SupervisorMachine):
        core = planted

    with pytest.raises((AssertionError, InternalError)):
        run_state_machine_as_test(
            Faulty,
            settings=settings(
                max_examples=1_500,
                stateful_step_count=40,
                derandomize=True,
                report_multiple_bugs=False,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
