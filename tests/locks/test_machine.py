"""Hypothesis: the locks beside the standard library's, step by step, in one thread."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from parmap import Condition, Event, Lock, RLock, Semaphore
from support.channel_peers import child


class Beside(RuleBasedStateMachine):
    """Every call is made on both, and must give the same; some are made by a forked child."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: dict[str, tuple[Any, Any]] = {
            "lock": (Lock(), threading.Lock()),
            "rlock": (RLock(), threading.RLock()),
            "semaphore": (Semaphore(2), threading.Semaphore(2)),
            "event": (Event(), threading.Event()),
        }
        self.depth = 0  # of the RLock, whose model tells nobody
        self.holds = False

    def both(self, name: str, method: str, *arguments: Any) -> Any:
        ours, model = self.pairs[name]
        got, expected = getattr(ours, method)(*arguments), getattr(model, method)(*arguments)
        assert got == expected or method in ("set", "release")
        return got

    @rule()
    def try_the_lock(self) -> None:
        self.holds = self.both("lock", "acquire", False) or self.holds

    @rule()
    def try_the_lock_for_a_moment(self) -> None:
        self.holds = self.pairs["lock"][0].acquire(timeout=0.0005) or self.holds
        self.pairs["lock"][1].acquire(timeout=0.0005)

    @rule()
    def release_the_lock(self) -> None:
        errors = []
        for lock in self.pairs["lock"]:
            try:
                lock.release()
            except RuntimeError:
                errors.append("unlocked")
        assert len(errors) == (0 if self.holds else 2)
        self.holds = False

    @rule()
    def nest(self) -> None:
        self.both("rlock", "acquire")
        self.depth += 1

    @rule()
    def unnest(self) -> None:
        errors = []
        for lock in self.pairs["rlock"]:
            try:
                lock.release()
            except RuntimeError:
                errors.append("not held")
        assert len(errors) == (0 if self.depth else 2)
        self.depth = max(0, self.depth - 1)

    @rule()
    def take_a_permit(self) -> None:
        self.both("semaphore", "acquire", False)

    @rule(n=st.integers(1, 3))
    def give_permits(self, n: int) -> None:
        self.both("semaphore", "release", n)

    @rule(method=st.sampled_from(["set", "clear", "is_set"]))
    def flag(self, method: str) -> None:
        self.both("event", method)

    @rule()
    def wait_for_the_flag(self) -> None:
        self.both("event", "wait", 0)

    @rule()
    def a_child_sees_the_same(self) -> None:
        lock, rlock, semaphore, event = (ours for ours, _ in self.pairs.values())

        def look(me: Any) -> None:
            me.say((lock.acquire(False), rlock.acquire(False), semaphore.value, event.is_set()))

        with child(look) as process:
            seen = process.hear()
            process.end_well()
        permits = self.pairs["semaphore"][1]._value
        assert seen == (
            not self.holds, not self.depth, permits, self.pairs["event"][1].is_set()
        )  # fmt: skip

    @rule()
    def a_child_dies_with_all_it_can_get(self) -> None:
        lock, rlock, semaphore, _ = (ours for ours, _ in self.pairs.values())

        def take(me: Any) -> None:
            for each in (lock, rlock, semaphore):
                each.acquire(False)
            me.say()

        with child(take) as process:
            process.hear()
            process.end_well()

    @invariant()
    def each_is_as_free_as_its_model(self) -> None:
        assert self.pairs["lock"][0].locked() == self.holds
        assert self.pairs["rlock"][0].locked() == bool(self.depth)
        assert self.pairs["semaphore"][0].value == self.pairs["semaphore"][1]._value


TestBesideTheStandardLibrary = Beside.TestCase
TestBesideTheStandardLibrary.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None
)


def test_a_condition_answers_as_the_standard_librarys_does():
    ours, model = Condition(), threading.Condition()
    for condition in (ours, model):
        with condition:
            assert condition.wait(timeout=0.001) is False
            assert condition.wait_for(lambda: 7) == 7
            condition.notify(0)
            condition.notify(5)
            condition.notify_all()
