# mypy: ignore-errors
# ruff: noqa: UP044, PIE796, PYI024, RUF012 - users write such things
"""What by-value pickling must get right, as a user's script without a guard: never import it.

Each case sends functions, classes and instances of this very script to a fresh interpreter. Prints
"ok <case>" or "FAILED <case>: why" for each.
"""

import abc
import collections
import dataclasses
import enum
import functools
import math
import os.path
import threading
import typing

from support.wire_peer import Peer, TaskFailedError

T = typing.TypeVar("T")
P = typing.ParamSpec("P")
Ts = typing.TypeVarTuple("Ts")
UserId = typing.NewType("UserId", int)


class Color(enum.Enum):
    RED = 1
    GREEN = 2
    CRIMSON = 1


class Planet(enum.Enum):
    EARTH = (5.97, 6.3)
    MARS = (0.6, 3.4)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @property
    def density(self):
        return self.mass / self.radius


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


class Level(enum.IntEnum):
    LOW = 1


class Unit(enum.StrEnum):
    METRE = enum.auto()


class Labelled(enum.Enum):
    def __new__(cls, value, label):
        member = object.__new__(cls)
        member._value_ = value
        member.label = label
        return member

    ONE = (1, "one")
    TWO = (2, "two")

    @classmethod
    def _missing_(cls, value):
        return cls.ONE


Point = collections.namedtuple("Point", "x y")


class Pair(typing.NamedTuple):
    left: int
    right: str = "q"

    def both(self):
        return self.left, self.right


@dataclasses.dataclass
class Data:
    x: int
    y: list = dataclasses.field(default_factory=list)
    kind: typing.ClassVar[int] = 3
    init: dataclasses.InitVar[int] = 2

    def __post_init__(self, init):
        pass


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int


@dataclasses.dataclass(slots=True, order=True)
class Slotted:
    x: int

    def name(self):
        return __class__.__name__


class Base:
    def make(self):
        return Derived()

    def greet(self):
        return "base"


class Derived(Base):
    def greet(self):
        return "derived, " + super().greet()


class Outer:
    class Inner:
        value = 1


class Box(typing.Generic[T]):
    def __init__(self, value):
        self.value = value


class IntBox(Box[int]):
    pass


class Fields(typing.TypedDict):
    a: int


@typing.runtime_checkable
class Goes(typing.Protocol):
    def go(self) -> int: ...


class Goer:
    def go(self):
        return 4


class Abstract(abc.ABC):
    @abc.abstractmethod
    def q(self): ...


class Concrete(Abstract):
    def q(self):
        return "q"


class Registered:
    pass


Abstract.register(Registered)


class PrivateSlots:
    __slots__ = ("__dict__", "__private", "public")

    def __init__(self):
        self.public = 1
        self.__private = 2

    def private(self):
        return self.__private


class Meta(type):
    made = []

    def __new__(mcs, name, bases, names, **options):
        mcs.made.append(name)
        return super().__new__(mcs, name, bases, names, **options)

    def __call__(cls, *args):
        instance = super().__call__(*args)
        instance.tag = cls.__name__
        return instance


class Hooked(metaclass=Meta):
    def __init_subclass__(cls, *, level, **options):
        cls.level = level
        cls.seen = [cls.__name__]


class Sub(Hooked, level=3):
    pass


class Cached:
    def __init__(self, x):
        self.x = x

    @functools.cached_property
    def double(self):
        return self.x * 2

    @functools.lru_cache(maxsize=7)  # noqa: B019
    def plus(self, y):
        return self.x + y

    @functools.singledispatchmethod
    def kind(self, _):
        return "object"

    @kind.register
    def _(self, _: int):
        return "int"

    @property
    def prop(self):
        return self.x

    @prop.setter
    def prop(self, value):
        self.x = value

    @staticmethod
    def static():
        return "s"

    @classmethod
    def name(cls):
        return cls.__name__

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return type(other) is type(self)


class TwoArgumentsError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}{b}")
        self.a = a


class Numbers(list):
    pass


class Names(dict):
    pass


class Text(str):
    __slots__ = ()


class Loud(Base):
    run = lambda self: 5  # noqa: E731


@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@functools.singledispatch
def shape(_):
    return "object"


@shape.register
def _(_: int):
    return "int"


@shape.register
def _(x: list):
    return [shape(e) for e in x]


@shape.register(Data)
def _(_):
    return "data"


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def counting():
    n = 0

    def increase():
        nonlocal n
        n += 1

    def get():
        return n

    def both():
        increase()
        increase()
        return get()

    return both


def recursive_local():
    def count(k):
        return 1 if k < 2 else k * count(k - 1)

    return count


