"""The caller's surroundings, as its workers will take them over before a call."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from operator import is_not
from typing import TYPE_CHECKING

from parmap._memory.host import passes_descriptors
from parmap._wire import frames as fr
from parmap._wire import kin
from parmap._wire.frames import Frame
from parmap._wire.pickling import Codec, Encoded
from parmap._worker.surroundings import changeable_file
from parmap._worker.threads import users
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec

    from parmap._worker.surroundings import Surroundings
    from parmap._worker.trouble import Orders

_last: tuple[object, Encoded] | None = None
# While `parmap.testing.chaos` is on: gives what it wants of the workers in the next call.
trouble: Callable[[], Orders] | None = None


def encoded() -> Encoded:
    """The surroundings as they travel; the very same object for as long as nothing changes."""
    global _last
    glance = _glance()
    last = _last
    if last is not None and last[0] == glance:
        return last[1]
    data = _encode(capture())
    _last = glance, data
    return data


def frame_of(encoded: Encoded, worker: int = 0) -> Frame:
    """The frame that makes a worker, of this number, take them over."""
    return Frame(fr.ADOPT, extra=worker, segments=[encoded.data], fds=encoded.fds)


def of_call() -> Encoded:
    """The surroundings of one call, which while there is trouble are its own."""
    orders = trouble  # another thread may end it
    return encoded() if orders is None else _encode({**capture(), "trouble": orders()})


def _encode(now: Surroundings) -> Encoded:
    try:
        data = Codec("to worker").dumps(now, "surroundings")
    except SerializationError:
        # A warning filter with a category that cannot travel: the worker keeps the filters it has.
        data = Codec("to worker").dumps({**now, "filters": None}, "surroundings")
    if (tracker := kin.tracker_fd()) is not None and passes_descriptors():
        data.fds.append(tracker)  # as open as the tracker runs
    return data


def _glance() -> tuple[object, ...]:
    """Whatever `capture` would tell, as cheap to get and to compare as can be: each call looks.

    The environment as the mapping keeps it: to decode every variable of it costs 50 us.
    """
    return (
        _folder(),
        sys.path[:],
        dict(getattr(os.environ, "_data", os.environ)),
        _log_levels(),
        warnings.filters[:],
        _reloads.count(),
        kin.authkey(),
        kin.tracker_fd(),
    )


def capture() -> Surroundings:
    """What a loop in this process would see now."""
    return {
        "cwd": _folder(),
        "path": list(sys.path),
        "environ": users(os.environ),
        "authkey": None if (key := kin.authkey()) is None else bytes(key),
        "levels": _log_levels(),
        "filters": list(warnings.filters),
        "reloads": _reloads.count(),
        "trouble": None,
    }


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # the folder was deleted; workers stay where they are


def _log_levels() -> dict[str, int]:
    """Loggers whose level somebody has set, "" being the root."""
    logging = sys.modules.get("logging")
    manager = getattr(getattr(logging, "Logger", None), "manager", None)
    if logging is None or manager is None:  # another thread may be importing it just now
        return {}
    levels = {
        name: logger.level
        for name, logger in list(manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET
    }
    if logging.root.level != logging.WARNING:
        levels[""] = logging.root.level
    return levels


class _Reloads:
    """How often each changeable module has been seen to be reloaded.

    `importlib.reload` gives a module a new spec, which costs one comparison per module to notice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._specs: list[ModuleSpec | None] = []  # of the modules of these names
        self._known: set[str] = set()
        self._modules_seen = -1
        self._counts: dict[str, int] = {}

    def count(self) -> dict[str, int]:
        """Module -> times; a new dict whenever it has changed."""
        with self._lock:
            if len(sys.modules) != self._modules_seen:
                self._find_new()
            specs = [
                getattr(module, "__spec__", None) for module in map(sys.modules.get, self._names)
            ]
            if any(map(is_not, specs, self._specs)):  # a spec made anew equals the one before
                self._note(specs)
            return self._counts

    def _note(self, specs: list[ModuleSpec | None]) -> None:
        for name, spec, before in zip(self._names, specs, self._specs, strict=True):
            if spec is not before:
                self._counts = {**self._counts, name: self._counts.get(name, 0) + 1}
        self._specs = specs

    def _find_new(self) -> None:
        self._modules_seen = len(sys.modules)
        for name in sys.modules.keys() - self._known:
            self._known.add(name)
            module = sys.modules.get(name)
            if name == "__main__" or name.startswith("parmap."):
                continue
            if changeable_file(module) is not None:
                self._names.append(name)
                self._specs.append(getattr(module, "__spec__", None))


_reloads = _Reloads()


def _forget_trouble() -> None:
    """In a forked child: chaos is of the process that asked for it."""
    global trouble
    trouble = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_trouble)
