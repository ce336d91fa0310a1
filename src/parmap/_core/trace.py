"""Events as plain data and back, and a core that is watched: checked after each event, or written down.

What is opaque to the core (payloads, who died) is left out: the decisions do not depend on it.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

from parmap._core import events as ev
from parmap._core.retry import RetryPolicy
from parmap._core.scheduler import Scheduler
from parmap._core.states import WorkerState
from parmap.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._core.commands import Command

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(ev.Event)}
_OPAQUE = {"payload", "who"}


def to_plain(event: ev.Event) -> dict[str, object]:
    """The event as JSON can hold it."""
    plain: dict[str, object] = {"event": type(event).__name__}
    for each in fields(event):
        if each.name not in _OPAQUE:
            plain[each.name] = _plain(getattr(event, each.name))
    return plain


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return value


def from_plain(plain: dict[str, Any]) -> ev.Event:
    """The event that `to_plain` has written."""
    values = dict(plain)
    kind = _KINDS[values.pop("event")]
    if "on_failure" in values:
        values["on_failure"] = ev.OnFailure(values["on_failure"])
    if "retry" in values:
        values["retry"] = RetryPolicy(**values["retry"])
    if "failed" in values:
        values["failed"] = tuple(values["failed"])
    opaque = {each.name for each in fields(kind)} & _OPAQUE
    event: ev.Event = kind(**values, **dict.fromkeys(opaque))
    return event


class WatchedScheduler(Scheduler):
    """A scheduler that checks its books after each event, and tells somebody of each before."""

    def __init__(
        self,
        *,
        checked: bool,
        tell: Callable[[float, ev.Event], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._checked = checked
        self._tell = tell

    def handle(self, event: ev.Event, *, now: float) -> list[Command]:
        """As every scheduler; InternalError if the books are wrong afterwards."""
        if self._tell is not None:
            self._tell(now, event)
        commands = super().handle(event, now=now)
        if self._checked:
            check(self)
        return commands


def check(core: Scheduler) -> None:
    """Raise InternalError unless the books agree with each other."""
    holders: dict[int, set[int]] = {number: set() for number in core.calls}
    for worker in core.workers.values():
        _require(core, worker.state is not WorkerState.DEAD, f"{worker} is dead, and in the books")
        if worker.state is WorkerState.BUSY:
            _require(core, bool(worker.chunks), f"{worker} is busy with nothing")
        elif worker.state is not WorkerState.LEAVING:
            _require(core, not worker.chunks, f"{worker} is not busy, and has work")
        _require(core, len(worker.chunks) <= 2, f"{worker} has too much")
        calls = {chunk.call for chunk in worker.chunks}
        _require(core, len(calls) <= 1, f"{worker} serves several calls")
        for call in calls:
            _require(core, call in core.calls, f"{worker} serves a call that is over")
            holders[call].add(worker.id)
    for book in core.calls.values():
        where = f"call {book.id}"
        waiting = [i for piece in book.pieces for i in (piece.start, piece.stop)]
        count = sum(piece.stop - piece.start for piece in book.pieces)
        _require(core, book.waiting == count, f"{where}: {count} items wait, not {book.waiting}")
        _require(core, book.workers == holders[book.id], f"{where}: {book.workers} serve it")
        _require(core, max(waiting, default=0) <= book.fed, f"{where}: items wait that nobody fed")
        _require(core, not book.finished, f"{where} is finished, and open")
    idle = any(worker.state is WorkerState.IDLE for worker in core.workers.values())
    hungry = any(book.waiting and len(book.workers) < book.cap for book in core.calls.values())
    _require(core, not (idle and hungry), "a worker idles while a call waits for it")
    due = core.next_deadline()
    rests = [at for book in core.calls.values() for at in book.resting.values()]
    _require(core, not rests or (due is not None and due <= min(rests)), "a rest is forgotten")


def _require(core: Scheduler, truth: bool, otherwise: str) -> None:
    if not truth:
        raise InternalError(f"the books are wrong: {otherwise}", core.story())
