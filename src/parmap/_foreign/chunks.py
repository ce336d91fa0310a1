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
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Literal

from parmap import _nesting
from parmap._calls.remote import encode_function, has_terms
from parmap._foreign.items import TURN, ItemRunner
from parmap._limits import Limits
from parmap._wire.payload import PayloadBuilder, pack_values, unpack
from parmap._wire.pickling import Codec, Encoded
from parmap._wire.scopes import PROCESS
from parmap._wire.variables import carried
from parmap._worker.calling import load_item
from parmap._worker.terms import Terms
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
    """The function of a call and its terms, pickled when the first chunk is."""

    def __init__(self, fn: Callable[..., Any], *, star: bool, seed: int | None = None) -> None:
        self.fn = fn
        self.star = star
        self.seed = seed
        self.key = next(_keys)
        self.codec = _public(Codec("to worker"))
        self.context = copy_context()
        self._carried = carried()
        outer = _nesting.inner.get()
        self.turn = (outer.turn if outer is not None else None) or TURN
        self._lock = threading.Lock()  # engines pickle in threads of their own
        self._encoded: Encoded | None = None

    def encoded(self) -> Encoded:
        with self._lock:
            if self._encoded is None:
                limits = Limits(seed=self.seed)
                self._encoded = encode_function(self.codec, self.fn, "fn", limits, self._carried)
                _refuse_handles(self._encoded.fds, "to worker", "fn")
            return self._encoded

    @property
    def has_terms(self) -> bool:
        """Whether what is encoded is a pair, of the function and its terms."""
        return has_terms(Limits(seed=self.seed), self._carried)


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
        function, wanted = self._function, self._wanted
        worker = threading.current_thread().name
        values: list[Any] = []
        run = ItemRunner(
            function.fn, function.context, star=function.star, attempt=self.attempt, worker=worker,
            seed=function.seed, turn=function.turn,
        )  # fmt: skip
        with run.turn():
            began = time.perf_counter()
            for index, item in enumerate(self._items, self.first):
                if wanted.stop_at is not None and index >= wanted.stop_at:
                    break
                try:
                    values.append(run(index, item))
                except BaseException as error:  # whatever it is, it is that item's
                    values.append(Raised(_without_our_frames(error)))
                    if self._stops:
                        break
            return Outcomes(values, worker, time.perf_counter() - began)

    def __reduce__(self) -> tuple[Any, ...]:
        function = self._function
        what = "args" if function.star else "args[0]"
        encoded = function.encoded()
        payload = pack_values(self._items, function.codec, lambda _: what)
        try:
            _refuse_handles(payload.fds, "to worker", what)
        finally:
            payload.close()
        return _run_there, (
            function.key, encoded.data, list(map(bytes, encoded.buffers)), function.has_terms,
            function.star, payload.whole(), payload.block, self._stops,
            self.first, self.attempt, (PROCESS, os.getpid()),
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
        self.segments: list[bytearray] = []
        self.block = False
        self._codec = codec

    def take_fds(self) -> Sequence[int]:
        """None: handles do not travel through a foreign engine."""
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        codec = _public(self._codec or Codec("to caller"))
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
            _refuse_handles(payload.fds, "to caller", "result")
        finally:
            payload.close()
        segments = payload.whole()
        return _came_back, (segments, payload.block, self.worker, self.pid, self.elapsed)


def _came_back(
    segments: list[bytearray], block: bool, worker: str, pid: int, elapsed: float
) -> Outcomes:
    outcomes = Outcomes([], worker, elapsed)
    outcomes.encoded, outcomes.segments, outcomes.block, outcomes.pid = True, segments, block, pid
    outcomes.nbytes = sum(map(len, segments))
    return outcomes


# ---------------------------------------------------------------------- in the engine's processes

_functions: OrderedDict[str, tuple[Callable[..., Any], Codec, Terms]] = OrderedDict()
_functions_lock = threading.Lock()


def _run_there(*parts: Any) -> Callable[[], Outcomes]:
    """What a chunk unpickles to: decoding belongs to running it, where each error has its item."""
    return functools.partial(_run, *parts)


def _run(
    key: str,
    data: bytes,
    buffers: list[bytes],
    has_terms: bool,
    star: bool,
    segments: list[bytearray],
    block: bool,
    stops: bool,
    first: int,
    attempt: int,
    caller: tuple[bytes, int],
) -> Outcomes:
    worker = multiprocessing.current_process().name
    if caller != (PROCESS, os.getpid()):
        _nesting.worker = worker, os.getpid()
    fn, codec, terms = _function_there(key, data, buffers, has_terms=has_terms)
    run = ItemRunner(
        fn, terms.context or copy_context(), star=star, attempt=attempt, worker=worker,
        seed=terms.seed, turn=TURN,
    )  # fmt: skip
    values: list[Any] = []
    with run.turn():
        began = time.perf_counter()
        for index, item in enumerate(unpack(segments, (), block, codec), first):
            try:
                values.append(run(index, item if block else load_item(item)))
            except BaseException as error:  # whatever it is, it is that item's
                values.append(Raised(_without_our_frames(error)))
                if stops:
                    break
        return Outcomes(values, worker, time.perf_counter() - began, codec)


def _function_there(
    key: str, data: bytes, buffers: list[bytes], *, has_terms: bool
) -> tuple[Callable[..., Any], Codec, Terms]:
    """The call's function: made once in each process, anew for each call."""
    with _functions_lock:
        known = _functions.get(key)
        if known is None:
            codec = Codec("to caller")
            fn = codec.loads(Encoded(data, list(buffers), []))
            fn, told = fn if has_terms else (fn, ())
            known = fn, codec, Terms(*told)
            _functions[key] = known
            while len(_functions) > _MOST_FUNCTIONS:
                _functions.popitem(last=False)
        return known


# ---------------------------------------------------------------------- on both sides


def _public(codec: Codec) -> Codec:
    """Keep keys out of what it pickles: the engine sends that wherever it likes."""
    codec.scope.private = False
    return codec


def _result(place: int) -> str:
    return "result"


def _without_our_frames(error: BaseException) -> BaseException:
    for _ in range(2):  # the loop's, and the runner's
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next
    return error


def _refuse_handles(
    fds: Sequence[int], direction: Literal["to worker", "to caller"], what: str
) -> None:
    if fds:
        raise SerializationError(
            "it holds a channel, a lock or shared state: those travel to parmap's own workers and"
            " through parmap's channels, not through another engine; use a parmap.Pool",
            direction=direction,
            path=what,
        )
