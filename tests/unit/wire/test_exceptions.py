"""Whatever an exception does, it travels: itself if that is possible, a stand-in if not."""

# mypy: no-check-untyped-defs
# mypy: disable-error-code="override, misc, arg-type"
# (Exceptions are given odd parts on purpose.)

from __future__ import annotations

import asyncio
import concurrent.futures
import copyreg
import errno
import gc
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import weakref

import cloudpickle
import pytest

from parmap._wire import anatomy
from parmap._wire.exceptions import decode_exception, encode_exception
from parmap.errors import (
    RemoteError,
    SerializationError,
    TaskErrorGroup,
    TaskFailure,
    WorkerLostError,
    attach_failure,
    attributes_of,
    failure_of,
)


def raised(error, depth=3):
    """Raise it a few frames down; return it with its traceback."""
    try:
        _raise(error, depth)
    except BaseException as caught:
        return caught


def _raise(error, depth):
    if depth:
        _raise(error, depth - 1)
    raise error


def travel(error, dumps=pickle.dumps, loads=pickle.loads, **options):
    return decode_exception(encode_exception(error, dumps, **options), loads)


def printed(error):
    return "".join(traceback.format_exception(error))


def notes_of(error):
    return getattr(error, "__notes__", [])


# -- exceptions as people write them ---------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code

    def __str__(self):
        return f"code {self.code}"


class Formats(Exception):
    """Run twice, its constructor would format the message twice."""

    def __init__(self, message):
        super().__init__(f"<{message}>")


class Slotted(Exception):
    __slots__ = ("never_set", "place")

    def __init__(self, place):
        super().__init__("slotted")
        self.place = place


class MoreSlotted(Slotted):
    __slots__ = ("__hidden",)

    def __init__(self, place):
        super().__init__(place)
        self.__hidden = [place]

    def hidden(self):
        return self.__hidden


class OwnNew(Exception):
    def __new__(cls, a, b, *, c):
        self = super().__new__(cls, a, b)
        self.c = c
        return self

    def __init__(self, a, b, *, c):
        super().__init__(a, b)


class OwnOSError(OSError):
    def __init__(self, path, code=errno.EACCES):
        super().__init__(code, "told you", path)
        self.extra = code


class Stop(BaseException):
    pass


class Multiple(TwoArguments, ValueError, KeyError):
    pass


PLAIN = [
    ValueError("bad"),
    ValueError(),
    ValueError("a", 2, 3.5, None, True, b"x", 1j, 1 << 100, "\udc80"),
    ValueError(["a", {"b": (1, {2})}]),
    ValueError(bytearray(b"x")),
    KeyError("k"),
    IndexError(3),
    ZeroDivisionError("division by zero"),
    RuntimeError("StopIteration"),
    StopIteration(7),
    StopAsyncIteration(7),
    GeneratorExit("g"),
    KeyboardInterrupt(),
    SystemExit(3),
    SystemExit("text"),
    SystemExit(),
    Stop("s"),
    BaseException("b"),
    TimeoutError("mine"),
    EOFError(),
    concurrent.futures.CancelledError(),
    concurrent.futures.BrokenExecutor("x"),
    asyncio.CancelledError("a"),
    asyncio.IncompleteReadError(b"part", 10),
    FileNotFoundError(2, "No such file", "a.txt"),
    OSError(18, "cross", "a", None, "b"),
    OSError("only text"),
    OSError(99999, "odd"),
    BlockingIOError(11, "wait", 5),
    ConnectionResetError(104, "reset"),
    OwnOSError("/x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"),
    UnicodeTranslateError("é", 0, 1, "why"),
    SyntaxError("bad", ("f.py", 3, 7, "x = = 1\n", 3, 9)),
    IndentationError("bad", ("f.py", 3, 7, "x = = 1\n")),
    ImportError("no", name="mod", path="/p"),
    ModuleNotFoundError("no", name="mod"),
    NameError("name 'x' is not defined", name="x"),
    AttributeError("no", name="attr", obj="text"),
    MemoryError(),
    RecursionError("deep"),
    DeprecationWarning("old"),
    subprocess.CalledProcessError(3, ["cmd"], b"out", b"err"),
    sqlite3.OperationalError("no such table"),
    TwoArguments(404, "gone"),
    KeywordOnly(code=5),
    Formats("once"),
    Slotted("s"),
    Slotted(None),
    MoreSlotted("m"),
    OwnNew(1, 2, c=3),
    Multiple(1, "x"),
    SerializationError("no", direction="to caller", path="result[3]"),
    WorkerLostError(index=3, exitcode=-9),
    RemoteError("t", "x", "f"),
]


