"""The path in a SerializationError leads to the guilty part, and is found in bounded time."""

import collections
import functools
import io
import threading
from time import perf_counter

import pytest

from parmap._wire import culprit
from parmap._wire.pickling import Codec
from parmap.errors import SerializationError

lock = threading.Lock()
log = io.TextIOWrapper(io.BytesIO())
settings = {"db": {"connection": lock}}
Point = collections.namedtuple("Point", "x y")  # noqa: PYI024


def refused(obj, what="fn"):
    with pytest.raises(SerializationError) as caught:
        Codec("to worker").dumps(obj, what)
    return caught.value


class Attributes:
    def __init__(self):
        self.lock = threading.Lock()
        self.table = {}


class Slots:
    __slots__ = ("__private", "public")

    def __init__(self):
        self.public = 1
        self.__private = threading.Lock()


class State:
    def __getstate__(self):
        return {"inner": [lock]}

    def __setstate__(self, state):
        raise AssertionError


class Refuses:
    def __reduce__(self):
        raise ValueError("not me")


def with_cell():
    guilty = threading.Lock()
    return lambda: guilty


def with_default():
    def inner(x, held=threading.Lock()):  # noqa: B008
        return x, held

    return inner


def with_global():
    return lambda: (lock, 1)


def with_deep_global():
    return lambda: settings


def with_file():
    return lambda: log


def with_class_attribute():
    class Holder:
        shared = lock

    return Holder


def with_method():
    class Holder:
        def run(self):
            return lock

    return Holder().run


def with_helper():
    def helper():
        return lock

    return lambda: helper()


def with_cache():
    @functools.lru_cache
    def cached():
        return lock

    return cached


CASES = [
    (with_global, "fn.__globals__['lock']"),
    (with_deep_global, "fn.__globals__['settings']['db']['connection']"),
    (with_file, "fn.__globals__['log']"),
    (with_cell, "fn.__closure__['guilty']"),
    (with_default, "fn.__defaults__[0]"),
    (with_class_attribute, "fn.shared"),
    (lambda: with_class_attribute().__call__(), "fn.__class__.shared"),
    (with_method, "fn.__self__.__class__.run.__globals__['lock']"),
    (with_helper, "fn.__closure__['helper'].__globals__['lock']"),
    (with_cache, "fn.__wrapped__.__globals__['lock']"),
    (lambda: functools.partial(pow, lock), "fn.args[0]"),
    (lambda: functools.partial(pow, mod=[lock]), "fn.keywords['mod'][0]"),
    (Attributes, "fn.lock"),
    (Slots, "fn.__private"),
    (lambda: [1, {2: (3, lock)}], "fn[1][2][1]"),
    (lambda: {"k": Point(1, lock)}, "fn['k'].y"),
    (lambda: {lock: 1}, "fn.keys()[0]"),
    (lambda: collections.deque([1, lock]), "fn[1]"),
    (lambda: [Refuses()], "fn[0]"),
    (lambda: (x for x in [1]), "fn"),
]


@pytest.mark.parametrize(("make", "path"), CASES, ids=[path for _, path in CASES])
def test_the_path_leads_to_the_guilty_part(make, path):
    assert refused(make()).path == path


def test_what_names_the_object():
    error = refused([lock], "args[3]")

    assert error.path == "args[3][0]"
    assert error.direction == "to worker"
    assert isinstance(error.__cause__, TypeError)
    assert "args[3][0] cannot be sent to the worker" in str(error)
    assert "parmap.Lock" in str(error)


def test_a_custom_state_is_followed_as_far_as_it_has_names():
    assert refused(State()).path == "fn['inner'][0]"


def test_the_reason_is_the_users_own():
    assert "ValueError: not me" in str(refused(Refuses()))


def test_sets_show_the_member():
    assert refused({lock}).path.startswith("fn{<")


def test_deep_nesting_gives_a_path_of_bounded_length():
    deep: object = [lock]
    for _ in range(100_000):
        deep = [deep]

    error = refused(deep)

    assert len(error.path) <= culprit.LONGEST_PATH + 10
    assert isinstance(error.__cause__, RecursionError)


def test_a_million_plain_values_before_it_do_not_hide_it():
    assert refused([*range(1_000_000), lock]).path == "fn[1000000]"


def test_when_time_is_up_only_the_whole_is_named():
    """What happens to be looked at then may be innocent."""
    codec = Codec("to worker")
    many: list = [[] for _ in range(200_000)]

    trail = culprit.find_trail([many, lock], codec.scope, seconds=0.01)

    assert trail == []
    assert culprit.path_along(trail) == ""


def test_all_failures_of_a_call_together_search_for_two_seconds_at_most():
    codec = Codec("to worker")
    codec.search_seconds = 0.0

    began = perf_counter()
    with pytest.raises(SerializationError) as caught:
        codec.dumps([[] for _ in range(10_000)] + [lock], "args[0]")

    assert caught.value.path == "args[0]"
    assert perf_counter() - began < 5


def test_an_error_whose_text_raises_is_still_reported():
    class BadError(Exception):
        def __str__(self):
            raise RuntimeError

    class Raises:
        def __reduce__(self):
            raise BadError

    assert "BadError" in str(refused(Raises()))


def test_one_slot_that_is_written_as_a_text_and_a_private_one_are_searched():
    class Single:
        __slots__ = "only"  # noqa: PLC0205 - Python allows it

    class Private(Single):
        __slots__ = ("__hidden", "unset")

        def __init__(self):
            self.only = 1
            self.__hidden = [threading.Lock()]

        def __reduce__(self):
            return Private, (), (None, {"x": self.__hidden})

    assert "hidden" in str(refused(Private(), "arg"))


def test_an_empty_cell_holds_nothing_guilty():
    """A function that refers to a name which was never given."""

    def outer(*, fills):
        lock = threading.Lock()

        def inner():
            return lock, never

        if fills:
            never = 1
        return inner

    assert "lock" in str(refused(outer(fills=False)))


def test_a_variable_that_is_deleted_before_its_place_is_named_ends_the_path_there():
    """By another thread: the error must still be the refusal."""
    guilty = threading.Lock()

    def outer():
        return guilty

    trail = culprit.find_trail(outer, Codec("to worker").scope)
    assert trail[-1] is guilty
    del outer.__closure__[0].cell_contents

    assert culprit.path_along(trail).startswith(".__closure__['guilty']")


def test_an_exception_with_a_guilty_part_is_not_refused():
    """It loses the part and says so, since it must arrive whatever it holds."""
    codec = Codec("to worker")
    back = codec.loads(codec.dumps(ValueError("bad", lock)))
    assert back.args == ("bad", repr(lock))
    assert "args[1]" in back.__notes__[0]