def local_class():
    class Local:
        def __init__(self):
            self.q = 1

        def myself(self):
            return Local

        def __call__(self, x):
            return x + self.q

    return Local


class Missing:
    """A singleton that pickles as the name of a global: as a worker cannot find it there."""

    def __init__(self):
        self.why = "left out"

    def __reduce__(self):
        return "MISSING"


MISSING = Missing()


def annotated(f: typing.Callable[P, T], *rest: typing.Unpack[Ts]) -> UserId:
    return UserId(len(rest))


@dataclasses.dataclass
class Extended(Data):
    more: int = 5


number = 0
lock = threading.Lock()


def count_up():
    global number
    number += 1
    return number


def read_number():
    return number


def use_lock():
    return lock


def sentinel(cls=Base):
    return getattr(cls, "written", None)


def write_class():
    Base.written = 1
    return Base.written


MADE = [
    lambda: Point(1, 2), lambda: Pair(1), lambda: Data(1), lambda: Frozen(1), lambda: Slotted(3),
    Base, Derived, Outer.Inner, lambda: Box(1), lambda: IntBox(2), Goer, Concrete, PrivateSlots,
    Hooked, Sub, lambda: Cached(2), lambda: TwoArgumentsError(1, 2), lambda: Numbers([1]),
    lambda: Names(a=1), lambda: Text("t"), lambda: local_class()(), lambda: Color.RED,
]  # fmt: skip


