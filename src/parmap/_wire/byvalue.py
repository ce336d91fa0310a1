"""Pickling by value: functions and classes that a worker cannot import travel as their parts.

cloudpickle knows the parts of functions and classes; WHAT goes by value is decided here (see
`importable`), and so is what cloudpickle leaves out: caches, single dispatch, shared cells and
globals, identity of classes. Importing this module imports cloudpickle: only on need.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import io
import pickle
import sys
from contextvars import ContextVar
from types import (
    CellType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any

import cloudpickle.cloudpickle

from parmap._wire import rebuild
from parmap._wire.arrays import array_type, reduce_array
from parmap._wire.importable import goes_by_reference, is_importable, is_named
from parmap._wire.pickling import PROTOCOL, is_attribute, reduce_exception
from parmap._wire.scopes import (
    adopt_class,
    adopt_globals,
    adopt_named,
    fill_class,
    fill_function,
    id_of,
    known_class,
    named,
)
from parmap._wire.stdlib import way_of
from parmap._wire.tracebacks import reduce_traceback
from parmap._wire.variables import reduce_variable

# cloudpickle has no public names for the parts, and no types.
cp: Any = cloudpickle.cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._wire.pickling import Buffers
    from parmap._wire.scopes import Scope

_LruCache = type(functools.lru_cache(len))
# All functions that `singledispatch` returns share this code.
_SINGLE_DISPATCH = functools.singledispatch(len).__code__  # type: ignore[attr-defined]
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time, not part of an extension module


class _Globals:
    """Stands for the globals of functions in a pickle; one per dictionary: they are shared."""

    __slots__ = ("names", "token")

    def __init__(self, token: object, names: dict[str, Any]) -> None:
        self.token = token
        self.names = names

    def __reduce__(self) -> Any:
        return adopt_globals, (self.token, self.names)


class ByValueReducers:
    """The decisions, apart from the pickler: the search for guilty parts needs them, too."""

    def __init__(self, *args: Any, scope: Scope, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scope = scope
        self.dispatch_table = {**copyreg.dispatch_table, **_CLOUDPICKLE}
        self._globals: dict[int, _Globals] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Decide for everything but plain values."""
        kind = type(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind is FunctionType:
            return self._reduce_function(obj)
        by_kind = _REDUCERS.get(kind)
        if by_kind is not None:
            return by_kind(obj)
        way = way_of(kind)
        if way is not None and (reduced := way(obj, self.scope)) is not NotImplemented:
            return reduced
        if issubclass(kind, BaseException):
            return reduce_exception(obj, self.scope)
        if kind is ContextVar:
            return reduce_variable(obj, self.scope)
        if issubclass(kind, functools.cached_property):
            return _reduce_cached_property(obj)
        if kind is array_type():
            return reduce_array(obj)
        if _has_reduce(kind) and kind not in self.dispatch_table:
            return self._reduce_named(obj)
        return NotImplemented

    def _reduce_class(self, cls: type) -> Any:
        if cls in cp._BUILTIN_TYPE_NAMES or cls in _SINGLETON_TYPES:
            return cp._class_reduce(cls)
        if goes_by_reference(cls):
            return NotImplemented
        if self.scope.joins and (class_id := self.scope.knows(cls)) is not None:
            return known_class, (class_id,)
        if not cls.__flags__ & _HEAP_TYPE:
            name = f"{cls.__module__}.{cls.__qualname__}"
            raise pickle.PicklingError(f"{cls!r} is not found as {name}")
        class_id = id_of(cls)
        self.scope.classes.setdefault(class_id, cls)
        make, args, (attributes, slots), *_, setter = cp._dynamic_class_reduce(cls)
        state: tuple[Any, ...] = setter, (attributes, slots)
        if make is cp._make_skeleton_enum:
            args, state = _complete_enum(cls, args, state)
        else:
            make, args = rebuild.make_class, _class_arguments(cls, args, attributes)
        return adopt_class, (class_id, make, args), state, None, None, fill_class

    def _reduce_named(self, obj: Any) -> Any:
        """Look twice at what may reduce to the name of a global: a worker has other globals."""
        reduced = obj.__reduce_ex__(PROTOCOL)
        if type(reduced) is not str:
            return reduced
        module = getattr(obj, "__module__", None) or pickle.whichmodule(obj, reduced)  # type: ignore[attr-defined]
        if is_named(obj, module, reduced):
            return NotImplemented
        kind = type(obj)
        remake = _TYPING.get(kind.__qualname__) if kind.__module__ == "typing" else None
        if remake is not None:
            return kind, remake(obj)
        if not kind.__flags__ & _HEAP_TYPE:
            return NotImplemented  # of C code: pickle will say what is wrong
        key = module, reduced
        if not self.scope.joins:
            self.scope.named.setdefault(key, obj)
        elif self.scope.named.get(key) is obj:
            return named, key  # it came from there
        state = getattr(obj, "__dict__", None)
        return adopt_named, (module, reduced, type(obj)), state

    def _reduce_function(self, function: Any) -> Any:
        if goes_by_reference(function):
            return NotImplemented
        if function.__code__ is _SINGLE_DISPATCH:
            return _reduce_single_dispatch(function)
        namespace = function.__globals__
        stand_in = self._globals.get(id(namespace))
        token = self.scope.token_of(namespace)
        if stand_in is None:
            names = {k: namespace[k] for k in _MODULE_NAMES if k in namespace}
            stand_in = self._globals[id(namespace)] = _Globals(token, names)
        attributes, slots = cp._function_getstate(function)
        # The cells themselves go with the function, so that two functions can share one.
        cells, slots["__closure__"] = slots["__closure__"], None
        args = function.__code__, stand_in, None, None, cells
        state = cp._function_setstate, (attributes, slots), token
        return cp._make_function, args, state, None, None, fill_function


def _class_arguments(cls: type, args: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """Return what `rebuild.make_class` needs. Takes the slots out of `attributes`: they come first.

    Hooks of by-value classes do not run again: what they did is among the attributes.
    """
    meta, name, _bases, names, *_ = args
    maker = next(m for m in meta.__mro__ if goes_by_reference(m))
    if maker.__name__ == "_TypedDictMeta":
        maker = type  # it accepts no class that is finished already
    if "__orig_bases__" in attributes:
        names["__orig_bases__"] = attributes["__orig_bases__"]  # Generic looks at it at once
    hooked = [
        base
        for base in cls.__mro__[1:]
        if "__init_subclass__" in vars(base) and not goes_by_reference(base)
    ]
    if "__slots__" in vars(cls):
        names["__slots__"] = attributes.pop("__slots__")
        for descriptor in [k for k, v in attributes.items() if type(v) is MemberDescriptorType]:
            del attributes[descriptor]
    return meta, maker, name, cls.__bases__, names, *hooked


def _complete_enum(cls: Any, args: tuple[Any, ...], state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Add what cloudpickle leaves out of an Enum: aliases, and the attributes of members."""
    bases, name, qualname, _members, *rest = args
    setter, (attributes, slots) = state
    everything = cls.__members__
    attributes = {
        k: v
        for k, v in attributes.items()
        if k not in everything and k not in {"_hashable_values_", "_unhashable_values_"}
    }
    extras = {
        member.name: {k: v for k, v in vars(member).items() if k not in _NOT_OF_A_MEMBER}
        for member in cls
    }
    values = {k: member.value for k, member in everything.items()}
    # cloudpickle's own tracking of classes (None) would hand out the class of an earlier call.
    args = bases, name, qualname, values, *rest[:-2], None, rest[-1]
    return args, (rebuild.fill_enum, (setter, (attributes, slots), extras))


class ByValuePickler(ByValueReducers, pickle.Pickler):  # type: ignore[misc]
    """Pickles what `pickle` can, and by value what a worker could not import."""

    def __init__(self, file: io.BytesIO, buffers: Buffers | None, scope: Scope) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffers, scope=scope)


def _reduce_method(method: MethodType) -> Any:
    if is_attribute(method):
        return NotImplemented
    return MethodType, (method.__func__, method.__self__)


def _reduce_cell(cell: CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return CellType, ()  # empty
    # Made first and filled later: what is in it may refer to it.
    return CellType, (), (contents,), None, None, rebuild.fill_cell  # a state of None is not set


def _reduce_module(module: ModuleType) -> Any:
    name = module.__name__
    if sys.modules.get(name) is module and is_importable(module, name):
        return cp.subimport, (name,)
    names = {k: v for k, v in vars(module).items() if k not in _NOT_OF_A_MODULE}
    return ModuleType, (name, module.__doc__), names, None, None, rebuild.fill_module


def _reduce_lru_cache(cached: Any) -> Any:
    if goes_by_reference(cached):
        return NotImplemented
    attributes = {k: v for k, v in vars(cached).items() if k != "cache_parameters"}
    parameters = cached.cache_parameters()
    args = cached.__wrapped__, parameters["maxsize"], parameters["typed"]
    return rebuild.make_lru_cache, args, attributes, None, None, rebuild.fill_attributes


def _reduce_single_dispatch(function: Any) -> Any:
    registry = dict(function.registry)
    attributes = {
        k: v
        for k, v in vars(function).items()
        if k not in {"register", "dispatch", "registry", "_clear_cache", "__wrapped__"}
    }
    args = (registry.pop(object),)
    names = {k: getattr(function, k) for k in ("__name__", "__qualname__", "__module__", "__doc__")}
    state = registry, {**attributes, **names}
    return rebuild.make_single_dispatch, args, state, None, None, rebuild.fill_single_dispatch


def _reduce_single_dispatch_method(method: Any) -> Any:
    return rebuild.make_single_dispatch_method, (method.dispatcher, method.func)


def _reduce_code(code: CodeType) -> Any:
    # cloudpickle knows what the running Python's code objects are made of, but from 3.1.2 on calls
    # their file "<dynamic-code>": tracebacks would show none of the user's lines.
    make, args = cp._code_reduce(code)
    return rebuild.make_code, (make, args, str(code.co_filename))


def _reduce_cached_property(prop: Any) -> Any:
    # Up to 3.11 it holds a lock.
    state = {k: v for k, v in vars(prop).items() if k != "lock"}
    return rebuild.make_cached_property, (type(prop),), state, None, None, rebuild.fill_attributes


def _has_reduce(kind: Any) -> bool:
    return kind.__reduce__ is not object.__reduce__


def _reduce_file(file: io.TextIOWrapper) -> Any:
    # cloudpickle would read the file and send its text.
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type(file).__name__!r} object (an open file)")


def _reduce_missing(_: object) -> Any:
    return getattr, (dataclasses, "MISSING")  # compared by `is`


def _reduce_memoryview(view: memoryview) -> Any:
    if not view.c_contiguous:
        return rebuild.make_memoryview, (view.tobytes(), view.format, view.shape)
    return rebuild.make_memoryview, (pickle.PickleBuffer(view), view.format, view.shape)


# What typing's objects are made of; TypeVar is cloudpickle's.
_TYPING: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "ParamSpec": lambda obj: (obj.__name__,),
    "TypeVarTuple": lambda obj: (obj.__name__,),
    "NewType": lambda obj: (obj.__name__, obj.__supertype__),
    "TypeAliasType": lambda obj: (obj.__name__, obj.__value__),
}
_MODULE_NAMES = ("__package__", "__name__", "__path__", "__file__")
_NOT_OF_A_MODULE = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__"})
_NOT_OF_A_MEMBER = frozenset({"_value_", "_name_", "_sort_order_", "__objclass__"})
_SINGLETON_TYPES = frozenset({type(None), type(Ellipsis), type(NotImplemented)})
_REDUCERS: dict[type, Callable[[Any], Any]] = {
    MethodType: _reduce_method,
    CodeType: _reduce_code,
    CellType: _reduce_cell,
    ModuleType: _reduce_module,
    TracebackType: reduce_traceback,
    _LruCache: _reduce_lru_cache,
    functools.singledispatchmethod: _reduce_single_dispatch_method,
    io.TextIOWrapper: _reduce_file,
    memoryview: _reduce_memoryview,
    type(dataclasses.MISSING): _reduce_missing,
}
_CLOUDPICKLE: dict[type, Callable[[Any], Any]] = {
    kind: reduce for kind, reduce in cp.Pickler._dispatch_table.items() if kind not in _REDUCERS
}
