"""A plain dict and a plain list as models, and two copies of each container that take turns."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parmap import SharedDict, SharedList
from parmap._memory import log
from support.container_tools import second

ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.binary(max_size=6)
# Decimal and Fraction are odd keys, some of them equal to a plain one.
KEYS = st.one_of(
    st.integers(0, 5), st.sampled_from("abc"), st.tuples(st.integers(0, 1), st.sampled_from("xy")),
    st.sampled_from([None, True, 2.0, Decimal(1), Decimal("0.5"), Fraction(1, 2), Fraction(1, 3)]),
    st.frozensets(st.integers(0, 2)), st.tuples(*[st.integers(0, 1)] * 5),
)  # fmt: skip
LARGE = st.sampled_from("abcd").map(
    lambda kind: {
        "a": b"a" * 40_000, "b": "b" * 40_000, "c": bytearray(50_000), "d": [b"c" * 70_000, 1],
    }[kind]
)  # fmt: skip
VALUES = st.one_of(
    ATOMS, st.floats(allow_nan=False), st.lists(ATOMS, max_size=4), st.tuples(ATOMS, ATOMS),
    st.tuples(*[st.integers(0, 3)] * 5), st.dictionaries(st.text(max_size=2), ATOMS, max_size=2),
    st.frozensets(st.integers()), st.sampled_from([Decimal("1.5"), {1, 2}, {"a": [{}]}]), LARGE,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _short_generations(monkeypatch):
    """So that the few steps of an example go through many snapshots."""
    monkeypatch.setattr(log, "_LEAST", 512)


def outcome(act, *arguments):
    """What came of it: a value, or which error."""
    try:
        return "value", act(*arguments)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return "error", type(error)


def _order(value):
    """An order of any values; a set that was pickled may show its members in another one."""
    return repr(sorted(value, key=repr)) if isinstance(value, set | frozenset) else repr(value)


class Machine(RuleBasedStateMachine):
    """Two copies; a rule uses one of them, which may be far behind."""

    def both(self, turn, change, *arguments):
        """Make one change to a copy and to the model, with the same outcome."""
        expected = outcome(change, self.model, *arguments)
        assert outcome(change, self.copies[turn], *arguments) == expected

    @rule(turn=st.integers(0, 1))
    def look(self, turn):
        copy = self.copies[turn]
        assert copy == self.model
        assert list(map(type, copy)) == list(map(type, self.model))  # True is no 1, 2.0 is no 2
        assert len(copy) == len(self.model)

    @invariant()
    def files_hold_what_lives(self):
        """Large values that were dropped are not in the way of new ones."""
        for copy in self.copies:
            replica = copy._replica
            replica.catch_up()
            large = [form for form in replica.forms() if type(form) is tuple and len(form) == 5]
            assert len(replica.log.large) == len(large)
            assert replica.log.large.weight == sum(form[2] for form in large)

    def teardown(self):
        for copy in getattr(self, "copies", ()):
            assert copy == self.model


class DictMachine(Machine):
    @initialize(start=st.dictionaries(KEYS, VALUES, max_size=3))
    def begin(self, start):
        self.model = dict(start)
        first = SharedDict(start)
        self.copies = [first, second(first)]

    @rule(turn=st.integers(0, 1), key=KEYS, value=VALUES)
    def set(self, turn, key, value):
        self.both(turn, lambda d: d.__setitem__(key, value))

    @rule(turn=st.integers(0, 1), key=KEYS)
    def get(self, turn, key):
        self.both(turn, lambda d: (key in d, d.get(key), d.get(key, 7)))
        self.both(turn, lambda d: d[key])

    @rule(turn=st.integers(0, 1), key=KEYS)
    def delete(self, turn, key):
        self.both(turn, lambda d: d.__delitem__(key))

    @rule(turn=st.integers(0, 1), key=KEYS, default=st.none() | st.just(()))
    def pop(self, turn, key, default):
        self.both(turn, lambda d: d.pop(key) if default is None else d.pop(key, default))

    @rule(turn=st.integers(0, 1))
    def popitem(self, turn):
        self.both(turn, lambda d: d.popitem())

    @rule(turn=st.integers(0, 1), key=KEYS, value=VALUES)
    def setdefault(self, turn, key, value):
        self.both(turn, lambda d: d.setdefault(key, value))

    @rule(turn=st.integers(0, 1), other=st.dictionaries(KEYS, VALUES, max_size=4))
    def update(self, turn, other):
        self.both(turn, lambda d: d.update(list(other.items()), extra=1))
        self.both(turn, lambda d: d.__ior__(other) and None)
        self.both(turn, lambda d: (d | {"o": 1}, {"o": 1} | d))

    @rule(turn=st.integers(0, 1))
    def clear(self, turn):
        self.both(turn, lambda d: d.clear())

    @rule(turn=st.integers(0, 1), key=KEYS, value=VALUES, default=st.none() | ATOMS)
    def update_item(self, turn, key, value, default):
        def in_one(d):
            if isinstance(d, SharedDict):
                return d.update_item(key, lambda old: [old, value], default)
            d[key] = [d.get(key, default), value]
            return d[key]

        self.both(turn, in_one)

    @precondition(lambda self: self.model)
    @rule(turn=st.integers(0, 1), data=st.data())
    def read_what_is_there(self, turn, data):
        key = data.draw(st.sampled_from(list(self.model)))
        self.both(turn, lambda d: d[key])
        self.both(turn, lambda d: (list(d.values()), list(d.items()), list(reversed(d))))


class ListMachine(Machine):
    @initialize(start=st.lists(VALUES, max_size=4))
    def begin(self, start):
        self.model = list(start)
        first = SharedList(start)
        self.copies = [first, second(first)]

    INDEX = st.integers(-6, 6)
    PLACE = st.builds(slice, st.none() | INDEX, st.none() | INDEX, st.none() | st.integers(-2, 2))

    @rule(turn=st.integers(0, 1), value=VALUES)
    def append(self, turn, value):
        self.both(turn, lambda seq: seq.append(value))

    @rule(turn=st.integers(0, 1), index=INDEX, value=VALUES)
    def insert_and_set(self, turn, index, value):
        self.both(turn, lambda seq: seq.insert(index, value))
        self.both(turn, lambda seq: seq.__setitem__(index, value))

    @rule(turn=st.integers(0, 1), place=PLACE, values=st.lists(VALUES, max_size=3))
    def slices(self, turn, place, values):
        self.both(turn, lambda seq: seq[place])
        self.both(turn, lambda seq: seq.__setitem__(place, values))

    @rule(turn=st.integers(0, 1), place=PLACE | INDEX)
    def delete(self, turn, place):
        self.both(turn, lambda seq: seq.__delitem__(place))

    @rule(turn=st.integers(0, 1), index=INDEX)
    def get_and_pop(self, turn, index):
        self.both(turn, lambda seq: seq[index])
        self.both(turn, lambda seq: seq.pop(index))

    @rule(turn=st.integers(0, 1), value=VALUES)
    def search(self, turn, value):
        self.both(turn, lambda seq: (value in seq, seq.count(value)))
        self.both(turn, lambda seq: seq.index(value))
        self.both(turn, lambda seq: seq.index(value, 1, -1))
        self.both(turn, lambda seq: seq.remove(value))

    @rule(turn=st.integers(0, 1), values=st.lists(VALUES, max_size=3), times=st.integers(-1, 2))
    def grow(self, turn, values, times):
        self.both(turn, lambda seq: seq.extend(iter(values)))
        if len(self.model) < 30:
            self.both(turn, lambda seq: seq.__imul__(times) and None)
        self.both(turn, lambda seq: (seq + list("x"), seq * 2, 2 * seq))

    @rule(turn=st.integers(0, 1), backwards=st.booleans())
    def order(self, turn, backwards):
        self.both(turn, lambda seq: seq.sort(key=_order, reverse=backwards))
        self.both(turn, lambda seq: seq.sort())
        self.both(turn, lambda seq: seq.reverse())
        self.both(turn, lambda seq: list(reversed(seq)))

    @rule(turn=st.integers(0, 1))
    def clear(self, turn):
        self.both(turn, lambda seq: seq.clear())

    @rule(turn=st.integers(0, 1), index=INDEX, value=VALUES)
    def update_item(self, turn, index, value):
        def in_one(seq):
            if isinstance(seq, SharedList):
                return seq.update_item(index, lambda old: [old, value])
            seq[index] = [seq[index], value]
            return seq[index]

        self.both(turn, in_one)


# A failed sort leaves a list as it was, while list.sort may have moved items: only comparable ones.
CHECKED = settings(stateful_step_count=25)
TestDict = DictMachine.TestCase
TestList = ListMachine.TestCase
TestDict.settings = TestList.settings = CHECKED
