"""The caller's surroundings, taken over by the worker before each call; and modules gone stale.

A loop would see the caller's folder, `sys.path`, environment, log levels and warning filters, so a
worker does too.  What it has imported it keeps, as any Python process does; so a worker that holds a
module whose file has changed since, or that the caller has reloaded, leaves and is replaced.
"""

from __future__ import annotations

import os
import sys
import warnings

from parmap._wire import kin
from parmap._worker import threads

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any, TypedDict

    from parmap._worker.trouble import Orders

    class Surroundings(TypedDict):
        """What travels.  `None` where the caller could not tell (its folder was deleted)."""

        cwd: str | None
        path: list[str]
        environ: dict[str, str]
        authkey: bytes | None  # multiprocessing's
        levels: dict[str, int]  # of loggers whose level is not the default one; "" is the root's
        filters: list[Any] | None
        reloads: dict[str, int]  # module -> how often the caller has been seen to reload it
        trouble: Orders | None  # what `parmap.testing.chaos` wants


# Modules of Python itself and of installed packages do not change under a program.
_STANDARD_LIBRARY = os.path.dirname(os.__file__)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Taken:
    """What this worker has taken over so far, and the modules it holds."""

    __slots__ = ("_count", "_loggers", "_modules", "_reloads", "_seen")

    def __init__(self) -> None:
        self._modules: dict[str, tuple[str, int, int]] = {}  # name -> file, mtime, size
        self._seen: set[str] = set()
        self._count = 0
        self._reloads: dict[str, int] | None = None
        self._loggers: set[str] = set()

    def take_over(self, wanted: Surroundings, fds: Sequence[int] = ()) -> bool:
        """Become like the caller.  False: this worker holds what the caller no longer has.

        `fds` came along: the way to the caller's resource tracker, if it has one.
        """
        kin.take_over(wanted["authkey"], fds)
        if self._is_stale(wanted["reloads"]):
            return False
        if wanted["cwd"] is not None:
            _change_folder(wanted["cwd"])
        if sys.path != wanted["path"]:
            sys.path[:] = wanted["path"]
        _change_environment({**threads.unset(wanted["environ"]), **wanted["environ"]})
        self._set_levels(wanted["levels"])
        if wanted["filters"] is not None:
            warnings.filters[:] = wanted["filters"]  # type: ignore[index]  # a list in every version
            warnings._filters_mutated()  # type: ignore[attr-defined]  # as warnings' own functions do
        return True

    def note_modules(self) -> None:
        """Remember which changeable modules were imported, and as of when; cheap when none was."""
        if len(sys.modules) == self._count:
            return
        self._count = len(sys.modules)
        for name in sys.modules.keys() - self._seen:
            self._seen.add(name)
            file = changeable_file(sys.modules.get(name))
            if file is not None and (stamp := _stamp(file)) is not None:
                self._modules[name] = (file, *stamp)

    def _is_stale(self, reloads: dict[str, int]) -> bool:
        before, self._reloads = self._reloads, reloads
        if before is not None and any(
            before.get(name, 0) != times and name in self._modules
            for name, times in reloads.items()
        ):
            return True
        return any(
            _stamp(file) not in (None, tuple(stamp)) for file, *stamp in self._modules.values()
        )

    def _set_levels(self, levels: dict[str, int]) -> None:
        if not levels and not self._loggers:
            return
        import logging  # only a caller that has set levels makes the worker pay for it

        for name in self._loggers - levels.keys():
            logging.getLogger(name).setLevel(logging.WARNING if name == "" else logging.NOTSET)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        self._loggers = set(levels)


def _change_folder(cwd: str) -> None:
    try:
        if os.getcwd() == cwd:
            return
    except OSError:
        pass  # the old folder is gone, which is a reason more to leave it
    try:
        os.chdir(cwd)
    except OSError:
        return  # the new one is gone by now: the caller's own next file access would fail likewise


def _change_environment(wanted: dict[str, str]) -> None:
    if os.environ == wanted:
        return
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)


def changeable_file(module: ModuleType | None) -> str | None:
    """The file of a module that is neither Python's own nor an installed package's."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or file.startswith(_STANDARD_LIBRARY):
        return None
    return None if any(part in file for part in _INSTALLED) else file


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None  # deleted: what was imported stays right as far as anybody can tell
    return status.st_mtime_ns, status.st_size
