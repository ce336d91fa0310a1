"""For any graph of exceptions: what arrives has the same shape, values, text and frames."""

# mypy: no-check-untyped-defs
# mypy: disable-error-code="override, misc, arg-type"
# (Exceptions are given odd parts on purpose.)

from __future__ import annotations

import pickle
import traceback

from hypothesis import given, settings
from hypothesis import strategies as st

from parmap._wire.exceptions import decode_exception, encode_exception
from parmap.errors import TaskFailure, attach_failure, attributes_of, failure_of


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class Slotted(ValueError):
    __slots__ = ("place",)


class BadReduce(Exception):
    def __reduce__(self):
        raise SystemExit


class WrongReduce(LookupError):
    def __reduce__(self):
        return (WrongReduce, (1,), {"__notes__": 3, "wrong": True})


class Coded(BaseExceptionGroup):
    def derive(self, errors):
        return Coded(self.message, errors)


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.complex_numbers(allow_nan=False),
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
LEAVES = [
    lambda a: ValueError(*a),
    lambda a: KeyError(*a),
    lambda a: OSError(*a),
    lambda a: StopIteration(*a),
    lambda a: SystemExit(*a),
    lambda a: GeneratorExit(*a),
    lambda a: ImportError(*a, name="n"),
    lambda a: AttributeError(*a, name="n", obj=3),
    lambda a: UnicodeDecodeError("utf-8", b"\xff" + bytes(len(a)), 0, 1, "why"),
    lambda a: TwoArguments(a, b=a),
    lambda a: Slotted(*a),
    lambda a: BadReduce(*a),
    lambda a: WrongReduce(*a),
]


@st.composite
def graphs(draw):
    """Draw a few exceptions that refer to each other in any way; the first comes first."""
    made: list[BaseException] = []
    for _ in range(draw(st.integers(1, 7))):
        if made and draw(st.booleans()):
            parts = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
            make = draw(st.sampled_from([BaseExceptionGroup, Coded]))
            error = make(draw(st.text()), parts)
        else:
            make = draw(st.sampled_from(LEAVES))
            error = make(draw(st.lists(values, max_size=3)))
        made.append(raised(error, draw(st.integers(0, 3))))
    for error in made:
        link(draw, error, made)
    return made[-1]


def link(draw, error, made):
    maybe = st.none() | st.sampled_from(made)
    error.__cause__ = draw(maybe)
    error.__context__ = draw(maybe)
    error.__suppress_context__ = draw(st.booleans())
    for note in draw(st.lists(st.text(), max_size=2)):
        error.add_note(note)
    error.other = draw(maybe | st.lists(st.sampled_from(made) | atoms, max_size=3) | values)
    if type(error) is Slotted and draw(st.booleans()):
        error.place = draw(values)
    if draw(st.booleans()):
        siblings = [TaskFailure(1, other) for other in draw(st.lists(st.sampled_from(made)))]
        attach_failure(error, TaskFailure(0, error, 2, siblings))


def raised(error, depth):
    try:
        _raise(error, depth)
    except BaseException as caught:
        caught.__context__ = None
        return caught


def _raise(error, depth):
    if depth:
        _raise(error, depth - 1)
    raise error


def assert_same(was, now):
    """Walk both graphs side by side; equal shapes pair every exception with one other."""
    pairs, todo = {}, [(was, now)]
    while todo:
        one, other = todo.pop()
        if isinstance(one, BaseException):
            if id(one) in pairs:
                assert pairs[id(one)] is other
                continue
            pairs[id(one)] = other
            todo += exception_parts(one, other)
        elif type(one) is TaskFailure:
            assert (one.index, one.attempts) == (other.index, other.attempts)
            todo += [(one.error, other.error), (one.others, other.others)]
        elif type(one) in (list, tuple):
            assert type(other) is type(one)
            todo += zip(one, other, strict=True)
        else:
            assert (type(one), one) == (type(other), other)


def exception_parts(one, other):
    assert type(one) is type(other)
    assert traceback.format_tb(one.__traceback__) == traceback.format_tb(other.__traceback__)
    assert one.__suppress_context__ == other.__suppress_context__
    own, theirs = attributes_of(one), attributes_of(other)
    assert own.keys() == theirs.keys()
    yield one.args, other.args
    yield one.__cause__, other.__cause__
    yield one.__context__, other.__context__
    yield getattr(one, "exceptions", None), getattr(other, "exceptions", None)
    yield getattr(one, "message", None), getattr(other, "message", None)
    for name in ("errno", "value", "code", "name", "place", "start", "object", "msg"):
        yield getattr(one, name, "unset"), getattr(other, name, "unset")
    yield from ((own[key], theirs[key]) for key in own)


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_any_graph_of_exceptions_survives(error):
    back = decode_exception(encode_exception(error, pickle.dumps), pickle.loads)
    assert_same(error, back)
    if failure_of(error) is not None:
        assert failure_of(back).error is back


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_a_pickler_that_fails_at_any_moment_loses_pieces_and_never_raises(error, data):
    def unreliable(pickler):
        def call(value):
            if data.draw(st.integers(0, 3)) == 0:
                raise data.draw(st.sampled_from([KeyboardInterrupt, SystemExit, ValueError]))
            return pickler(value)

        return call

    encoded = encode_exception(error, unreliable(pickle.dumps))
    back = decode_exception(encoded, unreliable(pickle.loads))
    assert isinstance(back, BaseException)
    assert traceback.format_tb(back.__traceback__) == traceback.format_tb(error.__traceback__)