@pytest.mark.parametrize(
    "error", PLAIN, ids=[f"{n}-{type(e).__name__}" for n, e in enumerate(PLAIN)]
)
def test_it_arrives_as_it_was_raised(error):
    error = raised(error.with_traceback(None))
    back = travel(error)

    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    assert attributes_of(back) == attributes_of(error)
    for name, (get, *_) in anatomy.anatomy_of(type(error)).fields.items():
        try:
            was = get(error)
        except AttributeError:
            was = "unset"
        try:
            now = get(back)
        except AttributeError:
            now = "unset"
        assert now == was, name
    assert printed(back) == printed(error)
    assert travel(back).args == error.args


def test_attributes_and_notes_set_later_arrive():
    error = TwoArguments(1, "x")
    error.seen = {"by": ["me"]}
    error.add_note("first")
    error.add_note("second")
    back = travel(error)
    assert back.seen == {"by": ["me"]}
    assert back.__notes__ == ["first", "second"]


def test_an_exception_that_is_also_a_file_arrives():
    back = travel(raised(urllib.error.HTTPError("http://x", 404, "Not Found", {}, None)))
    assert type(back) is urllib.error.HTTPError
    assert (back.code, back.msg, back.filename) == (404, "Not Found", "http://x")


def test_changed_parts_arrive_as_changed():
    error = UnicodeDecodeError("utf-8", b"\xff\xfe", 0, 1, "why")
    error.start = 1
    error.reason = "another"
    stop = StopIteration(1)
    stop.value = 2
    plain = OSError("x")
    plain.errno, plain.args = 2, (2, "y")

    assert (travel(error).start, travel(error).reason) == (1, "another")
    assert (travel(stop).value, travel(stop).args) == (2, (1,))
    assert (type(travel(plain)), travel(plain).errno) == (OSError, 2)


def test_the_outermost_frames_of_the_exception_itself_can_be_left_out():
    error = raised(ValueError("x"))
    error.__cause__ = raised(KeyError("c"))
    back = travel(error, skip_frames=2)
    assert len(traceback.extract_tb(back.__traceback__)) == 3
    assert len(traceback.extract_tb(back.__cause__.__traceback__)) == 5


def test_parts_that_were_one_object_stay_one():
    shared = {"a": 1}
    error = ValueError(shared)
    error.response = shared
    back = travel(error)
    assert back.args[0] is back.response


# -- chains, contexts, groups ----------------------------------------------------------------------


def test_causes_contexts_and_suppression_arrive_with_their_tracebacks():
    def chain():
        try:
            try:
                _raise(KeyError("first"), 1)
            except KeyError as error:
                raise TwoArguments(2, "second") from error
        except TwoArguments:
            try:
                _raise(TypeError("third"), 2)
            except TypeError:
                raise ValueError("last") from None

    with pytest.raises(ValueError, match="last") as caught:
        chain()
    error = caught.value
    back = travel(error)

    assert printed(back) == printed(error)
    assert back.__cause__ is None
    assert back.__suppress_context__
    third = back.__context__
    assert type(third.__context__.__cause__) is KeyError
    assert printed(third) == printed(error.__context__)


def test_a_circle_of_contexts_arrives_as_a_circle():
    one, two = raised(ValueError(1)), raised(ValueError(2))
    one.__context__, two.__cause__ = two, one
    back = travel(one)
    assert back.__context__.__cause__ is back


def test_an_exception_that_causes_itself_does():
    error = ValueError(1)
    error.__cause__ = error.__context__ = error
    back = travel(error)
    assert back.__cause__ is back.__context__ is back


