"""A chunk on its way to a foreign engine and back.

It travels as parmap's own pickles (`Chunk.__reduce__`), so lambdas, tracebacks and the caller's
classes arrive as they do from parmap's workers; an engine of threads, which pickles nothing, gets the
objects themselves.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from parmap._wire.payload import ERROR, PayloadBuilder, pack_values, unpack
from parmap._wire.pickling import Codec, Encoded
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Functions of so many calls are kept in each process of the engine.
_MOST_FUNCTIONS = 16

_keys = (f"{os.getpid()}:{time.time_ns()}:{number}" for number in itertools.count(1))
_tokens = itertools.count(1)


class Wanted:
    """Shared with chunks that run in this process: where the call stops."""

    __slots__ = ("stop_at",)

    def __init__(self) -> None:
        self.stop_at: int | None = None


class Raised:
    """Marks the error of an item among values."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Function:
    """The function of a call, pickled when the first chunk is."""

    def __init__(self, fn: Callable[..., Any], *, star: bool) -> None:
        self.fn = fn
        self.star = star
        self.key = next(_keys)
        self.codec = Codec("to worker")
        self._lock = threading.Lock()  # engines pickle in threads of their own
        self._encoded: Encoded | None = None

    def encoded(self) -> Encoded:
        with self._lock:
            if self._encoded is None:
                self._encoded = self.codec.dumps(self.fn, "fn")
                _refuse_handles(self._encoded.fds, "fn")
            return self._encoded


class Chunk:
    """Some items of a call: what the engine runs.  Pickled, it becomes a chunk of the other side."""

    def __init__(
        self,
        function: Function,
        first: int,
        items: Sequence[Any],
        wanted: Wanted,
        *,
        stops: bool,
        alone: bool = False,
        attempt: int = 1,
    ) -> None:
        self.__name__ = getattr(function.fn, "__name__", type(function.fn).__name__)
        self.first = first
        self.alone = alone  # no other runs beside it
        self.attempt = attempt
        self._function = function
        self._items = items
        self._wanted = wanted
        self._stops = stops

    def __len__(self) -> int:
        return len(self._items)

    def __dask_tokenize__(self) -> str:
        # Dask takes equal submissions for one, and remembers its result, or that it failed.
        return f"parmap:{self._function.key}:{next(_tokens)}"

    def __call__(self) -> Outcomes:
        """In a thread of this process: nothing is copied."""
        fn, wanted = self._function.fn, self._wanted
        values: list[Any] = []
        began = time.perf_counter()
        for index, item in enumerate(self._items, self.first):
            if wanted.stop_at is not None and index >= wanted.stop_at:
                break
            try:
                values.append(fn(*item) if self._function.star else fn(item))
            except BaseException as error:  # whatever it is, it is that item's
                values.append(Raised(_without_our_frame(error)))
                if self._stops:
                    break
        return Outcomes(values, threading.current_thread().name, time.perf_counter() - began)

    def __reduce__(self) -> tuple[Any, ...]:
        function = self._function
        what = "args" if function.star else "args[0]"
        encoded = function.encoded()
        payload = pack_values(self._items, function.codec, lambda _: what)
        try:
            _refuse_handles(payload.fds, what)
        finally:
            payload.close()
        return _run_there, (
            function.key, encoded.data, list(map(bytes, encoded.buffers)), function.star,
            list(map(bytes, payload.segments)), payload.block, self._stops,
        )  # fmt: skip


class Outcomes:
    """What became of a chunk's items; the last may be missing.  Pickled, it is parmap's payload."""

    def __init__(
        self, values: list[Any], worker: str, elapsed: float, codec: Codec | None = None
    ) -> None:
        self.values = values
        self.worker = worker
        self.pid = os.getpid()
        self.elapsed = elapsed
        self.nbytes = 0
        self.first, self.attempt = 0, 1  # set by who gets them
        self.encoded = False  # they came from another process, as these segments
        self.segments: list[bytes] = []
        self.block = False
        self._codec = codec

    def take_fds(self) -> Sequence[int]:
        """None: handles do not travel through a foreign engine."""
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        codec = self._codec or Codec("to caller")
        if any(type(value) is Raised for value in self.values):
            builder = PayloadBuilder(codec)
            for place, value in enumerate(self.values):
                if type(value) is Raised:
                    builder.add_error(value.error)
                else:
                    builder.add_value(value, _result, place)
            payload = builder.build()
        else:
            payload = pack_values(self.values, codec, _result)
        try:
            _refuse_handles(payload.fds, "result")
        finally:
            payload.close()
        segments = list(map(bytes, payload.segments))
        return _came_back, (segments, payload.block, self.worker, self.pid, self.elapsed)


def _came_back(
    segments: list[bytes], block: bool, worker: str, pid: int, elapsed: float
) -> Outcomes:
    outcomes = Outcomes([], worker, elapsed)
    outcomes.encoded, outcomes.segments, outcomes.block, outcomes.pid = True, segments, block, pid
    outcomes.nbytes = sum(map(len, segments))
    return outcomes


# ---------------------------------------------------------------------- in the engine's processes

_functions: OrderedDict[str, tuple[Callable[..., Any], Codec]] = OrderedDict()
_functions_lock = threading.Lock()


def _run_there(*parts: Any) -> Callable[[], Outcomes]:
    """What a chunk unpickles to: decoding belongs to running it, where each error has its item."""
    return functools.partial(_run, *parts)


def _run(
    key: str,
    data: bytes,
    buffers: list[bytes],
    star: bool,
    segments: list[bytes],
    block: bool,
    stops: bool,
) -> Outcomes:
    fn, codec = _function_there(key, data, buffers)
    values: list[Any] = []
    began = time.perf_counter()
    for item in unpack(segments, (), block, codec):
        try:
            argument = item if block else _argument(item)
            values.append(fn(*argument) if star else fn(argument))
        except BaseException as error:  # whatever it is, it is that item's
            values.append(Raised(_without_our_frame(error)))
            if stops:
                break
    worker = multiprocessing.current_process().name
    return Outcomes(values, worker, time.perf_counter() - began, codec)


def _function_there(
    key: str, data: bytes, buffers: list[bytes]
) -> tuple[Callable[..., Any], Codec]:
    """The call's function: made once in each process, anew for each call."""
    with _functions_lock:
        known = _functions.get(key)
        if known is None:
            codec = Codec("to caller")
            known = codec.loads(Encoded(data, list(buffers), [])), codec
            _functions[key] = known
            while len(_functions) > _MOST_FUNCTIONS:
                _functions.popitem(last=False)
        return known


def _argument(item: Any) -> Any:
    try:
        value = item.load()
    except Exception as error:
        raise SerializationError(
            f"an argument could not be unpickled: {type(error).__name__}: {error}",
            direction="to worker",
            path="args",
        ) from error
    if item.kind == ERROR:
        raise value
    return value


# ---------------------------------------------------------------------- on both sides


def _result(place: int) -> str:
    return "result"


def _without_our_frame(error: BaseException) -> BaseException:
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def _refuse_handles(fds: Sequence[int], what: str) -> None:
    if fds:
        raise SerializationError(
            f"{what} holds a channel, a lock or shared state: those travel to parmap's own workers"
            " and through parmap's channels, not through another engine; use a parmap.Pool",
            path=what,
        )
