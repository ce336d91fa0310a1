"""Plain values travel together, exactly as they are; whatever is not plain is found out."""

from __future__ import annotations

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parmap._wire.blocks import BULKY, MOST_BULKY, dump_block, load_block

INTEGERS = st.integers() | st.integers(-(1 << 31) - 2, (1 << 31) + 2)
PLAIN = st.one_of(
    INTEGERS, st.booleans(), st.none(), st.floats(allow_nan=False), st.text(), st.binary()
)
TUPLES = st.lists(PLAIN, max_size=3).map(tuple)
MUTABLE = st.one_of(
    st.lists(INTEGERS, max_size=2), st.dictionaries(INTEGERS, INTEGERS, max_size=2), st.sets(PLAIN)
)


def same(values, others) -> bool:
    """Equal, and of the same types: True is not 1."""
    return [(type(v), v) for v in values] == [(type(v), v) for v in others]


@given(st.lists(PLAIN | TUPLES) | st.lists(INTEGERS) | st.lists(st.booleans() | INTEGERS))
def test_plain_values_arrive_as_they_were(values):
    block = dump_block(values)

    assert block is not None
    assert same(load_block(bytearray(block)), values)


@given(st.lists(INTEGERS, max_size=5), MUTABLE, st.lists(INTEGERS, max_size=5))
def test_one_mutable_value_among_integers_is_found(before, mutable, after):
    """Where the pickle of all would let two items share one object."""
    assert dump_block([*before, mutable, *after]) is None


class Number(int):
    pass


PLAIN_CODE = same.__code__  # marshal writes it, pickle does not


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "value", [Number(3), Level.LOW, (1, [2]), test_plain_values_arrive_as_they_were.__code__]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_only_looks_like_an_integer_is_found(value, place):
    values = [1, 2]
    values.insert(place, value)
    assert dump_block(values) is None


def test_bytes_that_look_like_letters_for_integers_prove_nothing():
    """0x69 is the letter; here it stands where only a number's bytes are."""
    values = [0x69696969] * 5
    assert same(load_block(dump_block(values)), values)


@pytest.mark.parametrize("values", [range(0), range(5, 50, 3), [], (), (1, 2)])
def test_ranges_and_tuples_are_blocks_too(values):
    assert list(load_block(dump_block(values))) == list(values)


def test_many_values_are_not_looked_through_for_large_bytes():
    """The search would cost more than the copies that it saves."""
    few, many = [b"x" * BULKY], [b"x" * BULKY, *[1] * MOST_BULKY]
    assert dump_block(few) is None
    assert same(load_block(bytearray(dump_block(many))), many)
