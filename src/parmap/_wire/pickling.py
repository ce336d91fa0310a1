"""The codec: objects of users to bytes and back, for one side of one call.

Two picklers. The fast one is `pickle`'s own, protocol 5, with large buffers out of band; it gives
up when it meets something that must go by value. Then the object is pickled again by `byvalue`,
which needs cloudpickle and imports it only now: that takes longer than a worker's start.
"""

from __future__ import annotations

import functools
from _pickle import Pickler, loads  # `pickle` itself imports re: 4 ms of every worker's start
from io import BytesIO
from types import BuiltinFunctionType, FunctionType, MethodType, TracebackType

from parmap._memory.transit import FdSink, FdSource, current_sink, exporting, importing
from parmap._wire.arrays import array_type, reduce_array
from parmap._wire.importable import goes_by_reference
from parmap._wire.pieces import OUT_OF_BAND_FROM, Pieces, names_main
from parmap._wire.scopes import Inheritance, Loading, Scope, id_of, known_class
from parmap._wire.stdlib import way_of

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pickle import PickleBuffer
    from typing import Any, Literal

    from parmap._wire.frames import Buffer
    from parmap._wire.stdlib import Way
    from parmap.errors import SerializationError

PROTOCOL = 5

_PLAIN_REDUCE = object.__reduce__
_LruCache = type(functools.lru_cache(len))
_NAMED: frozenset[type] = frozenset({FunctionType, BuiltinFunctionType, type})


class NeedsByValueError(Exception):
    """Ends a fast pickling that met something by value. Never leaves this package."""


class Encoded:
    """One pickled object: its bytes, the buffers beside them, and descriptors that it owns.

    `kept`: objects that it refers to by a name which would go with them.
    """

    __slots__ = ("buffers", "data", "fds", "kept")

    flags = 0  # of the frame that carries it

    def __init__(
        self,
        data: Buffer,
        buffers: Sequence[Buffer] = (),
        fds: Sequence[int] = (),
        kept: Sequence[object] = (),
    ) -> None:
        self.data = data
        self.buffers = list(buffers)
        self.fds = list(fds)
        self.kept = kept

    @classmethod
    def from_segments(cls, segments: Sequence[Buffer], fds: Sequence[int] = ()) -> Encoded:
        """Put together again what `segments` and the frame's descriptors have carried."""
        return cls(segments[0], segments[1:], fds)

    @property
    def segments(self) -> list[Buffer]:
        """The bytes as a frame carries them."""
        return [self.data, *self.buffers]

    @property
    def nbytes(self) -> int:
        return len(self.data) + sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def close(self) -> None:
        """Close descriptors that were never sent. May be called twice."""
        FdSource(self.fds).close_unclaimed()
        self.fds = []

    def __repr__(self) -> str:
        return f"<Encoded {self.nbytes} bytes | {len(self.buffers)} buffers, {len(self.fds)} fds>"


class Buffers:
    """Decides which buffers go out of band, and collects them."""

    __slots__ = ("views",)

    def __init__(self) -> None:
        self.views: list[Buffer] = []

    def __call__(self, buffer: PickleBuffer) -> bool:
        """Return True to keep the buffer in the pickle, as `pickle` asks."""
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_FROM:
            return True
        self.views.append(view)
        return False