def cases(peer):
    call = peer.call
    members = [
        Color.RED, Color.CRIMSON, Planet.EARTH, Access.READ, Access.BOTH,
        Access.READ | Access.WRITE, Level.LOW, Unit.METRE, Labelled.ONE,
    ]  # fmt: skip
    for member in members:
        yield f"{member!r} keeps its identity", lambda m=member: call(lambda x: x, m) is m
    for make in MADE:
        thing = make()
        kind = type(thing)
        name = kind.__name__
        yield f"{name}: sent and back", lambda t=thing, k=kind: type(call(lambda x: x, t)) is k
        yield f"{name}: is one class there", lambda t=thing, k=kind: call(lambda x: type(x) is k, t)
        yield f"{name}: the class itself", lambda k=kind: call(lambda: k) is k
        if "<locals>" not in kind.__qualname__:
            yield f"{name}: made there", lambda m=make, k=kind: type(call(m)) is k
    yield "attributes of members", lambda: call(lambda: Planet.EARTH.density) == 5.97 / 6.3
    yield "__new__ of members", lambda: call(lambda: (Labelled.TWO.label, Labelled(9).name)) == (
        "two", "ONE",
    )  # fmt: skip
    yield "aliases", lambda: call(lambda: (Color.CRIMSON is Color.RED, [*Color.__members__])) == (
        True, ["RED", "GREEN", "CRIMSON"],
    )  # fmt: skip
    yield "flags", lambda: call(lambda: (Access.READ | Access.WRITE) is Access.BOTH)
    yield "namedtuple methods", lambda: call(lambda p: (p.both(), p._replace(left=3)), Pair(1)) == (
        (1, "q"), Pair(3),
    )  # fmt: skip
    yield (
        "__class__ in a class with slots",
        lambda: call(lambda x: x.name(), Slotted(1)) == "Slotted",
    )
    yield "equality and hash", lambda: call(lambda x: x == Frozen(1) and hash(x) == hash(Frozen(1)),
                                            Frozen(1))  # fmt: skip
    yield "slots stay slots", lambda: not call(lambda x: hasattr(x, "__dict__"), Frozen(1))
    yield "fields", lambda: call(lambda: [f.name for f in dataclasses.fields(Data)]) == ["x", "y"]
    yield (
        "replace",
        lambda: (
            call(lambda x: dataclasses.asdict(dataclasses.replace(x, x=5, init=1)), Data(1))
            == {"x": 5, "y": []}
        ),
    )
    yield (
        "super and classes that name each other",
        lambda: call(lambda x: x.make().greet(), Base()) == "derived, base",
    )
    yield "registered subclasses", lambda: call(lambda: isinstance(Registered(), Abstract))
    yield "protocols", lambda: call(lambda x: isinstance(x, Goes), Goer())
    yield "private names", lambda: call(lambda x: x.private(), PrivateSlots()) == 2
    yield (
        "metaclasses, and hooks run once",
        lambda: (
            call(lambda: (Sub().tag, Sub.level, Sub.seen, Meta.made))
            == ("Sub", 3, ["Sub"], ["Hooked", "Sub"])
        ),
    )
    yield "cached methods and friends", lambda: (
        call(lambda c: (c.double, c.plus(3), c.kind(1), c.kind("a"), c.prop, c.static(), c.name()),
             Cached(5)) == (10, 8, "int", "object", 5, "s", "Cached")
    )  # fmt: skip
    yield "cache parameters", lambda: call(lambda: Cached.plus.cache_parameters()) == {
        "maxsize": 7, "typed": False,
    }  # fmt: skip
    yield "lru_cache, recursive by its global name", lambda: call(fib, 50) == 12586269025
    yield (
        "the cache is used",
        lambda: (
            call(
                lambda: (fib(30), fib.cache_info().currsize, fib.__name__, fib.__wrapped__.__name__)
            )
            == (832040, 31, "fib", "fib")
        ),
    )
    yield "singledispatch, recursive", lambda: call(shape, [1, "a", [2], Data(1)]) == [
        "int", "object", ["int"], "data",
    ]  # fmt: skip
    yield "singledispatch keeps its name", lambda: call(lambda: shape.__name__) == "shape"
    yield "mutual recursion", lambda: call(even, 10)
    yield "recursion", lambda: call(factorial, 5) == 120
    yield "partial", lambda: call(functools.partial(lambda a, b, *, c: (a, b, c), 1, c=3), 2) == (
        1, 2, 3,
    )  # fmt: skip
    yield "bound cached method", lambda: call(Cached(4).plus, 3) == 7
    yield "bound method with super", lambda: call(Derived().greet) == "derived, base"
    yield "bound lambda", lambda: call(Loud().run) == 5
    yield "class and static methods", lambda: (call(Cached.name), call(Cached.static)) == (
        "Cached", "s",
    )  # fmt: skip
    yield "closures share their variables", lambda: call(counting()) == 2
    yield "recursive local function", lambda: call(recursive_local(), 5) == 120
    yield "local class, callable", lambda: call(local_class()(), 2) == 3
    yield (
        "modules and submodules",
        lambda: (
            call(lambda m: m.sqrt(4), math) == 2 and call(lambda: os.path.join("a", "b")) == "a/b"
        ),
    )
    yield "views of a dict", lambda: [*call(lambda d: list(d), {1: 2}.keys())] == [1]
    yield "memoryview", lambda: call(lambda m: m.tolist(), memoryview(b"abc")) == [97, 98, 99]
    yield (
        "TypedDict and hints",
        lambda: call(lambda: (Fields(a=1), typing.get_type_hints(Data)["x"])) == ({"a": 1}, int),
    )
    yield "TypeVar and generic aliases", lambda: call(lambda: Box[int]) == Box[int]
    yield (
        "a singleton that pickles by name",
        lambda: (
            call(lambda x: (x is MISSING, x.why), MISSING) == (True, "left out")
            and call(lambda: [MISSING])[0] is MISSING
            and call(lambda x: x, MISSING) is MISSING
        ),
    )
    yield (
        "a variable of a closure that is None, or not set yet",
        lambda: call(unset()) == (None, True),
    )
    yield "annotations of all kinds", lambda: call(annotated, len, 1, 2) == 2
    yield "a dataclass is extended there", lambda: call(extend) == ([1, [], 5], True)
    yield "a function made there comes back", lambda: call(lambda: lambda x: x + number)(1) == 1
    yield (
        "globals are shared within a call",
        lambda: peer.map(lambda _: (count_up(), read_number()), "abc") == [(1, 1), (2, 2), (3, 3)],
    )
    yield "and anew for the next", lambda: call(lambda: (count_up(), read_number())) == (1, 1)
    yield (
        "a function among the items shares them too",
        lambda: peer.map(lambda f: f(), [count_up, count_up, read_number]) == [1, 2, 2],
    )
    yield (
        "classes are anew for each call",
        lambda: call(write_class) == 1 and call(sentinel) is None and not hasattr(Base, "written"),
    )
    yield (
        "globals that cannot travel are named",
        lambda: path_of(peer, use_lock) == ("fn.__globals__['lock']"),
    )
    yield "task errors come back", lambda: fails_with(lambda: call(lambda: 1 / 0), "ZeroDivision")


def unset():
    nothing = None

    def use():
        try:
            return nothing, later
        except NameError:
            return nothing, True

    if not use:
        later = 1
    return use


def extend():
    @dataclasses.dataclass
    class More(Data):
        z: int = 5

    made = More(1)
    fields = dataclasses.fields(More)
    return [made.x, made.y, made.z], fields[0].default is dataclasses.MISSING


def path_of(peer, fn):
    from parmap.errors import SerializationError

    try:
        peer.open(fn)
    except SerializationError as error:
        return error.path
    return None


def fails_with(act, text):
    try:
        act()
    except TaskFailedError as error:
        return text in str(error)
    return False


with Peer() as peer:
    for title, check in cases(peer):
        try:
            answer = check()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print("ok" if answer is True else "FAILED", f"{title}: {answer}")
print("end")
