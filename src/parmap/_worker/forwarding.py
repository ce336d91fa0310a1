"""Log records, warnings and the errors of threads: on their way from a worker to its parent.

What takes them in is installed once `logging` and `threading` are imported here: by what the worker
runs, for a worker that needs neither imports neither.
"""

from __future__ import annotations

import marshal
import os
import sys
import warnings
from _pickle import dumps

from parmap._wire.utterance import WARNING

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType
    from typing import Any, TextIO

    from parmap._worker.output import Outlet

_out: Outlet
_has_warned = False


def install(outlet: Outlet) -> None:
    """Send what comes to the root logger, to `warnings.showwarning` and to `threading.excepthook`."""
    global _out
    _out = outlet
    warnings.showwarning = _show_warning
    for name, take_in in _TAKEN_IN.items():
        if name in sys.modules:
            take_in(sys.modules[name])
    if not _TAKEN_IN.keys() <= sys.modules.keys():
        sys.meta_path.insert(0, _Watch())


def new_call() -> None:
    """A loop in the caller would show what it warns of; that it did so in the last one is no reason."""
    global _has_warned
    if _has_warned:
        _has_warned = False
        with warnings.catch_warnings():  # to enter it is enough: what was shown is forgotten
            pass


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Whether it is shown once more is for the parent, who knows what others have warned of."""
    global _has_warned
    _has_warned = True
    text = str(message)
    told = text, _by_name(category), filename, lineno, _module_of(filename, lineno), _out.name
    if file is not None or not _out.send(WARNING, marshal.dumps(told)):
        stream = sys.stderr if file is None else file
        stream.write(warnings.formatwarning(message, category, filename, lineno, line))


def _by_name(category: type[Warning]) -> bytes:
    """The category, or the nearest above it that can travel."""
    for known in category.__mro__:
        try:
            return dumps(known)
        except Exception:  # noqa: S112 - it came by value, and is known by no name
            continue
    return dumps(Warning)


def _module_of(filename: str, lineno: int) -> str | None:
    """The module that is warned of, if that place is in what runs right now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_lineno) != (filename, lineno):
        frame = frame.f_back
    name = None if frame is None else frame.f_globals.get("__name__")
    return name if isinstance(name, str) else None


def _take_in_records(logging: Any) -> None:
    from parmap._worker.log_handler import take_in

    take_in(_out)


def _take_in_thread_errors(threading: Any) -> None:
    if threading.excepthook is threading.__excepthook__:  # else somebody wants them
        threading.excepthook = _thread_failed


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """As the hook that it stands for, in one piece, and with the worker's name."""
    import traceback

    if args.exc_type is SystemExit:
        return
    name = "a thread" if args.thread is None else f"thread {args.thread.name}"
    lines = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
    stream = sys.stderr if sys.stderr is not None else sys.__stderr__
    if stream is not None:
        head = f"Exception in {name} of worker {_out.name} (pid {os.getpid()}):\n"
        stream.write(head + "".join(lines))
        stream.flush()


_TAKEN_IN: dict[str, Callable[[ModuleType], None]] = {
    "logging": _take_in_records,
    "threading": _take_in_thread_errors,
}


class _Watch:
    """A finder that finds what the others find, and takes a module in right after its import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        take_in = _TAKEN_IN.get(name)
        if take_in is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, take_in)  # type: ignore[assignment]  # all that a loader must have
                return spec
        return None


class _Loader:
    """Loads as the real one does; the module keeps that one."""

    def __init__(self, real: Any, take_in: Callable[[ModuleType], None]) -> None:
        self._real = real
        self._take_in = take_in

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        self._real.exec_module(module)
        self._take_in(module)