class FastPickler(Pickler):
    """`pickle` as it is, on the watch for what a worker could not import.

    `classes` collects classes by id that must come along; None: a class by value is too much.
    """

    def __init__(
        self,
        file: BytesIO | Pieces,
        buffers: Buffers | None,
        scope: Scope,
        classes: dict[bytes, type] | None = None,
    ) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffers)
        self._scope = scope
        self._classes = classes
        self._verdicts: dict[int, tuple[type, Any]] = {}
        self._ways: dict[type, Way | bool] = {}
        self.met_objects = False  # whose own reduce may have given the name of a global

    def reducer_override(self, obj: Any) -> Any:
        """Decide for all but plain values; `pickle` calls it, so every instruction counts."""
        kind = type(obj)
        if issubclass(kind, type):
            # Asked again for each item, since the memo is cleared: a pickler's life is short enough
            # to remember the answer.
            known = self._verdicts.get(id(obj))
            if known is None:
                known = self._verdicts[id(obj)] = obj, self._reduce_class(obj)
            return known[1]
        if kind is FunctionType or kind is _LruCache:
            if not goes_by_reference(obj):
                raise NeedsByValueError
        elif kind is MethodType:
            if not is_attribute(obj):
                raise NeedsByValueError
        else:
            way = self._ways.get(kind)
            if way is None:
                way = self._ways[kind] = _way_of_instances(kind)
            if way is True:
                self.met_objects = True
            elif way is not False:
                return way(obj, self._scope)
        return NotImplemented

    def _reduce_class(self, cls: type) -> Any:
        if cls.__module__ == "builtins" or goes_by_reference(cls):
            return NotImplemented
        class_id = self._scope.knows(cls) if self._scope.joins else None
        if class_id is None:
            if self._classes is None:
                raise NeedsByValueError
            class_id = id_of(cls)
            self._classes[class_id] = cls
        return known_class, (class_id,)


def _way_of_instances(kind: type) -> Way | bool:
    """Return what reduces them; if `pickle` does, whether in their own way."""
    way = way_of(kind)
    if way is not None:
        return way
    if kind is TracebackType:
        from parmap._wire.tracebacks import reduce_traceback

        return lambda tb, _: reduce_traceback(tb)
    if issubclass(kind, BaseException):
        return reduce_exception
    if kind is array_type():
        return lambda array, _: reduce_array(array)
    return kind.__reduce__ is not _PLAIN_REDUCE


def reduce_exception(error: BaseException, scope: Scope) -> Any:
    """Return what rebuilds an exception in data: many, pickled as they say, fail to unpickle."""
    from parmap._wire.exceptions import encode_exception

    return load_exception, (encode_exception(error, lambda part: dump_inline(part, scope)),)


def load_exception(data: bytes) -> BaseException:
    """Unpickle an exception that is data."""
    from parmap._wire.exceptions import decode_exception

    return decode_exception(data, loads)


def is_attribute(method: MethodType) -> bool:
    """Tell whether a bound method is found on its instance under its name, as `pickle` trusts."""
    try:
        return bool(getattr(method.__self__, method.__func__.__name__) == method)
    except Exception:
        return False  # a lambda, or a private name that Python has mangled


def is_name(obj: object) -> bool:
    """Tell whether an object that could be pickled went as nothing but its name."""
    return type(obj) in _NAMED and goes_by_reference(obj)


def dump_fast(obj: object, buffers: Buffers | None, scope: Scope) -> bytes:
    """Pickle what needs nothing by value; raises `NeedsByValueError`, or what pickling raises."""
    file = BytesIO()
    pickler = FastPickler(file, buffers, scope)
    pickler.dump(obj)
    data = file.getvalue()
    if pickler.met_objects and names_main(data):
        raise NeedsByValueError
    return data


def dump_by_value(obj: object, buffers: Buffers | None, scope: Scope) -> bytes:
    """Pickle with functions and classes by value where need be. Raises anything."""
    from parmap._wire.byvalue import ByValuePickler

    file = BytesIO()
    ByValuePickler(file, buffers, scope).dump(obj)
    return file.getvalue()


def dump_inline(obj: object, scope: Scope) -> bytes:
    """Pickle into bytes alone, by value if need be. Raises anything."""
    try:
        return dump_fast(obj, None, scope)
    except Exception:  # noqa: S110 - see Codec._dump
        pass
    return dump_by_value(obj, None, scope)


