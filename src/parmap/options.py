"""Options, checked at the door: each error names the argument, what came, and the cure."""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NoReturn, SupportsIndex

from parmap import _nesting
from parmap._cpus import usable_cpus as usable_cpus
from parmap._words import short_repr

OnError = Literal["raise", "group", "return"]

START_METHODS = ("fork", "spawn", "forkserver")
# More processes than this on one machine is a slip of the pen (a number of items, a size in bytes).
MOST_WORKERS = 10_000
_PACKAGE = os.path.join(os.path.dirname(__file__), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """How often a worker of a `WorkerGroup` is started again when it fails.

    When more than `max_restarts` fall within `within` seconds, the failure counts.  Before each new
    start `delay` seconds pass.

    Raises:
        TypeError, ValueError: a field is not what it must be.

    Example:
        >>> from parmap import Restart
        >>> Restart(max_restarts=5, delay=0.5)
        Restart(max_restarts=5, within=60.0, delay=0.5)
    """

    max_restarts: int = 3
    within: float = 60.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        check_count("max_restarts", self.max_restarts, least=0)
        check_seconds("within", self.within)
        check_seconds("delay", self.delay)


def check_callable(fn: object, name: str = "fn") -> None:
    """Refuse what cannot be called, with the usual reason for it; and what has to be awaited."""
    if callable(fn):
        if getattr(getattr(fn, "__code__", None), "co_flags", 0) & _ASYNCHRONOUS:
            _refuse_coroutine_function(fn, name)
        return
    cure = "pass the function itself, not the result of calling it: `fn`, not `fn()`"
    if isinstance(fn, Iterator):
        cure = "a generator came: the function goes first, the items second"
    elif isinstance(fn, Iterable):
        cure = "the function goes first, the items second"
    raise TypeError(f"{name} must be callable, not {type(fn).__name__}: {cure}")


_ASYNCHRONOUS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _refuse_coroutine_function(fn: object, name: str) -> NoReturn:
    called = getattr(fn, "__name__", "fn")
    raise TypeError(
        f"{name} is a coroutine function (`async def {called}`), and calling it runs nothing:"
        f" pass a plain function, for example one that returns asyncio.run({called}(x))"
    )


def check_iterables(iterables: Iterable[object]) -> None:
    """Refuse items that cannot be iterated over."""
    for position, items in enumerate(iterables):
        if not isinstance(items, Iterable) and not hasattr(type(items), "__getitem__"):
            name = "items" if position == 0 else f"more[{position - 1}]"
            cure = "for a single item, write [item]"
            if callable(items):
                cure = "the function goes first, the items second"
            raise TypeError(f"{name} must be an iterable, not {type(items).__name__}: {cure}")


def length_of(items: Iterable[object]) -> int | None:
    """How many items there are, where they can tell."""
    return len(items) if isinstance(items, Sized) else None


def check_count(name: str, value: object, *, least: int, most: int = sys.maxsize) -> int:
    """An int within bounds (bool is none)."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        cure = f": write {value}, without quotes" if _is_number_in_quotes(value) else ""
        raise TypeError(f"{name} must be an int or None, not {type(value).__name__}{cure}")
    number = value.__index__()  # takes NumPy's integers, too
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, not {number}")
    return number


def _is_number_in_quotes(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def check_seconds(name: str, value: object, *, unit: str = " of seconds") -> float:
    """A duration: a finite number of seconds, not negative."""
    if isinstance(value, bool) or not isinstance(value, Real):  # NumPy's are, too
        raise TypeError(f"{name} must be a number{unit}, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:  # an int
        seconds = math.inf
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be a finite number{unit} from 0 on, not {short_repr(value)}")
    return seconds


def check_wait(timeout: object) -> None:
    """How long to wait: any number (negative: not at all, as in the standard library), or None."""
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, Real):
            raise TypeError(
                f"timeout must be a number of seconds or None, not {type(timeout).__name__}"
            )
        if math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds or None, not nan")


def check_name(name: object) -> None:
    """A string, or None for one that we make."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}")


def check_restart(value: object) -> None:
    """A `Restart`, or None."""
    if value is not None and not isinstance(value, Restart):
        raise TypeError(f"restart must be a parmap.Restart or None, not {type(value).__name__}")


def check_worker_count(value: object) -> int:
    """How many processes: an int >= 1, not the items."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or value.__index__() < 1:
        raise TypeError(
            "count is the number of processes; to run over items use parallel_map:"
            f" it must be an int from 1 on, not {short_repr(value)}"
        )
    return check_count("count", value, least=1, most=MOST_WORKERS)


def check_names(names: object, count: int, target: object) -> list[str]:
    """One name for each worker; by default the target's, and the rank."""
    if names is None:
        title = getattr(target, "__name__", type(target).__name__)
        return [f"{title}-{rank}" for rank in range(count)]
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names must be a sequence of {count} strings, not {type(names).__name__}")
    given = list(names)
    if not all(isinstance(name, str) for name in given):
        raise TypeError("names must be strings")
    if len(given) != count:
        raise ValueError(f"names must be {count}, one for each worker, not {len(given)}")
    return given


