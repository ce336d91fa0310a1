"""What both ends of one call have in common: classes by id, and the globals of functions.

A class that travels by value gets an id for life. The receiver rebuilds it under that id, once per
call; on its way back only the id travels, and finds the ORIGINAL class: so ``type(x) is C`` holds.

A `Scope` is one side of one call. In a worker, everything by value that arrives for the call
shares the scope's classes and globals, as it would in a loop; the next call has a scope of its own,
so that what an item writes to a class or to a global never reaches it.
"""

from __future__ import annotations

import os
import sys
from _contextvars import ContextVar
from _thread import _local
from _weakref import ref
from types import BuiltinFunctionType, FunctionType, ModuleType

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


class _ClassRef(ref):  # type: ignore[type-arg]
    """A weak reference that knows under which keys it is registered."""

    __slots__ = ("class_id", "key", "original")
    class_id: bytes
    key: int
    original: bool  # made here, not rebuilt from a pickle


# Tells the tokens of one sending process from those of another.
PROCESS = os.urandom(8)

# Every class that has an id, by identity (a metaclass may define __eq__ or no __hash__) and by id.
# A worker may hold several versions of one class, of several calls: _classes has the latest; but
# where the original lives (both sides may be in one process) it has that.
_ids: dict[int, _ClassRef] = {}
_classes: dict[bytes, _ClassRef] = {}


def _forget(reference: Any) -> None:
    key, class_id = reference.key, reference.class_id
    if _ids.get(key) is reference:
        del _ids[key]
    if _classes.get(class_id) is reference:
        del _classes[class_id]


def _reference_to(cls: type, class_id: bytes, *, original: bool) -> _ClassRef:
    reference = _ClassRef(cls, _forget)
    reference.class_id = class_id
    reference.key = id(cls)
    reference.original = original
    return reference


def _make_findable(reference: _ClassRef) -> None:
    before = _classes.get(reference.class_id)
    if before is None or not before.original or before() is None:
        _classes[reference.class_id] = reference


def id_of(cls: type) -> bytes:
    """Return the id of a class for life, giving it one if need be."""
    reference = _ids.get(id(cls))  # of no other: a class is forgotten before its memory is freed
    if reference is None:
        # Random: nested workers and forked children give ids too, and none may clash.
        made = _reference_to(cls, os.urandom(12), original=True)
        reference = _ids.setdefault(made.key, made)  # another thread may have come first
        _make_findable(reference)
    return reference.class_id


# What code cannot change without putting another value in its place.
_ATOMS = {int, float, complex, bool, type(None), str, bytes}
_FIXED = frozenset({*_ATOMS, FunctionType, BuiltinFunctionType, ModuleType})


class Inheritance:
    """What an initializer has set, for later calls: globals by token, attributes by class."""

    __slots__ = ("attributes", "globals")

    def __init__(self) -> None:
        self.globals: dict[object, dict[str, Any]] = {}
        self.attributes: dict[bytes, dict[str, Any]] = {}


