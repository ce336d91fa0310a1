"""A signal's handler that raises, at a chosen line of parmap's own code, as a real signal would.

Python runs handlers only between certain instructions.  Raising from a trace function would strike
elsewhere, too (between the end of a `with` block and its `__exit__`, say), where no signal can.  So
the trace function is C's own `PyErr_SetInterruptEx`, which notes the signal as the kernel's would be
noted, and the interpreter runs the handler when it next looks.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import parmap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_HERE = os.path.dirname(parmap.__file__)
_NUMBER = signal.SIGUSR2
_prototype = ctypes.PYFUNCTYPE(
    None, ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.py_object
)
_note_signal = functools.partial(
    _prototype(("PyErr_SetInterruptEx", ctypes.pythonapi)), int(_NUMBER)
)


class Struck(KeyboardInterrupt):
    """What the handler raises: it passes through every net that lets Ctrl-C through."""


def lines_of(call: Callable[[], object]) -> list[str]:
    """The places of all lines of parmap that the call runs in this thread, in their order."""
    places: list[str] = []

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(_HERE):
            return None
        if event == "line":
            places.append(_place(frame))
        return trace

    tracing = sys.gettrace()
    try:
        sys.settrace(trace)
        call()
    finally:
        sys.settrace(tracing)
    return places


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename[len(_HERE) + 1 :]}:{frame.f_lineno}"


def strike(call: Callable[[], object], line: int) -> str | None:
    """Make the call and strike at the `line`-th line of parmap that it runs in this thread.

    Gives that line's place; None if there are fewer.
    """
    passed, place = 0, None
    has_struck = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal has_struck
        sys.settrace(None)
        if not has_struck:
            has_struck = True
            raise Struck

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal passed, place
        if not frame.f_code.co_filename.startswith(_HERE):
            return None
        if event == "line":
            passed += 1
            if passed == line:
                place = _place(frame)
                return _note_signal  # at the next line of this frame, or its end
        return trace

    before, tracing = signal.signal(_NUMBER, handler), sys.gettrace()
    try:
        try:
            sys.settrace(trace)
            call()
        finally:
            sys.settrace(tracing)
    except Struck:
        return place
    finally:
        signal.signal(_NUMBER, before)
    return place