def test_groups_keep_structure_messages_and_each_traceback():
    inner = raised(ExceptionGroup("inner", [raised(KeyError("k")), raised(TwoArguments(1, "x"))]))
    inner.add_note("on the inner")
    outer = raised(BaseExceptionGroup("outer", [inner, raised(KeyboardInterrupt()), inner]))
    back = travel(outer)

    assert printed(back) == printed(outer)
    assert type(back) is BaseExceptionGroup
    assert back.exceptions[0] is back.exceptions[2]
    assert back.args[1][0] is back.exceptions[0]
    assert back.exceptions[0].__notes__ == ["on the inner"]


class Coded(ExceptionGroup):
    def __new__(cls, message, errors, code):
        self = super().__new__(cls, message, errors)
        self.code = code
        return self

    def __init__(self, message, errors, code):
        super().__init__(message, errors)

    def derive(self, errors):
        return Coded(self.message, errors, self.code)


def test_a_subclass_of_group_keeps_its_attributes_and_splits():
    back = travel(raised(Coded("c", [ValueError(1), TypeError(2)], code=8)))
    match, rest = back.split(ValueError)
    assert (type(match), match.code, type(rest), rest.code) == (Coded, 8, Coded, 8)


def test_a_group_that_is_found_through_its_own_part_first():
    """A part's number may be lower than its group's."""
    part = ValueError("part")
    group = ExceptionGroup("g", [part, ExceptionGroup("deeper", [part])])
    part.__cause__ = group
    top = KeyError("top")
    top.__cause__, top.__context__ = part, group
    back = travel(top)
    assert back.__cause__ is back.__context__.exceptions[0]
    assert back.__context__.exceptions[1].exceptions[0] is back.__cause__
    assert back.__cause__.__cause__ is back.__context__


def test_deeply_nested_groups_do_not_recurse():
    group = ValueError("core")
    for level in range(5000):
        group = ExceptionGroup(str(level), [group])
    back = travel(group)
    depth = 0
    while isinstance(back, ExceptionGroup):
        back, depth = back.exceptions[0], depth + 1
    assert depth == 5000


def test_a_chain_of_100_000_neither_recurses_nor_takes_for_ever():
    error = first = ValueError(0)
    for number in range(1, 100_000):
        error.__cause__ = ValueError(number)
        error = error.__cause__
    before = time.process_time()
    back = travel(first)
    assert time.process_time() - before < 30  # quadratic work would take hours
    count = 1
    while back.__cause__ is not None:
        back, count = back.__cause__, count + 1
    assert count == 100_000


def test_exceptions_in_args_and_attributes_stay_the_same_objects():
    inner = raised(TwoArguments(1, "x"))
    error = RuntimeError("wrapped", inner)
    error.__cause__ = inner
    error.original = inner
    error.all = [inner, 5, {"plain": 1}, [2]]
    error.pair = (inner, None)
    back = travel(error)
    assert back.args[1] is back.original is back.all[0] is back.pair[0] is back.__cause__
    assert back.all[1:] == [5, {"plain": 1}, [2]]
    assert printed(back.original) == printed(inner)


def test_which_item_failed_travels_with_it():
    error, other = raised(TwoArguments(1, "x")), raised(KeyError("o"))
    sibling = TaskFailure(9, other)
    attach_failure(other, sibling)
    attach_failure(error, TaskFailure(4, error, 2, [sibling]))
    back = travel(error)

    found = failure_of(back)
    assert (found.index, found.attempts, found.error) == (4, 2, back)
    assert failure_of(found.others[0].error) is found.others[0]


def test_a_group_of_failures_keeps_who_is_who():
    error = raised(TwoArguments(1, "x"))
    failure = TaskFailure(1, error)
    group = TaskErrorGroup("1 of 3", [error], results=[10, failure, {"big": [1]}])
    back = travel(raised(group))
    assert back.results[0] == 10
    assert back.results[1].error is back.exceptions[0]
    assert back.results[2] == {"big": [1]}
    assert printed(back) == printed(group)


# -- hooks -----------------------------------------------------------------------------------------


class BadReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("never pickled")


class ExitingReduce(Exception):
    def __reduce__(self):
        raise SystemExit(5)


