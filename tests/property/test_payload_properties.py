"""Whatever values are packed, equal values of the same types come out, each by itself."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from parmap._wire.payload import error_positions, pack_values, unpack
from parmap._wire.pickling import Codec

atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False)
)  # fmt: skip
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=8,
)
poisons = st.builds(threading.Lock)


def shape(value):
    """The value with its types: 1, True and 1.0 are equal, and must not be confused."""
    if isinstance(value, list | tuple):
        return type(value), [shape(part) for part in value]
    if isinstance(value, dict):
        return dict, [(key, shape(part)) for key, part in value.items()]
    return type(value), value


@given(st.lists(values, max_size=12) | st.lists(atoms, max_size=12))
def test_values_come_out_as_they_went_in(items):
    payload = pack_values(items, Codec("to worker"), "args[{}]".format)

    out = unpack(payload.whole(), [], payload.block, Codec("to caller"))
    loaded = list(out) if payload.block else [item.load() for item in out]

    assert [shape(v) for v in loaded] == [shape(v) for v in items]


@given(st.lists(values.map(lambda v: (False, v)) | poisons.map(lambda v: (True, v)), min_size=1))
def test_exactly_the_poisoned_items_fail(items):
    bad = [index for index, (poisoned, _) in enumerate(items) if poisoned]
    payload = pack_values([[value] for _, value in items], Codec("to worker"), "args[{}]".format)

    out = unpack(payload.whole(), [], payload.block, Codec("to caller"))

    assert error_positions(payload.whole()) == bad
    for index, ((_, value), item) in enumerate(zip(items, out, strict=True)):
        if index in bad:
            assert item.load().path == f"args[{index}][0]"
        else:
            assert shape(item.load()) == shape([value])
