"""The caller's surroundings, as its workers will take them over before a call."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

from parmap._wire.pickling import Codec, Encoded
from parmap._worker.surroundings import changeable_file
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from parmap._worker.surroundings import Surroundings

_last: tuple[Surroundings, Encoded] | None = None


def encoded() -> Encoded:
    """The surroundings as they travel; the very same object for as long as nothing changes."""
    global _last
    now = capture()
    last = _last
    if last is not None and last[0] == now:
        return last[1]
    try:
        data = Codec("to worker").dumps(now, "surroundings")
    except SerializationError:
        # A warning filter with a category that cannot travel: the worker keeps the filters it has.
        data = Codec("to worker").dumps({**now, "filters": None}, "surroundings")
    _last = now, data
    return data


def capture() -> Surroundings:
    """What a loop in this process would see now."""
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = None  # the folder was deleted; workers stay where they are
    return {
        "cwd": cwd,
        "path": list(sys.path),
        "environ": dict(os.environ),
        "levels": _log_levels(),
        "filters": list(warnings.filters),
        "reloads": _reloads.count(),
    }


def _log_levels() -> dict[str, int]:
    """Loggers whose level somebody has set, "" being the root."""
    logging = sys.modules.get("logging")
    if logging is None:
        return {}
    levels = {
        name: logger.level
        for name, logger in list(logging.Logger.manager.loggerDict.items())
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
        self._specs: dict[str, ModuleSpec | None] = {}
        self._known: set[str] = set()
        self._modules_seen = -1
        self._counts: dict[str, int] = {}

    def count(self) -> dict[str, int]:
        """Module -> times; a new dict whenever it has changed."""
        with self._lock:
            if len(sys.modules) != self._modules_seen:
                self._find_new()
            for name, spec in self._specs.items():
                now = getattr(sys.modules.get(name), "__spec__", None)
                if now is not spec:
                    self._specs[name] = now
                    self._counts = {**self._counts, name: self._counts.get(name, 0) + 1}
            return self._counts

    def _find_new(self) -> None:
        self._modules_seen = len(sys.modules)
        for name in sys.modules.keys() - self._known:
            self._known.add(name)
            module = sys.modules.get(name)
            if name != "__main__" and changeable_file(module) is not None:
                self._specs[name] = getattr(module, "__spec__", None)


_reloads = _Reloads()
