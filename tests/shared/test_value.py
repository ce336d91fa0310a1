"""SharedValue: what is changed is changed once, by one after another, or not at all."""

from __future__ import annotations

import ctypes
import math
import os
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from parmap import Pool, SharedValue, parallel_map
from parmap.shared._kinds import KINDS
from support import shared_far as far
from support.channel_peers import Running, child
from support.gates import warm_pool
from support.linearizable import explain, recorded

INTEGERS = "bBhHiIlLqQ"
SAMPLES: dict[str, Any] = {
    **dict.fromkeys(INTEGERS, 100), "f": 0.5, "d": 0.1, "?": True, "c": b"x", "u": "é"
}  # fmt: skip


@pytest.mark.parametrize("code", KINDS)
def test_every_typecode_begins_with_zero_and_keeps_its_value_elsewhere(code, pool):
    value: Any = SharedValue(code)
    assert value.value == type(value.value)() or value.value in (b"\0", "\0")
    value.set(SAMPLES[code])
    assert parallel_map(lambda v: (v.value, type(v.value)), [value], pool=pool) == [
        (SAMPLES[code], type(SAMPLES[code]))
    ]
    assert SharedValue(code, SAMPLES[code]).value == SAMPLES[code]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0.5,), ("d", 0.5)), ((7,), ("q", 7)), ((True,), ("?", True)), ((b"x",), ("c", b"x")),
        (("i",), ("i", 0)), ((bool,), ("?", False)), ((int, 3), ("q", 3)), ((float,), ("d", 0.0)),
        ((ctypes.c_short, 3), ("h", 3)), ((ctypes.c_bool,), ("?", False)),
    ],
)  # fmt: skip
def test_the_type_is_named_or_comes_from_the_initial_value(arguments, expected):
    value = SharedValue(*arguments)
    assert (value._kind.code, value.value) == expected


@pytest.mark.parametrize("code", INTEGERS)
def test_integers_do_not_wrap(code):
    bits = 8 * ctypes.sizeof(getattr(ctypes, f"c_{_NAMES[code.lower()]}"))
    last = (1 << bits - code.islower()) - 1
    value: Any = SharedValue(code, last)
    for change in (
        lambda: value.set(last + 1), lambda: value.fetch_add(1), lambda: value.update(lambda x: x + 1),
        lambda: value.compare_exchange(last, last + 1), lambda: SharedValue(code, last + 1),
    ):  # fmt: skip
        with pytest.raises(OverflowError, match="holds integers from"):
            change()
    assert value.value == last


_NAMES = {"b": "byte", "h": "short", "i": "int", "l": "long", "q": "longlong"}


@pytest.mark.parametrize(
    ("code", "wrong"),
    [("i", 1.5), ("i", "1"), ("d", "1.5"), ("d", None), ("f", 1j), ("?", "yes"), ("c", b"xy"),
     ("c", "x"), ("u", "xy"), ("u", 3)],
)  # fmt: skip
def test_what_is_not_of_the_type_is_refused_and_nothing_changes(code, wrong):
    value: Any = SharedValue(code, SAMPLES[code])
    for change in (
        lambda: value.set(wrong), lambda: value.update(lambda _: wrong),
        lambda: value.compare_exchange(wrong, SAMPLES[code]), lambda: SharedValue(code, wrong),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"'[{code}]' holds"):
            change()
    assert value.value == SAMPLES[code]


@pytest.mark.parametrize("arguments", [(), (None,), ("zz",), ("x", 1), ([1],), (object,), (1, 2)])
def test_what_it_cannot_hold_is_refused_with_the_cure(arguments):
    with pytest.raises(TypeError, match="SharedValue"):
        SharedValue(*arguments)


def test_assigning_the_value_names_what_to_use():
    value: Any = SharedValue(1)
    with pytest.raises(AttributeError, match="set, fetch_add or update"):
        value.value = 3
    assert value.value == 1


def test_a_float_of_four_bytes_is_compared_as_it_is_stored_and_nan_is_equal_to_nan():
    value = SharedValue("f", 0.1)
    assert value.compare_exchange(0.1, math.nan)
    assert not value.compare_exchange(0.1, 1.0)
    assert value.compare_exchange(math.nan, -0.0)
    assert value.compare_exchange(0.0, 2.0)
    with pytest.raises(OverflowError, match="too large"):
        value.set(1e300)


@pytest.mark.parametrize("code", ["?", "c", "u"])
def test_what_is_no_number_cannot_be_added_to(code):
    with pytest.raises(TypeError, match="no number: use update"):
        SharedValue(code).fetch_add(1)