_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_clash(fn: Callable[..., object], ours: Iterable[str]) -> None:
    """Refuse a function with a parameter that our own keyword argument would hide.

    Not one that no keyword can fill: it is never meant.
    """
    try:
        parameters = inspect.signature(fn).parameters.values()
        hidden = {each.name for each in parameters if each.kind in _BY_KEYWORD}
    except (TypeError, ValueError):
        return  # a builtin that does not tell
    while isinstance(fn, functools.partial):  # the cure: what is bound is no longer asked for
        hidden -= fn.keywords.keys()
        fn = fn.func
    for name in ours:
        if name in hidden:
            raise TypeError(
                f"the function has a parameter named {name!r}, which is one of ours too:"
                f" bind it with functools.partial(fn, {name}=...)"
                f" (or make it positional-only, if it is yours: `{name}, /`)"
            )


def check_chunksize(value: object) -> int | None:
    """`None` adapts, an int >= 1 is kept."""
    return None if value is None else check_count("chunksize", value, least=1)


def check_limit(name: str, value: object) -> int | None:
    """`None` is no limit, an int >= 1 is one."""
    return None if value is None else check_count(name, value, least=1)


def callers_line() -> str:
    """Where in the user's own code we have been called: file and line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn of something, and name the line of the user's own code that has called us."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def check_checkpoint(value: object) -> str | None:
    """`None`, or the path of a file; absolute, for the program may change its folder."""
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise TypeError(
            "checkpoint must be the path of a file (str or os.PathLike) or None,"
            f" not {short_repr(value)}"
        )
    if not path or "\0" in path:
        raise ValueError(f"checkpoint must be the path of a file or None, not {path!r}")
    return os.path.abspath(path)


def check_buffersize(value: object) -> int | None:
    """`None` adapts, an int >= 1 is kept."""
    return None if value is None else check_count("buffersize", value, least=1)


def check_executor_buffersize(value: object) -> int | None:
    """As `Executor.map` checks it, in its words."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"buffersize must be an integer or None, not {type(value).__name__}")
    if (number := value.__index__()) < 1:
        raise ValueError(f"buffersize must be None or > 0, not {number}")
    return number


def check_on_error(value: object) -> OnError:
    """One of the three modes."""
    if value == "raise":
        return "raise"
    if value == "group":
        return "group"
    if value == "return":
        return "return"
    raise ValueError(f"on_error must be 'raise', 'group' or 'return', not {value!r}")


def check_progress(value: object) -> bool | str | Callable[..., object]:
    """A bool, a label, or a callback."""
    if isinstance(value, bool | str) or callable(value):
        return value
    raise TypeError(
        f"progress must be True, a label, or a callback taking a Progress, not {type(value).__name__}"
    )


def check_start_method(value: object) -> str | None:
    """`None` is the default of the platform, never a fork."""
    if value is None or value in START_METHODS:
        return value
    raise ValueError(
        f"start_method must be None (a clean start, the default), 'fork', 'spawn' or 'forkserver',"
        f" not {value!r}"
    )


def check_max_workers(value: object, *, least: int = 0) -> int:
    """The number of workers asked for; `None` is as many as there are usable CPUs."""
    if value is None:
        return default_workers()
    if least and isinstance(value, int) and value < least:
        # In the words of concurrent.futures.
        raise ValueError(f"max_workers must be greater than {least - 1}, not {value}")
    number = check_count("max_workers", value, least=least)
    if number > MOST_WORKERS:
        raise ValueError(
            f"max_workers must be at most {MOST_WORKERS}, not {number}: it is the number of"
            f" processes, and more than the usable CPUs ({usable_cpus()}) are seldom faster;"
            " any number of items is shared out among them"
        )
    return number


def check_cap(max_workers: object, *, apart: bool) -> int:
    """The most workers that a call may have; 0: it runs in this process.

    Within a worker it has no more than the outer call leaves idle.  Where that is the worker's own
    CPU and nothing else, another process would only cost time: it gets one if it has asked for
    workers, or if it needs one `apart` (an item that shall be ended cannot run in here).
    """
    cap = check_max_workers(max_workers)
    if _nesting.budget is None or cap == 0:
        return cap
    cap = min(cap, _nesting.budget)
    return 0 if cap == 1 and max_workers is None and not apart else cap


def default_workers() -> int:
    """`PARMAP_MAX_WORKERS`, or the usable CPUs; in a worker what the outer call leaves idle."""
    if _nesting.budget is not None:
        return _nesting.budget
    asked = os.environ.get("PARMAP_MAX_WORKERS", "").strip()
    if not asked:
        return usable_cpus()
    try:
        number = int(asked)
    except ValueError:
        number = -1
    if not 0 <= number <= MOST_WORKERS:
        raise ValueError(
            f"the environment variable PARMAP_MAX_WORKERS must be a number of workers, not {asked!r}"
        )
    return number
