"""Every exception that parmap raises, and the values that stand for failed items.

Catch :class:`ParmapError` for whatever parmap itself has to report. The exceptions of your own
functions are never wrapped in one: they arrive as they were raised.

Three of the classes (:class:`WorkerLostError`, :class:`ChannelFull`, :class:`ChannelEmpty`) have a
base in a standard module that is slow to import: ``concurrent.futures`` alone costs 15 ms, most of
the start of a worker. They live in ``parmap._slow_errors`` and are looked up at their first use
(PEP 562), so that a worker which never needs them does not pay for them.
"""

from __future__ import annotations

from parmap._failures import TaskErrorGroup, TaskFailure, failure_of

# What other layers need, under one door.
from parmap._failures import attach_failure as attach_failure
from parmap._failures import attributes_of as attributes_of
from parmap._words import death_in_words as death_in_words
from parmap._words import printable as printable
from parmap._words import short_repr as short_repr
from parmap._words import signal_name as signal_name

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeVar

    from parmap._slow_errors import ChannelEmpty, ChannelFull, WorkerLostError

    _E = TypeVar("_E", bound="ParmapError")

__all__ = [
    "BrokenChannelError",
    "CallTimeoutError",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "ClosedChannelError",
    "EndOfChannel",
    "InternalError",
    "ParmapError",
    "PoolClosedError",
    "RemoteError",
    "SerializationError",
    "TaskErrorGroup",
    "TaskFailure",
    "TaskTimeoutError",
    "WorkerLostError",
    "WorkerStartError",
    "failure_of",
]

_LAZY = frozenset({"ChannelEmpty", "ChannelFull", "WorkerLostError"})


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from parmap import _slow_errors

    globals().update({lazy: getattr(_slow_errors, lazy) for lazy in _LAZY})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LAZY)


class ParmapError(Exception):
    """Base of the exceptions that report something parmap itself has found.

    They all survive pickling with every attribute, whatever their constructors ask for.
    """

    def __str__(self) -> str:
        # What a task, or a name, has put into it must not repaint the terminal that shows it.
        return printable(super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        # Never through the constructor: OSError's gives two or more arguments a meaning of its
        # own and drops some, and keyword-only parameters would be lost.
        return (_rebuild_error, (type(self), self.args), attributes_of(self) or None)


def _rebuild_error(cls: type[_E], args: tuple[object, ...]) -> _E:
    error = cls.__new__(cls)
    error.args = args
    return error


class WorkerStartError(ParmapError):
    """Raised when a worker process never became ready: it could not start, or failed in starting.

    Attributes:
        exitcode: what the process ended with (minus the signal's number if a signal ended it);
            None if it was not seen to end.
        hint: what could be wrong and what to try, or None.
    """

    def __init__(
        self, message: str = "", *, exitcode: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message or f"a worker could not start: it {death_in_words(exitcode)}")
        self.exitcode = exitcode
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nhint: {self.hint}" if self.hint else text


def start_refused(message: str) -> WorkerStartError:
    """The error for what the system did not let us have when workers were to start."""
    return WorkerStartError(
        message,
        hint="the limits of processes, memory or open files (ulimit -u, -v, -n) are reached",
    )


class TaskTimeoutError(ParmapError, TimeoutError):
    """Raised for an item that ran longer than ``task_timeout``; its worker was ended and replaced.

    Attributes:
        index: the item's position in the input, or None.
        stack: the Python stack that it was stuck in, as text, or None where it could not be had.

    Example:
        >>> error = TaskTimeoutError(index=7)
        >>> isinstance(error, TimeoutError), str(error)
        (True, 'item 7 ran longer than its task_timeout')
    """

    def __init__(
        self, message: str = "", *, index: int | None = None, stack: str | None = None
    ) -> None:
        item = "a task" if index is None else f"item {index}"
        super().__init__(message or f"{item} ran longer than its task_timeout")
        self.index = index
        self.stack = stack

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nIt was stuck here:\n{printable(self.stack)}" if self.stack else text


class CallTimeoutError(ParmapError, TimeoutError):
    """Raised when a whole call took longer than its ``timeout``.

    Attributes:
        results: what ``on_error="return"`` would have given at that moment, one entry per item,
            failures as :class:`TaskFailure`; None where the call cannot know (a lazy map).
    """

    def __init__(self, message: str = "", *, results: list[object] | None = None) -> None:
        super().__init__(message or "the call took longer than its timeout")
        self.results = results


_WAYS = {"to worker": " to the worker", "to caller": " back to the caller"}


class SerializationError(ParmapError, TypeError):
    """Raised when something cannot be sent to or from a worker.

    The pickler's own error is the ``__cause__``.

    Attributes:
        direction: ``"to worker"`` (function, arguments), ``"to caller"`` (results), or None.
        path: where the guilty part sits, such as ``args[1].lock`` or ``fn.__globals__['db']``;
            None if it could not be found.

    Example:
        >>> reason = "cannot pickle '_thread.lock' object"
        >>> str(SerializationError(reason, direction="to worker", path="args[0].lock"))
        "args[0].lock cannot be sent to the worker: cannot pickle '_thread.lock' object"
    """

    def __init__(
        self,
        message: str = "",
        *,
        direction: Literal["to worker", "to caller"] | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message)
        self.direction = direction
        self.path = path

    def __str__(self) -> str:
        text = super().__str__()
        if self.path is None:
            return text
        head = f"{printable(self.path)} cannot be sent{_WAYS.get(self.direction or '', '')}"
        return f"{head}: {text}" if text else head


class RemoteError(ParmapError):
    """Stands for an exception that cannot travel, or that must not be raised as itself.

    Its ``__traceback__`` still holds the frames in which the original was raised.

    Attributes:
        type_name: the original's class, such as ``"sqlite3.ProgrammingError"``.
        text: the original's ``str()``.
        formatted_traceback: the original's traceback, as the worker would have printed it.

    Example:
        >>> str(RemoteError("shop.Refused", "no stock", "Traceback ..."))
        'shop.Refused: no stock'
    """

    def __init__(self, type_name: str, text: str = "", formatted: str = "") -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text
        self.formatted_traceback = formatted

    def __str__(self) -> str:
        return printable(f"{self.type_name}: {self.text}" if self.text else self.type_name)


class PoolClosedError(ParmapError, RuntimeError):
    """Raised when work is given to a pool that was shut down, or that another process owns.

    A pool belongs to the process that made it; a forked child must make its own.
    """


class ChannelError(ParmapError):
    """Base of what a :class:`~parmap.Channel` raises."""


class ClosedChannelError(ChannelError):
    """Raised by an operation on an end that this process has closed, or on an ended stream."""


class BrokenChannelError(ChannelError):
    """Raised by ``send`` when the last receiver is gone, closed or dead.

    Attributes:
        item: what could not be delivered.
    """

    def __init__(
        self, message: str = "every receiver of this channel is gone", *, item: object = None
    ) -> None:
        super().__init__(message)
        self.item = item


class EndOfChannel(ChannelError, EOFError):
    """Raised by ``receive`` when every sender is gone and nothing is left to receive."""


class InternalError(ParmapError):
    """Raised when parmap finds itself in a state that should be impossible: please report it.

    Attributes:
        story: what led here, one line per event, oldest first.
    """

    def __init__(self, message: str, story: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.story: tuple[str, ...] = tuple(story)

    def __str__(self) -> str:
        story = "".join(f"\n  {printable(line)}" for line in self.story)
        return f"{super().__str__()}{story}\nThis is a bug in parmap: please report it."
