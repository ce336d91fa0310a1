"""Which part of an object cannot be pickled? Its path goes into the error: ``args[1].lock``.

The object is pickled once more by `pickle`'s Python pickler, which is slow but keeps a trail: what
it has begun and not ended when the error comes leads to the guilty part. The work is bounded; when
time is up, the whole object is what can be named truly.
"""

from __future__ import annotations

import functools
import pickle
from collections import deque
from time import perf_counter
from types import CellType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from parmap._memory.transit import FdSink, exporting
from parmap._wire.byvalue import ByValueReducers
from parmap.errors import SerializationError, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parmap._wire.pickling import Codec
    from parmap._wire.scopes import Scope

    Part = tuple[Callable[[Any], str], object, object]

# Nothing of these fails, and nothing is inside them.
LEAVES = frozenset({int, float, complex, bool, type(None), str, bytes, bytearray})

SECONDS = 0.5
LONGEST_PATH = 200
_CURES = {
    "_thread.lock": "send a parmap.Lock instead",
    "_thread.RLock": "send a parmap.RLock instead",
    "_io.TextIOWrapper": "send its name, and open it in the worker",
    "_io.BufferedReader": "send its name, and open it in the worker",
    "_io.BufferedWriter": "send its name, and open it in the worker",
    "generator": "send a list of what it yields",
    "coroutine": "run it where it is made, with asyncio.run(...), and send what that returns",
    "sqlite3.Connection": "connect in the worker, for example in an initializer",
}


def refusal(codec: Codec, obj: object, what: str, error: BaseException) -> SerializationError:
    """Return the error to raise for `obj`, which `error` has kept from being pickled.

    `what` is empty for a call, whose parts the user knows by names of their own.
    """
    trail: list[object] = []
    # Out of memory, a second attempt will not help.
    if codec.search_seconds > 0 and not isinstance(error, MemoryError):
        began = perf_counter()
        trail = find_trail(obj, codec.scope, min(SECONDS, codec.search_seconds))
        codec.search_seconds -= perf_counter() - began
    path = (what + path_along(trail)).removeprefix(".") or "call"
    reason = _text_of(error)
    cure = _CURES.get(_name_of(type(trail[-1]))) if trail else None
    if cure is not None:
        title = getattr(trail[-1], "__qualname__", None)  # of a generator
        reason = f"{reason} {title!r}; {cure}" if title else f"{reason}; {cure}"
    return SerializationError(reason, direction=codec.direction, path=_shorten(path))


def find_trail(obj: object, scope: Scope, seconds: float = SECONDS) -> list[object]:
    """Return the objects from `obj` down to the guilty one; none if time runs out."""
    tracer = _Tracer(scope, perf_counter() + seconds)
    sink = FdSink()  # or handles, which need one, would be taken for the guilty ones
    try:
        with exporting(sink):
            tracer.dump(obj)
    except _TimeIsUpError:
        return []  # what is being pickled now may well be innocent
    except BaseException:  # noqa: S110 - the very error that we are looking for
        pass
    finally:
        sink.close()
    return tracer.trail


def path_along(trail: list[object]) -> str:
    """Spell the trail as Python would: attributes, items, globals.

    Between the parts that a user knows lie those of the pickler (arguments, states): skipped,
    unless nothing known follows.
    """
    path = ""
    at = 0
    while at < len(trail) - 1:
        ahead = {id(trail[j]): j for j in range(len(trail) - 1, at, -1)}
        nearest, label = len(trail), ""
        for spell, name, part in parts(trail[at]):
            place = ahead.get(id(part), nearest)
            if place < nearest:
                nearest, label = place, spell(name)
        path += label
        at = nearest if nearest < len(trail) else at + 1
    return path


def parts(obj: Any) -> Iterator[Part]:
    """Give the parts of an object that may be in its pickle, each with how to spell its place."""
    kind = type(obj)
    if isinstance(obj, dict):
        for key, value in dict.items(obj):
            yield _item, key, value
        for number, key in enumerate(dict.keys(obj)):
            yield ".keys()[{}]".format, number, key
    elif isinstance(obj, list | tuple | deque):
        names = getattr(kind, "_fields", None)  # of a namedtuple
        for number, value in enumerate(obj):
            yield (_attribute, names[number], value) if names else (_item, number, value)
    elif isinstance(obj, set | frozenset):
        for value in obj:
            yield _member, value, value
    special = _SPECIAL.get(kind)
    if special is not None:
        yield from special(obj)
    elif isinstance(obj, type):
        yield from _parts_of_class(obj)
    else:
        yield from _parts_of_instance(obj)