def _changes(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has been set since, and what may have been changed within."""
    missing = object()
    return {
        name: value
        for name, value in now.items()
        if before.get(name, missing) is not value
        or not (name.startswith("__") or type(value) in _FIXED or isinstance(value, type))
    }


class Scope:
    """One side of one call. `joins` (in a worker): what arrives shares classes and globals."""

    __slots__ = (
        "_namespaces", "arrived", "bodies", "classes", "filled", "globals", "inherited", "joins",
        "named", "pending", "private",
    )  # fmt: skip

    def __init__(self, *, joins: bool, inherited: Inheritance | None = None) -> None:
        self.joins = joins
        self.private = True  # nobody but processes of parmap reads what is pickled
        self.classes: dict[bytes, type] = {}  # sent or rebuilt; kept alive as long as the call
        self.pending: dict[int, bytes] = {}  # classes that are still without their attributes
        self.globals: dict[object, dict[str, Any]] = {}  # by the sender's token
        self.arrived: dict[object, dict[str, Any]] = {}  # what came for those globals
        self.named: dict[tuple[str, str], Any] = {}  # objects that pickle as the name of a global
        self.filled: dict[bytes, dict[str, Any]] = {}  # what came for those classes
        self.inherited = inherited or Inheritance()
        self.bodies: dict[bytes, bytes | Exception] = {}  # pickles of classes, or why there is none
        self._namespaces: dict[int, dict[str, Any]] = {}

    def knows(self, cls: type) -> bytes | None:
        """Return the id of a class that the other side has as well, else None."""
        reference = _ids.get(id(cls))
        if reference is None or self.classes.get(reference.class_id) is not cls:
            return None
        return reference.class_id

    def token_of(self, namespace: dict[str, Any]) -> object:
        """Name the globals of functions: those that share them here shall share them there."""
        self._namespaces[id(namespace)] = namespace  # its identity is not given away meanwhile
        return PROCESS, id(namespace)

    def bequeath(self) -> None:
        """Add to the inheritance what code in this scope has set."""
        for token, namespace in self.globals.items():
            changes = _changes(namespace, self.arrived[token])
            changes.pop("__builtins__", None)
            self.inherited.globals.setdefault(token, {}).update(changes)
        for class_id, before in self.filled.items():
            changes = _changes(vars(self.classes[class_id]), before)
            self.inherited.attributes.setdefault(class_id, {}).update(changes)

    def abandon_pending(self) -> None:
        """Forget classes whose rebuilding failed half-way."""
        for class_id in self.pending.values():
            self.classes.pop(class_id, None)
        self.pending.clear()


class Loading:
    """What unpicklings refer to: their scope, their globals, and the classes that came along."""

    __slots__ = ("bodies", "globals", "scope")

    def __init__(self, scope: Scope, bodies: Mapping[bytes, Callable[[], Any]]) -> None:
        """`bodies` gives, by id, the loaders of classes that came along."""
        self.scope = scope
        self.bodies = bodies
        self.globals: dict[object, dict[str, Any]] = scope.globals if scope.joins else {}

    def run(self, load: Callable[..., Any], data: Any, buffers: Sequence[Any] = ()) -> Any:
        """Return ``load(data, buffers=buffers)``, which belongs to this loading. Nests."""
        before = _current.loading
        _current.loading = self
        try:
            return load(data, buffers=buffers)
        except BaseException:
            self.scope.abandon_pending()
            raise
        finally:
            _current.loading = before
            if self.globals and not self.scope.joins:
                self.globals = {}  # the next item shall not see what this one has brought


class _Current(_local):
    loading: Loading | None = None


_current = _Current()


def _now() -> Loading:
    loading = _current.loading
    if loading is None:
        raise LookupError("a class or function of a parmap call was unpickled outside of parmap")
    return loading


def known_class(class_id: bytes) -> type:
    """Unpickle a class that travelled as its id."""
    loading = _now()
    cls = _find(loading.scope, class_id)
    if cls is None:
        load = loading.bodies.get(class_id)
        if load is None:
            raise LookupError("the class of this object does not exist any more in this process")
        cls = load()
    return cls


def _find(scope: Scope, class_id: bytes) -> type | None:
    cls = scope.classes.get(class_id)
    if cls is None and not scope.joins:
        reference = _classes.get(class_id)
        cls = None if reference is None else reference()
    return cls


def named(module: str, name: str) -> Any:
    """Unpickle what pickles as the name of a global, in the process that has the global."""
    scope = _now().scope
    if (module, name) in scope.named:
        return scope.named[module, name]
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def adopt_named(module: str, name: str, kind: type) -> Any:
    """Unpickle a copy of what has that name there: one per call, for it is compared by `is`."""
    scope = _now().scope
    key = module, name
    if key not in scope.named:
        scope.named[key] = object.__new__(kind)
    return scope.named[key]


def adopt_variable(home: str, key: str, name: str, *default: Any) -> ContextVar[Any]:
    """Unpickle a context variable by value: one per key and scope; where it came from, it itself."""
    known = _now().scope.named
    if (home, key) not in known:
        known[home, key] = ContextVar(name, default=default[0]) if default else ContextVar(name)
    variable: ContextVar[Any] = known[home, key]
    return variable


def adopt_class(class_id: bytes, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    """Unpickle a class by value, up to its attributes; one that is here already wins."""
    scope = _now().scope
    cls = _find(scope, class_id)
    if cls is None:
        cls = make(*args)
        scope.classes[class_id] = cls
        scope.pending[id(cls)] = class_id
        reference = _reference_to(cls, class_id, original=False)
        _ids[reference.key] = reference
        _make_findable(reference)
    return cls


def fill_class(cls: type, state: tuple[Callable[..., object], Any]) -> None:
    """Unpickle a class's attributes, unless it has them already (items may have changed them)."""
    pending = _now().scope.pending
    if id(cls) in pending:
        setter, attributes = state
        setter(cls, attributes)
        scope = _now().scope
        class_id = pending.pop(id(cls))
        if scope.joins:
            scope.filled[class_id] = dict(vars(cls))
            for name, value in scope.inherited.attributes.get(class_id, {}).items():
                setattr(cls, name, value)


def adopt_globals(token: object, names: dict[str, Any]) -> dict[str, Any]:
    """Unpickle the globals of a function: one dictionary per token and scope."""
    loading = _now()
    namespace = loading.globals.get(token)
    if namespace is None:
        namespace = {**names, **loading.scope.inherited.globals.get(token, {})}
        loading.globals[token] = namespace
        loading.scope.arrived.setdefault(token, {}).update(names)
    return namespace


def fill_function(function: Any, state: tuple[Callable[..., object], Any, object]) -> None:
    """Unpickle a function's attributes and globals. A global that is there already stays.

    So the first value that came in this call wins, and what a function of the call has written
    since is not undone by the next item that arrives.
    """
    setter, (attributes, slots), token = state
    arrived, slots["__globals__"] = slots["__globals__"], {}
    namespace = function.__globals__
    for name, value in arrived.items():
        namespace.setdefault(name, value)
    _now().scope.arrived.setdefault(token, {}).update(arrived)
    setter(function, (attributes, slots))