def test_an_update_that_raises_changes_nothing_and_leaves_the_lock():
    value = SharedValue(1)
    with pytest.raises(ZeroDivisionError):
        value.update(lambda x: x // 0)
    with pytest.raises(RuntimeError):
        value.update(lambda x: value.fetch_add(1))
    assert value.fetch_add(1) == 1
    assert Running(value.fetch_add, 1).result() == 2


def test_many_updates_from_many_processes_lose_none(tmp_path):
    value = SharedValue("q")
    with warm_pool(tmp_path, 2) as pool:
        before = parallel_map(lambda _: value.fetch_add(1), range(400), pool=pool)
        parallel_map(lambda _: value.update(lambda x: x + 1), range(400), pool=pool)
    assert sorted(before) == list(range(400))
    assert value.value == 800


def test_one_killed_inside_update_has_changed_nothing():
    """And nobody waits for it."""
    value = SharedValue(5)

    def hang(me):
        value.update(lambda x: (me.say(), me.hear(), x + 1)[2])

    for _ in range(3):
        with child(hang) as process:
            process.hear()
            assert value.value == 5
            waiting = Running(value.fetch_add, 0)
            process.kill()
            assert waiting.result() == 5
    with child(lambda me: me.say(value.update(lambda x: x + 1))) as process:
        assert process.hear() == 6


def kill_at_random(kills: int, rng) -> None:
    """Two changes that would show half of an update, or one that happened twice."""
    value = SharedValue(0)
    ours, theirs = os.pipe()

    def work(me):
        while True:
            value.update(lambda x: x + 2)
            os.write(theirs, b".")

    told = 0
    for _ in range(kills):
        with child(work), child(work):
            for _ in range(rng.randrange(1, 10)):
                told += len(os.read(ours, rng.randrange(1, 200)))
    os.close(theirs)
    while got := os.read(ours, 1 << 16):
        told += len(got)
    os.close(ours)
    print(f"{2 * kills} kills: told {told}, value {value.value}")
    assert value.value % 2 == 0
    assert told <= value.value // 2 <= told + 2 * kills


def test_random_kills_inside_updates(rng):
    kill_at_random(15, rng)


@pytest.mark.stress
def test_300_random_kills_inside_updates(rng):
    kill_at_random(150, rng)


def check_history(folder, processes: int, times: int, rng) -> None:
    value = SharedValue("q", 1)
    seeds = [rng.randrange(2**32) for _ in range(processes)]

    def live(me, who, seed):
        far.live_with_value(value, str(folder), who, seed, times)

    with child(live, "a", seeds[0]) as one, child(live, "b", seeds[1]) as other:
        far.live_with_value(value, str(folder), "c", seeds[2], times)
        one.end_well()
        other.end_well()
    history = recorded(folder)
    assert len(history) == 3 * times
    assert explain(history, 1, far.value_model) is not None


def test_what_three_processes_see_is_linearizable(tmp_path, rng):
    check_history(tmp_path, 3, 400, rng)


@pytest.mark.stress
@pytest.mark.parametrize("lap", range(20))
def test_long_histories_are_linearizable(tmp_path, rng, lap):
    check_history(tmp_path, 3, 4000, rng)


def test_a_history_with_killed_processes_is_linearizable(tmp_path, rng):
    """What a kill has cut short has happened, or has not."""
    value = SharedValue("q", 1)

    def live(me, who, seed):
        me.say()
        far.live_with_value(value, str(tmp_path), who, seed, 1_000_000)

    seeds = [rng.randrange(2**32) for _ in range(6)]
    for number, seed in enumerate(seeds):
        with child(live, f"{number}", seed) as process:
            process.hear()
            far.live_with_value(value, str(tmp_path), f"here{number}", seed + 1, 30)
    history = recorded(tmp_path)
    assert explain(history, 1, far.value_model) is not None


class Machine(RuleBasedStateMachine):
    """Beside a plain variable, with two handles: one of them has travelled."""

    @initialize(first=st.integers(-(1 << 15), (1 << 15) - 1))
    def begin(self, first):
        self.value = SharedValue("h", first)
        self.model = first

    @rule(x=st.integers(-40_000, 40_000))
    def set(self, x):
        self.change(lambda: self.value.set(x), x)

    @rule(n=st.integers(-40_000, 40_000))
    def fetch_add(self, n):
        before = self.model
        assert self.change(lambda: self.value.fetch_add(n), self.model + n) in (before, None)

    @rule(factor=st.integers(-3, 3))
    def update(self, factor):
        self.change(lambda: self.value.update(lambda x: x * factor), self.model * factor)

    @rule(old=st.integers(-3, 3), new=st.integers(-3, 3))
    def compare_exchange(self, old, new):
        assert self.value.compare_exchange(old, new) == (self.model == old)
        if self.model == old:
            self.model = new

    def change(self, act, expected):
        if -(1 << 15) <= expected < 1 << 15:
            result = act()
            self.model = expected
        else:
            result = None
            with pytest.raises(OverflowError):
                act()
        assert self.value.value == self.model
        return result


TestMachine = Machine.TestCase


def test_a_value_in_a_pool_of_every_method():
    value = SharedValue(0)
    for method in ("fork", "spawn"):
        with Pool(1, start_method=method) as pool:
            parallel_map(lambda n: value.update(lambda v: max(v, n)), range(5), pool=pool)
    assert value.value == 4


def test_update_wants_a_function():
    value = SharedValue(1)
    with pytest.raises(TypeError, match="fn must be a function of the value, not int"):
        value.update(5)  # type: ignore[arg-type]
    assert value.value == 1
