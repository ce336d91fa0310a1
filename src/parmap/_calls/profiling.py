"""Which profiles are open, and which of them a call belongs to."""

from __future__ import annotations

import heapq
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from parmap._calls.recording import MOST_CALLS, MOST_SLOW, CallRecord, clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What the fast paths look at: whether any profile is open in this process.
on = False

_lock = threading.Lock()
_everywhere: tuple[Recording, ...] = ()
_mine: ContextVar[tuple[Recording, ...]] = ContextVar("parmap_profiles", default=())


class Recording:
    """The records of one profile.  Thread-safe."""

    def __init__(self) -> None:
        self.is_open = False
        self.began = self.until = 0
        self._records: list[CallRecord] = []
        self.of_function: dict[tuple[object, str], CallRecord] = {}
        self._shared: dict[tuple[str, str], CallRecord] = {}
        self._lock = threading.Lock()

    def open(self) -> None:
        """From now on the calls of this context are told, and those of threads without a profile."""
        global on, _everywhere
        self.is_open = True
        self.began = clock()
        with _lock:
            _everywhere = (*_everywhere, self)
            on = True
        _mine.set((*_mine.get(), self))

    def close(self) -> None:
        """The end of it.  Calls that go on are not told any more."""
        global on, _everywhere
        _mine.set(tuple(each for each in _mine.get() if each is not self))
        with _lock:
            _everywhere = tuple(each for each in _everywhere if each is not self)
            on = bool(_everywhere)
        self.is_open = False
        self.until = clock()
        for record in self.records:
            record.look()

    @property
    def records(self) -> list[CallRecord]:
        """Of the calls so far, oldest first."""
        with self._lock:
            records = [*self._records, *self._shared.values()]
        for record in records:
            record.fold()
        return records

    def add(self, record: CallRecord) -> None:
        """One more call; the records of too many are added up when they end."""
        with self._lock:
            if len(self._records) < MOST_CALLS:
                self._records.append(record)

    def shared(self, label: str, kind: str, make: Callable[[], CallRecord]) -> CallRecord:
        """The record of all calls of this name and kind."""
        with self._lock:
            if len(self._shared) >= MOST_CALLS:
                label = "(others)"
            found = self._shared.get((label, kind))
            if found is None:
                found = self._shared[label, kind] = make()
                found.label = label
            return found

    def ended(self, record: CallRecord) -> None:
        """A call is over: if it has no place of its own, add it up."""
        with self._lock:
            if any(each is record for each in self._records):
                return
        record.fold()
        kind = record.kind
        more = self.shared(
            f"{record.label} (more)", kind,
            lambda: CallRecord(record.label, kind, record.cap, record.began),
        )  # fmt: skip
        with self._lock:
            more.totals.add(record.totals)
            more.ended = record.ended
            more.slowest = heapq.nlargest(MOST_SLOW, more.slowest + record.slowest)
            heapq.heapify(more.slowest)
            for name, seen in record.workers.items():
                more.workers.setdefault(name, seen)


def begin(fn: Callable[..., Any], kind: str, cap: int) -> CallRecord | None:
    """The record for a call that begins here and now; None if no profile wants to know of it."""
    recordings = _wanting()
    if not recordings:
        return None
    record = CallRecord(name_of(fn), kind, cap, clock(), recordings=recordings)
    for recording in recordings:
        recording.add(record)
    return record


def shared(fn: Callable[..., Any], kind: str, cap: int) -> CallRecord | None:
    """The record that small calls of this function share, or None."""
    recordings = _wanting()
    if not recordings:
        return None

    inner = recordings[-1]
    try:
        if (known := inner.of_function.get((fn, kind))) is not None:
            return known
    except TypeError:  # it cannot be hashed
        return _shared(recordings, fn, kind, cap)
    record = _shared(recordings, fn, kind, cap)
    if len(inner.of_function) < MOST_CALLS:
        inner.of_function[fn, kind] = record
    return record


def _shared(
    recordings: tuple[Recording, ...], fn: Callable[..., Any], kind: str, cap: int
) -> CallRecord:
    def make() -> CallRecord:
        return CallRecord(name_of(fn), kind, cap, clock(), recordings=recordings)

    inner = recordings[-1]
    record = inner.shared(name_of(fn), kind, make)
    for outer in recordings[:-1]:
        # Beside what was recorded before the inner one was opened.
        outer.shared(record.label, f"{kind}, {id(inner)}", lambda: record)
    return record


def _wanting() -> tuple[Recording, ...]:
    if not on:
        return ()
    mine = tuple(each for each in _mine.get() if each.is_open)
    return mine or _everywhere


def name_of(fn: Callable[..., Any]) -> str:
    """What to call the calls of a function."""
    inner: Any = fn
    while callable(getattr(inner, "func", None)):  # functools.partial
        inner = inner.func
    name = getattr(inner, "__qualname__", None) or type(inner).__name__
    return str(name).replace("<locals>.", "")


def _forget() -> None:
    """In a forked child: the profiles are the parent's, who would never see what is told here."""
    global on, _everywhere, _lock
    on, _everywhere, _lock = False, (), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
