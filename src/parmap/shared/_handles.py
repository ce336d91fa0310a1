"""What every lock has in common: a block of shared memory, and one object for it in each process.

When a handle arrives in a process that has the same one already, it is that one: so what a thread
holds it holds, whichever copy it asks.
"""

from __future__ import annotations

import os
import time
from _thread import RLock
from _weakref import ref
from typing import TYPE_CHECKING

from parmap._memory.arena import arrive, default_arena
from parmap._memory.mutex import mutex_of, prepare, size_of
from parmap._memory.words import WORD, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from parmap._memory.arena import Block

    H = TypeVar("H", bound="Handle")

PROCESSES = 500  # that can use one lock at the same time
OWN = (size_of(PROCESSES) + 63) // 64 * 64  # where a kind's own words begin
OWN_WORDS = 8


class Handle:
    """A lock of any kind. Sent anywhere; lives as long as somebody has it."""

    __slots__ = ("__weakref__", "_block", "_mutex", "_words")

    _bytes = OWN + OWN_WORDS * WORD

    def __init__(self) -> None:
        block = default_arena().allocate(self._bytes)
        prepare(block.segment, block.offset)
        self._attach(block)
        with _lock:
            _handles[_key(block)] = ref(self)

    def _attach(self, block: Block) -> None:
        """Become this process's object for a block."""
        self._block = block
        self._mutex = mutex_of(block.segment, block.offset, PROCESSES)
        self._words = words(block.segment, block.offset + OWN, OWN_WORDS)

    def _renew(self) -> None:
        """In a forked child: it holds nothing."""

    def _extras(self) -> tuple[Any, ...]:
        """What travels along."""
        return ()

    def _arrive(self, *extras: Any) -> None:
        """It has come into this process, with its extras."""

    def __reduce__(self) -> tuple[Callable[..., Handle], tuple[Any, ...]]:
        tickets = self._block.tickets(f"shared {type(self).__name__}")
        return _arrive, (type(self), *tickets, *self._extras())


# This process's handles by place.
_handles: dict[tuple[tuple[int, int], int], ref[Handle]] = {}
_lock = RLock()


def _key(block: Block) -> tuple[tuple[int, int], int]:
    return block.segment.key, block.offset


def _arrive(kind: type[Handle], ticket: Any, number: int, *extras: Any) -> Handle:
    return handle_of(kind, arrive(ticket, number), *extras)


def handle_of(kind: type[H], block: Block, *extras: Any) -> H:
    """Return this process's one handle over a block that has been prepared."""
    with _lock:
        known = _handles.get(_key(block))
        handle = None if known is None else known()
        # Another kind: the block was used again, and its former handle lives on in a cycle.
        if not isinstance(handle, kind) or type(handle) is not kind:
            for gone in [key for key, weak in _handles.items() if weak() is None]:
                del _handles[gone]
            handle = kind.__new__(kind)
            handle._attach(block)
            handle._arrive(*extras)
            _handles[_key(block)] = ref(handle)
    return handle


def _renew_all() -> None:
    global _lock
    _lock = RLock()
    for weak in list(_handles.values()):
        handle = weak()
        if handle is not None:
            handle._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


def deadline_of(timeout: float | None) -> float | None:
    """Return when a wait is over."""
    return None if timeout is None else time.monotonic() + timeout


def check_timeout(timeout: object, *, block: bool = True) -> None:
    """Refuse what is no timeout, at the door."""
    if timeout is None:
        return
    if not block:
        raise ValueError("an acquire that does not block takes no timeout: leave one of them out")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout >= 0:  # nan, too
        raise ValueError(f"timeout must not be negative, not {timeout}: None waits for ever")


def check_count(name: str, count: object, least: int) -> None:
    """Refuse what is no number of things, at the door."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {type(count).__name__}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}, not {count}")