class WrongReduce(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)

    def __reduce__(self):
        return (type(self), ("only one",))


class LyingReduce(Exception):
    def __reduce__(self):
        return (str, ("not an exception",))


class InterruptingRebuild(Exception):
    def __reduce__(self):
        return (_interrupt, ())


def _interrupt():
    raise KeyboardInterrupt


class BadState(Exception):
    def __setstate__(self, state):
        raise ValueError("no state for you")


class BadGetState(Exception):
    def __getstate__(self):
        raise GeneratorExit


@pytest.mark.parametrize(
    "error",
    [
        BadReduce("x"),
        ExitingReduce("x"),
        WrongReduce("x", "y"),
        LyingReduce("x"),
        InterruptingRebuild("x"),
        BadState("x"),
        BadGetState("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hooks_that_fail_cost_nothing(error):
    error.kept = 1
    error = raised(error)
    back = travel(error)
    assert (type(back), back.args, back.kept) == (type(error), error.args, 1)
    assert printed(back) == printed(error)

    error.lock = threading.Lock()  # now they are asked
    back = travel(error)
    assert (type(back), back.args, back.kept) == (type(error), error.args, 1)
    assert "attribute 'lock'" in back.__notes__[0]


class GoodHooks(Exception):
    """Holds what cannot be pickled, and knows how to make it anew."""

    def __init__(self, name):
        super().__init__(name)
        self.lock = threading.Lock()

    def __reduce__(self):
        return (GoodHooks, self.args)


def test_hooks_that_can_make_a_part_anew_are_used():
    error = GoodHooks("n")
    error.later = 1
    error.add_note("a note")
    back = travel(raised(error))
    assert isinstance(back.lock, type(threading.Lock()))
    assert back.later == 1
    assert back.__notes__ == ["a note"]


class Registered(Exception):
    def __init__(self, key):
        super().__init__()
        self.key = key
        self.lock = threading.Lock()


def test_a_class_registered_with_copyreg_is_pickled_that_way(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda e: (Registered, (e.key,)))
    anatomy._known.pop(id(Registered), None)
    back = travel(Registered("k"))
    anatomy._known.pop(id(Registered), None)
    assert back.key == "k"
    assert not notes_of(back)


# -- parts that cannot travel ----------------------------------------------------------------------


class HoldsLock(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()
        self.fine = [1]


class Evil:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return (_refuse, ())


def _refuse():
    raise RuntimeError("not here")


class EvilExit(Evil):
    def __reduce__(self):
        return (sys.exit, (3,))


def test_an_attribute_that_does_not_pickle_is_dropped_and_named():
    back = travel(raised(HoldsLock("m")))
    assert (type(back), back.args, back.fine) == (HoldsLock, ("m",), [1])
    assert not hasattr(back, "lock")
    (note,) = back.__notes__
    assert "attribute 'lock'" in note
    assert "cannot pickle '_thread.lock' object" in note


@pytest.mark.parametrize("evil", [Evil(), EvilExit()])
def test_an_attribute_that_does_not_unpickle_is_dropped_and_named(evil):
    error = TwoArguments(1, "x")
    error.evil = evil
    back = travel(error)
    assert (type(back), back.code, back.reason) == (TwoArguments, 1, "x")
    assert not hasattr(back, "evil")
    assert "attribute 'evil'" in back.__notes__[0]


def test_an_argument_that_does_not_travel_becomes_text():
    lock = threading.Lock()
    back = travel(ValueError("held", lock, Evil()))
    assert back.args[:2] == ("held", repr(lock))
    assert "RuntimeError: not here" in back.args[2]
    assert "args[1]" in back.__notes__[0]
    assert "args[2]" in back.__notes__[0]


def test_elements_and_fields_and_slots_that_do_not_travel_cost_only_themselves():
    inner = ValueError("i")
    error = StopIteration(threading.Lock())
    error.pair = (inner, threading.Lock())
    error.mixed = [inner, threading.Lock(), Evil()]
    slotted = Slotted(threading.Lock())
    evil = Slotted(Evil())

    back = travel(error)
    assert type(back.mixed[0]) is ValueError
    assert back.mixed[1:] == [
        "<lost: TypeError: cannot pickle '_thread.lock' object>",
        "<lost: RuntimeError: not here>",
    ]
    assert back.pair[0] is back.mixed[0]
    assert "'value'" in back.__notes__[0]
    assert "'place'" in travel(slotted).__notes__[0]
    assert "'place'" in travel(evil).__notes__[0]


def test_the_object_that_lacked_an_attribute_is_an_extra():
    """Python's own pickling leaves it out too; it must neither fail nor be big."""
    for obj in (threading.Lock(), Evil(), b"x" * 1_000_000, [b"x" * 1_000_000]):
        back = travel(AttributeError("no", name="a", obj=obj))
        assert (back.name, back.obj, notes_of(back)) == ("a", None, [])
        assert len(encode_exception(AttributeError("no", obj=obj), pickle.dumps)) < 100_000


@pytest.mark.parametrize("notes", [5, None, "text", ("a",), {"a": 1}, [1, None, "x"], ["\ud800"]])
def test_weird_notes_arrive_as_they_are(notes):
    error = raised(ValueError("x"))
    error.__notes__ = notes
    back = travel(error)
    assert back.__notes__ == notes
    assert printed(back) == printed(error)


def test_notes_that_do_not_travel_become_text():
    lock = threading.Lock()
    error = ValueError("x")
    error.__notes__ = ["a", lock]
    assert travel(error).__notes__[:2] == ["a", repr(lock)]


def test_losses_are_not_forced_on_weird_notes():
    error = HoldsLock("x")
    error.__notes__ = 5
    assert travel(error).__notes__ == 5


# -- classes that cannot travel --------------------------------------------------------------------


def make_local():
    class Local(Exception):
        def __init__(self, a, *, b):
            super().__init__(a)
            self.b = b

    return Local("a", b=2)


def test_a_local_class_goes_by_value_if_the_pickler_can():
    error = raised(make_local())
    back = travel(error, dumps=cloudpickle.dumps)
    assert (type(back).__qualname__, back.args, back.b) == ("make_local.<locals>.Local", ("a",), 2)


def test_a_class_that_cannot_be_sent_has_a_stand_in_with_the_same_frames():
    error = raised(make_local())
    error.add_note("kept")
    error.__cause__ = raised(KeyError("cause"))
    back = travel(error)

    assert type(back) is RemoteError
    assert back.type_name == f"{__name__}.make_local.<locals>.Local"
    assert back.text == "a"
    assert "Traceback (most recent call last)" in back.formatted_traceback
    assert "in _raise" in back.formatted_traceback
    assert traceback.format_tb(back.__traceback__) == traceback.format_tb(error.__traceback__)
    assert type(back.__cause__) is KeyError
    assert back.__notes__[0] == "kept"
    assert "its class" in back.__notes__[1]


def test_the_text_of_a_stand_in_shows_none_of_the_frames_that_are_left_out():
    """They are parmap's own."""
    error = raised(make_local(), depth=0)
    outer, inner = (frame.name for frame in traceback.extract_tb(error.__traceback__))
    assert (outer, inner) == ("raised", "_raise")

    back = travel(error, skip_frames=1)

    assert type(back) is RemoteError
    assert "in _raise" in back.formatted_traceback
    assert "in raised" not in back.formatted_traceback


class Replaced(Exception):
    """Its module is another one where it arrives."""


@pytest.mark.parametrize("there", [len, int, None], ids=repr)
def test_a_name_that_is_no_exception_class_where_it_arrives_gives_a_stand_in(there, monkeypatch):
    data = encode_exception(raised(Replaced("x")), pickle.dumps)
    monkeypatch.setitem(globals(), "Replaced", there)

    back = decode_exception(data, pickle.loads)

    assert (type(back), back.text) == (RemoteError, "x")
    assert f"{there!r} is no exception class" in back.__notes__[0]


def test_a_slot_that_the_class_has_not_got_where_it_arrives_is_lost_and_named(monkeypatch):
    """The file was changed under a worker that had imported it, say."""

    data = encode_exception(raised(MoreSlotted("here")), pickle.dumps)
    older = type("MoreSlotted", (Slotted,), {"__module__": __name__, "__slots__": ()})
    monkeypatch.setitem(globals(), "MoreSlotted", older)

    back = decode_exception(data, pickle.loads)

    assert type(back) is older
    assert (back.args, back.place) == (("slotted",), "here")
    (lost,) = back.__notes__
    assert "attribute '_MoreSlotted__hidden'" in lost


def test_a_class_that_arrives_but_cannot_be_found_has_a_stand_in():
    data = encode_exception(raised(TwoArguments(1, "x")), pickle.dumps)

    def loads(data):
        raise KeyboardInterrupt

    back = decode_exception(data, loads)
    assert type(back) is RemoteError
    assert (back.type_name, back.text) == (f"{__name__}.TwoArguments", "1: x")
    assert "in _raise" in back.formatted_traceback


def test_only_the_link_that_cannot_travel_is_replaced():
    error = raised(ValueError("top"))
    error.__cause__ = raised(make_local())
    error.__cause__.__cause__ = raised(KeyError("bottom"))
    back = travel(error)
    assert [type(back), type(back.__cause__), type(back.__cause__.__cause__)] == [
        ValueError,
        RemoteError,
        KeyError,
    ]


def test_a_group_whose_class_cannot_travel_is_still_a_group():
    class LocalGroup(ExceptionGroup):
        pass

    back = travel(raised(LocalGroup("g", [TwoArguments(1, "x"), make_local()])))
    assert type(back) is ExceptionGroup
    assert [type(part) for part in back.exceptions] == [TwoArguments, RemoteError]
    assert "LocalGroup" in back.__notes__[0]


# -- exceptions that fight back --------------------------------------------------------------------


class Fights(Exception):
    __slots__ = ()

    def __getattribute__(self, name):
        raise KeyboardInterrupt

    def __setattr__(self, name, value):
        raise SystemExit

    def __str__(self):
        raise GeneratorExit

    __repr__ = __str__

    def __bool__(self):
        return False

    def __eq__(self, other):
        raise RuntimeError

    def __hash__(self):
        raise RuntimeError

    @property
    def args(self):
        raise RuntimeError

    @property
    def __cause__(self):
        raise RuntimeError

    @property
    def __traceback__(self):
        raise RuntimeError

    @property
    def __class__(self):
        raise SystemExit

    @property
    def __dict__(self):
        raise SystemExit


def test_an_exception_that_fights_every_access_arrives():
    error = Fights("a", 1)
    BaseException.__dict__["__cause__"].__set__(error, ValueError("c"))
    attach_failure(error, TaskFailure(3, error))
    back = travel(error)

    assert type(back) is Fights
    assert BaseException.__dict__["args"].__get__(back) == ("a", 1)
    assert BaseException.__dict__["__cause__"].__get__(back).args == ("c",)
    assert failure_of(back).index == 3


class Meta(type):
    def __hash__(cls):
        raise KeyboardInterrupt

    def __eq__(cls, other):
        raise SystemExit

    def __instancecheck__(cls, instance):
        raise RuntimeError

    def __subclasscheck__(cls, other):
        raise RuntimeError


class OddlyMade(Exception, metaclass=Meta):
    pass


def test_metaclasses_that_fight_cost_at_most_the_class():
    class WorseMeta(type):
        def __getattribute__(cls, name):
            raise SystemExit(name)

    class WorseMade(Exception, metaclass=WorseMeta):
        pass

    assert BaseException.__dict__["args"].__get__(travel(OddlyMade("x"))) == ("x",)
    back = travel(WorseMade("x"))
    assert isinstance(back, (WorseMade, RemoteError))
    back = travel(ValueError(OddlyMade, WorseMade))
    assert type(back) is ValueError


def test_a_str_that_returns_a_subclass_of_str():
    class Text(str):
        __slots__ = ()

    class Odd(Exception):
        def __str__(self):
            return Text("odd")

    back = travel(raised(Odd(Text("x"))))
    assert (type(back), back.text) == (RemoteError, "odd")
    assert type(back.text) is str


def test_values_of_str_subclasses_and_enum_members_keep_their_type():
    import signal

    back = travel(ValueError(signal.SIGKILL))
    assert back.args[0] is signal.SIGKILL


def test_a_pickler_or_unpickler_that_always_fails_costs_only_what_needs_it():
    def fail(_):
        raise SystemExit("no")

    error = raised(ValueError("x", [1]))
    assert type(travel(error, dumps=fail)) is ValueError
    assert type(travel(error, loads=fail)) is ValueError
    assert type(travel(TwoArguments(1, "x"), dumps=fail)) is RemoteError


@pytest.mark.parametrize("data", [b"", b"nonsense", b"N"])
def test_data_that_is_damaged_gives_a_remote_error(data):
    assert type(decode_exception(data, pickle.loads)) is RemoteError


def test_a_failure_that_is_half_made_costs_only_its_exception():
    error = ValueError("x")
    error.__cause__ = raised(KeyError("k"))
    error.odd = TaskFailure.__new__(TaskFailure)
    assert isinstance(travel(error), (ValueError, RemoteError))


def test_an_extension_class_is_never_made_without_its_constructor():
    """Its methods may rely on memory that only the constructor sets."""

    class Bigger(Exception):
        pass

    made_known = anatomy.anatomy_of(Bigger)
    assert (made_known.base, made_known.is_known) == (Exception, True)
    made_known.is_known = False  # no such class is at hand in every Python
    back = travel(raised(Bigger("b")), dumps=cloudpickle.dumps)
    assert (type(back), back.args) == (Bigger, ("b",))
    back = travel(raised(Bigger("b")))
    assert (type(back), back.text) == (RemoteError, "b")

    def loads(data):
        loaded = cloudpickle.loads(data)
        if isinstance(loaded, Bigger):
            raise ValueError("it says how, and fails")
        return loaded

    back = travel(raised(Bigger("b")), dumps=cloudpickle.dumps, loads=loads)
    assert (type(back), back.text) == (RemoteError, "b")
    assert "only itself can make instances" in back.__notes__[0]


def test_classes_are_not_kept_alive():
    error = make_local()
    travel(error, dumps=cloudpickle.dumps)
    cls = weakref.ref(type(error))
    key = id(type(error))
    assert key in anatomy._known
    del error
    gc.collect()
    # cloudpickle itself may track it weakly; nobody holds it.
    assert cls() is None
    assert key not in anatomy._known


def test_the_codec_imports_little():
    heavy = ["traceback", "tblib", "cloudpickle", "pickle", "typing", "logging", "dataclasses"]
    code = f"""
import sys, parmap; before = set(sys.modules)
import parmap._wire.exceptions
print(*[name for name in {heavy!r} if name in set(sys.modules) - before])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_an_encoder_that_breaks_and_bytes_that_are_no_exception_still_give_an_error(monkeypatch):
    """Our bug, or no memory left: the caller hears all the same that the task failed."""
    from parmap._wire import exceptions

    def fail(*_):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(exceptions.Disassembly, "run", fail)
        data = exceptions.encode_exception(ValueError("lost"), pickle.dumps)
    back = exceptions.decode_exception(data, pickle.loads)
    assert isinstance(back, RemoteError)
    assert "lost" in str(back)
    assert "MemoryError: no room" in "".join([str(back), *getattr(back, "__notes__", [])])

    back = exceptions.decode_exception(b"no marshal", pickle.loads)
    assert isinstance(back, RemoteError)
    assert "could not be decoded" in str(back)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


def test_a_reason_whose_text_cannot_be_had_is_named_by_its_class():
    from parmap._wire.records import reason_of

    assert reason_of(Mute()) == "Mute"
    assert reason_of(ValueError("a\nb")) == "ValueError: a"


def test_an_attribute_whose_name_is_no_text_is_lost_and_the_others_arrive():
    """Python lets a program put anything into an instance's dictionary."""
    error = ValueError("x")
    error.good = 1
    error.__dict__[5] = 2
    with pytest.raises(ValueError, match="x") as info:
        raise decode_exception(encode_exception(error, pickle.dumps), pickle.loads)
    assert info.value.good == 1
    assert 5 not in info.value.__dict__
