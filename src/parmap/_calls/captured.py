"""A function that takes much along: which of its variables is it?"""

from __future__ import annotations

import functools
import pickle
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from parmap.options import warn_caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parmap._wire.pickling import Encoded

# What a function may weigh without a word: it travels to each worker, anew for each call.
MUCH = 10_000_000
# Above this a variable is not pickled a second time to know its size.
_MOST_TO_PICKLE = 200_000_000


def warn_of_size(fn: object, function: Encoded, workers: int) -> None:
    """Warn, at the caller's line, of a function that is large because of what it has captured."""
    size = sum(memoryview(segment).nbytes for segment in function.segments)
    if size < MUCH:
        return
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    sizes = sorted(
        ((_size_of(value, size), variable) for variable, value in _captured(fn)), reverse=True
    )
    which = ", ".join(
        f"{variable} ({_in_mb(each)})" for each, variable in sizes[:3] if each * 20 > size
    )
    because = f" because of what it uses: {which}" if which else ""
    warn_caller(
        f"the function {name} weighs {_in_mb(size)}{because}. It is sent to each of up to {workers}"
        " workers, in every call: put large data into a SharedArray, load it in the worker (a"
        " Pool's initializer), or pass each item only its own part",
        RuntimeWarning,
    )


def _captured(fn: Any) -> Iterator[tuple[str, object]]:
    """The variables that travel with it, by the names that they have in the source."""
    if isinstance(fn, functools.partial):
        for number, value in enumerate(fn.args):
            yield f"argument {number} of the partial", value
        yield from fn.keywords.items()
        fn = fn.func
    if isinstance(fn, MethodType):
        yield "self", fn.__self__
        fn = fn.__func__
    if not isinstance(fn, FunctionType):
        yield from getattr(fn, "__dict__", {}).items()
        return
    code = fn.__code__
    for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # not set yet
    for name in code.co_names:
        if name in fn.__globals__:
            yield name, fn.__globals__[name]
    defaults = fn.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) :], defaults, strict=False)
    yield from (fn.__kwdefaults__ or {}).items()


def _size_of(value: Any, whole: int) -> int:
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    nbytes = getattr(value, "nbytes", None)  # arrays
    if isinstance(nbytes, int):
        return nbytes
    if whole <= _MOST_TO_PICKLE:
        try:
            return len(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        except Exception:  # a function, a class, a module: it goes another way
            return 0
    return sys.getsizeof(value, 0)


def _in_mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
