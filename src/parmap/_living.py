"""The loops of this process that may still run: all of them at once."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING, Any

from parmap._calls.hearsay import hearsay

if TYPE_CHECKING:
    from parmap._loop import Loop

_loops: weakref.WeakSet[Loop[Any, Any]] = weakref.WeakSet()


def register(loop: Loop[Any, Any]) -> None:
    """There is a new one."""
    _loops.add(loop)
    # Anew each time, so that it is called before what was registered meanwhile: before
    # multiprocessing joins its children, among which are workers that it has started for us.
    atexit.unregister(finish_all)
    atexit.register(finish_all)


def living_loops() -> list[Loop[Any, Any]]:
    """Return this process's loops that have not ended."""
    return [loop for loop in list(_loops) if loop.alive]


def signal_all_workers(number: int) -> None:
    """Send a signal to every worker of this process."""
    for loop in list(_loops):
        for peer in list(loop._crew.members.values()):
            peer.send_signal(number)


def finish_all() -> None:
    """At exit: let every loop end in an orderly way, then wait until its workers are gone."""
    loops = list(_loops)
    for loop in loops:
        loop.finish()
    for loop in loops:
        loop.join()
    hearsay.deliver()


def _disown_all() -> None:
    """In a forked child: the loops are the parent's; only copies of their descriptors are here."""
    for loop in list(_loops):
        loop.disown()
    _loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
