"""Who drives a loop: whoever waits for it.

At most one thread is at the wheel.  The loop has a thread of its own, which drives whenever nobody
else does: it serves futures, deaths and deadlines.  A caller that waits for results takes its place,
so that no chunk costs a switch of threads:

    nobody ──take──▶ a caller ──leave──▶ nobody
    the loop's thread ──ask, give──▶ a caller      (between two turns, when a caller wants to wait)
    nobody ──take──▶ the loop's thread             (when it is rung for, or all has been still)

Callers come in rows (a map in a loop, a future after the other).  If the thread took the wheel after
each of them, the next would have to take it away again, which costs more than a small map.  So it
dozes: it comes back when it is called (`ring`: somebody's work is open, and nobody drives), or when
nobody has driven for `LINGER` seconds.  What is left in the inbox is thus heard within that time
even if nobody rings, and an idle loop sleeps in its one wait.

The race: a poster leaves an event and then looks who drives; a leaver gives the wheel up and then
looks into the inbox.  One of the two sees the other.
"""

from __future__ import annotations

import threading
from threading import get_ident

LINGER = 0.01


class Wheel:
    """The place at which one thread drives."""

    __slots__ = ("_asleep", "_bell", "_called", "_gate", "_heir", "_owner", "_taken", "holder")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._bell = threading.Lock()  # released once to wake the loop's thread
        self._bell.acquire()
        self._owner = 0  # the loop's own thread
        self._heir: tuple[int, threading.Lock] | None = None  # who has asked, and what wakes them
        self._called = False  # the loop's thread shall drive
        self._asleep = False  # it waits for the bell alone
        self._taken = 0  # how often callers have driven
        self.holder: int | None = None  # the thread that drives

    @property
    def mine(self) -> bool:
        """Whether this very thread drives."""
        return self.holder == get_ident()

    # ------------------------------------------------------------------ callers

    def take(self) -> bool:
        """Drive, if nobody does."""
        with self._gate:
            if self.holder is not None:
                return False
            self._pass_to(get_ident())
            return True

    def ask(self) -> threading.Lock | None:
        """Ask the loop's thread for the wheel; None if somebody else drives, or has asked before.

        Then `wait` for it.  Whoever else releases the lock ends that wait.
        """
        lock = threading.Lock()
        lock.acquire()
        with self._gate:
            if self.holder != self._owner or self._heir is not None:
                return None
            self._heir = get_ident(), lock
            return lock

    def wait(self, lock: threading.Lock) -> bool:
        """Wait for the wheel that was asked for; False if something else ended the wait."""
        lock.acquire()
        with self._gate:
            if self.mine:
                return True
            self._heir = None
            return False

    def leave(self) -> None:
        """Drive no longer.  Look into the inbox afterwards."""
        with self._gate:
            self.holder = None
            if self._asleep:
                self._ring()

    def ring(self) -> None:
        """Call the loop's thread to the wheel.  Takes no lock: a signal's handler may post."""
        self._called = True
        self._ring()

    def _ring(self) -> None:
        release(self._bell)

    def _pass_to(self, caller: int) -> None:
        self.holder = caller
        self._taken += 1
        self._called = False  # whoever drives hears all, and rings anew for what is left

    # ------------------------------------------------------------------ the loop's own thread

    @property
    def wanted(self) -> bool:
        """Whether a caller has asked for the wheel."""
        return self._heir is not None

    def take_as_owner(self) -> bool:
        """Drive, unless somebody else does."""
        with self._gate:
            self._owner = get_ident()
            if self.holder is None:
                self.holder = self._owner
                self._called = False
            return self.holder == self._owner

    def give(self) -> None:
        """Hand the wheel to whoever has asked for it, or to nobody."""
        with self._gate:
            self.holder = None
            if self._heir is not None:
                heir, lock = self._heir
                self._heir = None
                self._pass_to(heir)
                release(lock)

    def doze(self) -> None:
        """Until it is time to take the wheel again: called, or all was still."""
        seen = -1
        while True:
            rung = self._bell.acquire(timeout=-1 if self._asleep else LINGER)
            with self._gate:
                still = not rung and self._taken == seen
                if self.holder is None and (self._called or still):
                    self._called = self._asleep = False
                    return
                # One long drive: there is nothing to look after, and it rings when it leaves.  Not
                # while short ones follow each other: each would ring.
                self._asleep = still and self.holder is not None
                seen = self._taken


def release(lock: threading.Lock) -> None:
    """Release a lock, unless that has been done."""
    try:
        lock.release()
    except RuntimeError:
        return