def _parts_of_instance(obj: Any) -> Iterator[Part]:
    yield from _attributes(obj)
    for base in type(obj).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = f"_{base.__name__.lstrip('_')}{name}" if _is_private(name) else name
            try:
                yield _attribute, name, object.__getattribute__(obj, mangled)
            except AttributeError:
                continue
    yield _attribute, "__class__", type(obj)


def _parts_of_class(cls: type) -> Iterator[Part]:
    for name, value in vars(cls).items():
        yield _attribute, name, value
    for number, base in enumerate(cls.__bases__):
        yield ".__bases__[{}]".format, number, base
    yield _attribute, "__class__", type(cls)


def _parts_of_function(function: FunctionType) -> Iterator[Part]:
    yield from _attributes(function)
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=False):
        yield ".__closure__[{!r}]".format, name, cell
    for number, value in enumerate(function.__defaults__ or ()):
        yield ".__defaults__[{}]".format, number, value
    for key in ("__kwdefaults__", "__globals__", "__annotations__"):
        for name, value in (getattr(function, key) or {}).items():
            yield (".{0[0]}[{0[1]!r}]".format, (key, name), value)


def _parts_of_cell(cell: CellType) -> Iterator[Part]:
    try:
        yield _unspelt, None, cell.cell_contents
    except ValueError:
        return  # empty


def _parts_of_partial(partial: functools.partial[Any]) -> Iterator[Part]:
    yield _attribute, "func", partial.func
    for number, value in enumerate(partial.args):
        yield ".args[{}]".format, number, value
    for name, value in partial.keywords.items():
        yield ".keywords[{!r}]".format, name, value
    yield from _attributes(partial)


def _parts_of_method(method: MethodType) -> Iterator[Part]:
    yield _attribute, "__self__", method.__self__
    yield _attribute, "__func__", method.__func__


def _wrapped(obj: Any) -> Iterator[Part]:
    for name in ("__func__", "__wrapped__", "fget", "fset", "fdel", "func"):
        if hasattr(obj, name):
            yield _attribute, name, getattr(obj, name)


def _attributes(obj: Any) -> Iterator[Part]:
    try:
        attributes = object.__getattribute__(obj, "__dict__")
    except Exception:
        return
    for name, value in attributes.items():
        yield _attribute, name, value


def _item(key: object) -> str:
    return f"[{short_repr(key, 40)}]"


def _member(value: object) -> str:
    return f"{{{short_repr(value, 40)}}}"


def _attribute(name: object) -> str:
    return f".{name}"


def _unspelt(_: object) -> str:
    return ""


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


_SPECIAL: dict[type, Callable[[Any], Iterator[Part]]] = {
    FunctionType: _parts_of_function,
    CellType: _parts_of_cell,
    MethodType: _parts_of_method,
    ModuleType: _attributes,
    functools.partial: _parts_of_partial,
    staticmethod: _wrapped,
    classmethod: _wrapped,
    property: _wrapped,
    functools.cached_property: _wrapped,
    type(functools.lru_cache(len)): _wrapped,
}


class _TimeIsUpError(Exception):
    pass


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


class _Tracer(ByValueReducers, pickle._Pickler):  # type: ignore[misc]
    """Pickles to nowhere and remembers where it is."""

    def __init__(self, scope: Scope, deadline: float) -> None:
        super().__init__(_Nowhere(), 5, buffer_callback=lambda _: False, scope=scope)
        self.trail: list[object] = []
        self._deadline = deadline
        self._steps = 0

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if type(obj) in LEAVES:
            return
        self.trail.append(obj)
        self._steps += 1
        if not self._steps % 64 and perf_counter() > self._deadline:
            raise _TimeIsUpError
        super().save(obj, save_persistent_id)  # type: ignore[misc]
        self.trail.pop()


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    if isinstance(error, SerializationError | TypeError | pickle.PicklingError) and text:
        return text  # these say it themselves
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _name_of(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _shorten(path: str) -> str:
    if len(path) <= LONGEST_PATH:
        return path
    half = LONGEST_PATH // 2
    return f"{path[:half]}…{path[-half:]}"