class Codec:
    """Pickles for one side of one call: `dumps` in `direction`, `loads` what comes back.

    The parent's side is ``Codec("to worker")``, the worker's is ``Codec("to caller")``. Make one
    per call and side (`for_call`): classes and globals by value belong to the call.
    """

    __slots__ = ("_by_value_first", "_inherited", "direction", "scope", "search_seconds")

    def __init__(self, direction: Literal["to worker", "to caller"]) -> None:
        self.direction: Literal["to worker", "to caller"] = direction
        self._inherited = Inheritance()  # shared by all that for_call gives
        self.scope = Scope(joins=direction == "to caller")
        self._by_value_first = False
        self.search_seconds = 2.0  # left for finding guilty parts, all failures together

    def for_call(self) -> Codec:
        """Return the codec of a call: it shares nothing with other calls.

        But for what `keep_globals` has kept, here or in another codec of this family.
        """
        codec = Codec(self.direction)
        codec._inherited = codec.scope.inherited = self._inherited
        return codec

    def keep_globals(self) -> None:
        """Let later calls see what by-value functions have set: an initializer has run.

        That is globals and attributes of classes: rebound, or objects that may have changed.
        """
        self.scope.bequeath()

    def dumps(self, obj: object, what: str = "fn") -> Encoded:
        """Pickle `obj`; `what` names it in the path of the `SerializationError` of a failure.

        Empty: its attributes stand for themselves there.
        """
        sink = FdSink()
        try:
            with exporting(sink):
                data, buffers = self._dump(obj, sink)
        except BaseException as error:
            sink.close()
            if isinstance(error, KeyboardInterrupt):
                raise
            raise self.refusal(obj, what, error) from error
        return Encoded(data, buffers, sink.take(), sink.kept)

    def dumps_inline(self, obj: object) -> bytes:
        """Pickle `obj` into bytes alone; descriptors go to the sink of whoever calls.

        Raises whatever pickling raises: for parts, whose failure the caller knows to handle.
        """
        return dump_inline(obj, self.scope)

    def loads(self, encoded: Encoded) -> Any:
        """Unpickle the object that opens a call (a function, an initializer). Raises anything.

        In a worker this begins a new scope: functions and classes by value are made anew, and what
        `payload.unpack` gives from now on shares theirs.
        """
        if self.scope.joins:
            self.scope = Scope(joins=True, inherited=self._inherited)
        source = FdSource(encoded.fds)
        encoded.fds = []
        try:
            with importing(source):
                return Loading(self.scope, {}).run(loads, encoded.data, encoded.buffers)
        finally:
            source.close_unclaimed()

    def loads_inline(self, data: Buffer) -> Any:
        """Unpickle what `dumps_inline` gave, into the present scope."""
        return Loading(self.scope, {}).run(loads, data)

    def refusal(self, obj: object, what: str, error: BaseException) -> SerializationError:
        """Return the error that names the part of `obj` which cannot be pickled."""
        from parmap._wire.culprit import refusal

        return refusal(self, obj, what, error)

    def _dump(self, obj: object, sink: FdSink) -> tuple[bytes, list[Buffer]]:
        buffers = Buffers()
        if not self._by_value_first:
            try:
                return dump_fast(obj, buffers, self.scope), buffers.views
            except NeedsByValueError:
                self._by_value_first = True  # so will the next: spare it the first attempt
            except Exception:  # noqa: S110
                pass  # a module, a view of a dict: what pickle refuses cloudpickle may take
            sink.close()
            buffers.views.clear()
        return dump_by_value(obj, buffers, self.scope), buffers.views

    def class_body(self, class_id: bytes, cls: type) -> bytes:
        """Pickle a class for items that refer to it by id: once per call, as it is then."""
        body = self.scope.bodies.get(class_id)
        if isinstance(body, Exception):
            raise body
        if body is None:
            sink = current_sink()
            before = 0 if sink is None else len(sink.fds)
            try:
                body = dump_by_value(cls, None, self.scope)
            except Exception as error:
                self.scope.bodies[class_id] = error
                raise
            if sink is None or len(sink.fds) == before:
                self.scope.bodies[class_id] = body  # with descriptors it belongs to one payload
        return body
