"""A container as one process has it: made or arrived, changed, shown."""

from __future__ import annotations

import os
from _thread import RLock, get_ident
from _weakref import ref
from marshal import dumps

from parmap._memory.host import passes_descriptors
from parmap._memory.keeper import Keeper
from parmap._memory.log import END, STALE, Log
from parmap._memory.segment import Segment
from parmap._memory.transit import export_fd, import_fd
from parmap._wire.messages import Parcel
from parmap.shared._fast import make_put
from parmap.shared._values import Values, close

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeVar

    from parmap._memory.transit import Ticket
    from parmap.shared._following import Form

    R = TypeVar("R")


class Replica(Values):
    """What both kinds of containers are made of.  Thread-safe; goes on working in a forked child."""

    __slots__ = ()

    @classmethod
    def create(cls) -> Self:
        """Return a new, empty container."""
        keeper = Keeper.create() if passes_descriptors() else None
        made: Self = _register(cls(Log.create(), keeper))
        return made

    def change(self, act: Callable[..., R], *arguments: Any) -> R:
        """Return ``act(*arguments)``; meanwhile the copy is what all processes would see."""
        if self.copy.running and self.copy.running == get_ident():
            raise RuntimeError(
                "the function of update_item cannot change the container that it is called for:"
                " let it return the new value"
            )
        with self.mutex:
            if self.mutex.abandoned[0]:
                self._repair()
            if self.words[END] != self.copy.seen:
                self.catch_up()
            try:
                return act(*arguments)
            finally:
                if self._pending:
                    self._give_up()

    def _repair(self) -> None:
        """Somebody died holding the mutex."""
        self.catch_up()
        if self._keeper is not None:
            self._sweep(self._keeper)
        self.mutex.abandoned[0] = 0

    def fast_put(self) -> Callable[[Any, Form], bool]:
        """Return what puts small forms in: see `make_put`."""
        if self._fast_put is None:
            self._fast_put = make_put(self, keyed=type(self.copy.data) is dict)
        return self._fast_put

    def put(self, *step: Any) -> None:
        """Publish a step, and take it; the caller is in `change`."""
        record = dumps(step)
        with self.local:
            if not self.log.append(record):
                self.log.begin_again(dumps(self.snapshot()), len(record))
                self.log.append(record)
            self._busy, self.copy.seen = True, STALE
            try:
                for form in self._pending:
                    self.log.large.remove(form[1], form[2])
                self._pending.clear()
                self.take(self.copy.data, step)
                self.copy.seen = self.words[END]
            finally:
                self._busy = False
        if self._gone:
            self._clean()

    def call(self, fn: Callable[..., R], *arguments: Any) -> R:
        """Return ``fn(*arguments)``, the user's; the caller is in `change`."""
        self.copy.running, forks = get_ident(), self.forks
        try:
            return fn(*arguments)
        finally:
            self.copy.running = 0
            if forks != self.forks:
                raise RuntimeError(
                    "this process was forked inside a function that changes a container, and has no"
                    " part in that change: it belongs to its parent"
                )

    def replace(
        self, kind: int, target: Any, form: Form, place: Any, fn: Callable[[Any], Any]
    ) -> Any:
        """Put what `fn` makes of a value, ``(kind, target, new)``; the caller is in `change`."""
        if not callable(fn):
            raise TypeError(f"fn must be a function of the value, not {type(fn).__name__}")
        value = self.open(form, place)
        new = self.call(fn, value)
        if new is None and type(value) in _CHANGEABLE and value != self.open(form, place):
            raise TypeError(
                f"the function of update_item has changed the {type(value).__name__} that it was"
                " given, and returned None: it must return the new value (nothing was changed)"
            )
        made = self.encode(new)
        try:
            self.put(kind, target, self.place(made))
        finally:
            close(made)
        return new

    def fresh(self, default: object) -> Form:
        """Return a form of a default, so that the function gets a copy, as it would of a value."""
        form = self.encode(default)
        if type(form) is Parcel:
            form.close()
            return (None, default)
        return form

    def show(self, face: Any) -> str:
        """Return the repr of a face; of one inside itself, three dots."""
        me = get_ident()
        name = type(face).__name__
        if me in self._showing:
            return f"{name}(...)"
        self._showing.add(me)
        try:
            return f"{name}({face.copy()!r})"
        finally:
            self._showing.discard(me)


_CHANGEABLE = frozenset({list, dict, set, bytearray})

# This process's containers by the identity of their memory.
_replicas: dict[tuple[int, int], ref[Any]] = {}
_replicas_lock = RLock()


def _register(replica: Any) -> Any:
    key = replica.log.segment.key
    _replicas[key] = ref(replica, lambda gone: _forget(key, gone))
    return replica


def _forget(key: tuple[int, int], gone: ref[Any]) -> None:
    if _replicas.get(key) is gone:
        del _replicas[key]


def pack(replica: Replica, what: str) -> tuple[Ticket, Keeper | None]:
    """Return what `unpack` finds the container by; `what` names it, should it not be possible."""
    return export_fd(replica.log.segment.fileno(), what), replica._keeper


def unpack(cls: type[Any], ticket: Ticket, keeper: Keeper | None) -> Any:
    """Return this process's replica of a container that has arrived."""
    segment = Segment.from_fd(import_fd(ticket))
    with _replicas_lock:
        weak = _replicas.get(segment.key)
        known = None if weak is None else weak()
        return _register(cls(Log(segment), keeper)) if known is None else known


def _renew_all() -> None:
    global _replicas_lock
    _replicas_lock = RLock()
    for weak in list(_replicas.values()):
        replica = weak()
        if replica is not None:
            replica.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
