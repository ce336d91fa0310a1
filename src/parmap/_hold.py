"""Signal handlers held back while the main thread drives a loop.

Python runs the handlers of signals in the main thread, between any two instructions, and what they
raise (Ctrl-C: KeyboardInterrupt) comes out there.  A driver's own thread never meets one; the main
thread, where it drives, must not meet one while the books are half changed.  So for as long as it
drives, every handler written in Python is replaced by one that notes the signal and ends the wait;
the signal is raised again as soon as the books are whole and the handlers are back: within one turn.

Whoever relies on a signal (a timer, a reaper of children, a resized terminal) hears it as promptly as
before.  Handlers written in C (faulthandler's) are left alone.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself makes an enum of every answer, which costs more than the answer
import threading
from operator import is_not
from typing import TYPE_CHECKING, Any

from parmap._wheel import release

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    Handler = TypeVar("Handler", bound=Callable[[int, object], None])

_UNCATCHABLE = {getattr(_signal, name, 0) for name in ("SIGKILL", "SIGSTOP")}
_NUMBERS = sorted(set(_signal.valid_signals()) - _UNCATCHABLE)


class Hold:
    """Holds the handlers back between `begin` and `end`.  Only the main thread's does anything.

    It does not nest: within another one, all is held already, and what came is the outer one's.
    """

    __slots__ = ("_awaken", "_handlers", "lock", "noted")

    def __init__(self, awaken: Callable[[], object]) -> None:
        """`awaken` ends the wait that is in progress; called between any two instructions."""
        self._awaken = awaken
        self._handlers: dict[int, Any] = {}  # what was there before
        self.lock: threading.Lock | None = None  # released as well: the wait may be for that
        self.noted: dict[int, None] = {}  # the signals that have come, in order, each once

    def begin(self) -> None:
        """From here on nothing is raised in between."""
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _handled():
                handler = _signal.getsignal(number)
                if not isinstance(handler, _Note):
                    self._handlers[number] = handler
                    _signal.signal(number, _Note(self))
        except ValueError:
            return  # the main thread of a subinterpreter, where handlers never run
        except BaseException:  # from the handler of a signal that is not held yet
            self.end()
            raise

    def end(self) -> None:
        """The handlers are back, and hear what has come.  Raises what they raise."""
        try:
            self._restore()
        finally:
            self._raise_again()

    def note(self, number: int) -> None:
        """A signal has come."""
        self.noted[number] = None
        self._awaken()
        if self.lock is not None:
            release(self.lock)

    def _restore(self) -> None:
        try:
            while self._handlers:
                number, handler = next(iter(self._handlers.items()))
                # Code that ran meanwhile may have set one of its own, which then stays.
                if isinstance(_signal.getsignal(number), _Note):
                    _signal.signal(number, handler)
                del self._handlers[number]
        finally:  # a handler that is back already may have raised
            if self._handlers:
                self._restore()

    def _raise_again(self) -> None:
        try:
            while self.noted:
                number = next(iter(self.noted))
                del self.noted[number]
                _signal.raise_signal(number)
        finally:  # each handler runs, as if all had come now; the last error has the others behind it
            if self.noted:
                self._raise_again()


_last: tuple[list[Any], list[int]] = [], []


def _handled() -> list[int]:
    """The signals that have a handler written in Python; nearly always the same as before."""
    global _last
    now = list(map(_signal.getsignal, _NUMBERS))
    before, handled = _last
    if len(now) != len(before) or any(map(is_not, now, before)):
        handled = [n for n, handler in zip(_NUMBERS, now, strict=True) if _is_held(handler)]
        _last = now, handled
    return handled


def runs_at_once(handler: Handler) -> Handler:
    """Mark a handler that raises nothing and touches no books: it is never held back, and so keeps
    what faulthandler has put in front of it."""
    handler.__dict__["runs_at_once"] = True
    return handler


def _is_held(handler: Any) -> bool:
    return callable(handler) and not getattr(handler, "runs_at_once", False)


class _Note:
    """The handler in the place of another one."""

    __slots__ = ("_hold",)

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._hold.note(number)
