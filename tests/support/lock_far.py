"""Locks on their way: what the far side of a transport does with each kind, and what came of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from parmap import Barrier, Condition, Event, Lock, RLock, Semaphore
from support.channel_peers import Child, activity
from support.gates import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.channel_peers import Running

KINDS: dict[str, Callable[[], Any]] = {
    "Lock": Lock,
    "RLock": RLock,
    "Semaphore": lambda: Semaphore(3),
    "Event": Event,
    "Condition": lambda: Condition(Lock()),
    "Barrier": lambda: Barrier(2, timeout=PATIENCE),
}


class Near:
    """A lock, and a second object for it that stays here to see what the far side has done."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.handle: Any = KINDS[kind]()
        self.mine = self.handle

    @staticmethod
    def use(handle: Any) -> str:
        return use(handle)

    def give(self) -> Any:
        handle, self.handle = self.handle, None
        return handle

    def drop(self, handle: Any) -> None:
        """It goes with its last reference."""

    def leave_to_child(self, handle: Any) -> None:
        """It is the child's as much as this process's."""

    def check(self, answer: Any) -> None:
        assert answer == f"used a {self.kind}"
        if self.kind == "Semaphore":
            assert self.mine.value == 4
        elif self.kind == "Event":
            assert self.mine.is_set()
        elif self.kind == "Barrier":
            assert self.mine.broken
        else:
            assert self.mine.acquire(timeout=PATIENCE)
            self.mine.release()


def use(handle: Any) -> str:
    """Do with a lock what its kind can do, and leave a mark."""
    if isinstance(handle, Condition):
        with handle:
            assert not handle.wait(timeout=0.001)
            handle.notify_all()
    elif isinstance(handle, Event):
        handle.set()
    elif isinstance(handle, Barrier):
        assert (handle.parties, handle.n_waiting) == (2, 0)
        handle.abort()
    elif isinstance(handle, Semaphore):
        handle.release()
    else:
        with handle:
            assert handle.locked()
    return f"used a {type(handle).__name__}"


def settle_in(who: Child | Running) -> None:
    """Wait until it waits: asleep in the kernel, or, on the portable road, looking again and again."""
    if "PARMAP_PORTABLE" not in os.environ:
        who.wait_until_blocked()
        return
    pid, thread = (who.pid, None) if isinstance(who, Child) else (os.getpid(), who.native_id)
    begun = activity(pid, thread).switches
    wait_until(lambda: activity(pid, thread).switches > begun + 20, f"process {pid} to wait")
