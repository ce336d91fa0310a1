"""The lock of one channel.

`enter` waits for it; `leave` gives back whatever this thread has of it, and may be called at any
time and twice.  An exception from a signal handler (Ctrl-C) can strike in front of `leave`'s own
first instruction, and so the one right way to use them is

    try:
        enter()
        ...
    finally:
        try:
            leave()
        except BaseException:
            leave()
            raise

Not reentrant: a finaliser or signal handler that comes back in the same thread gets RuntimeError.

Two kinds; who makes the channel decides, and the others see it in its memory.  `FileMutex` is the
kernel's lock, always right and slow (1.8 us).  `IntentMutex` is 6 times as fast.
"""

from __future__ import annotations

import sys
import time
from _thread import RLock, _local

from parmap._channel.heap import identity, is_alive
from parmap._channel.layout import (
    INTENT_AT,
    INTENT_SIZE,
    INTENTS,
    LOCK,
    MOST_INTENTS,
    REPAIR,
    SEMAPHORE,
    WORD,
)
from parmap._memory.flock import RobustLock
from parmap._memory.host import LINUX, portable_level
from parmap._memory.words import words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeVar

    from parmap._memory.segment import Segment

    R = TypeVar("R")

_STEP = INTENT_SIZE // WORD
_SUSPECT = SEMAPHORE + 6  # a word beside the semaphore: somebody has waited for long
_READY = SEMAPHORE + 7  # ... and it is there, and is to be used
# A waiter that has slept this long looks whether the holder is dead.
_PATIENCE = 0.02
_PAUSE = 0.001  # and then it looks this often
_RECURSIVE, _PLAIN = (
    0,
    1,
)  # kinds of semaphore: one knows its owner, and lets nobody else release it


class _Until(_local):
    time: float | None = None


_until = _Until()


def within(seconds: float, act: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Return ``act(...)``; in it this thread waits for locks for so long only.

    A holder may have been stopped (SIGSTOP, a debugger): it is not dead, and nobody can go on; but
    who has a timeout gets his TimeoutError.
    """
    before = _until.time
    _until.time = time.monotonic() + seconds
    try:
        return act(*arguments, **options)
    finally:
        _until.time = before


def check_time() -> None:
    """Raise TimeoutError when this thread has waited long enough."""
    until = _until.time
    if until is not None and time.monotonic() > until:
        raise TimeoutError("another process is in the middle of using this channel, and is stopped")


class FileMutex:
    """The kernel's lock on the channel's file: released by the kernel when its holder dies."""

    __slots__ = ("_lock", "_repair")

    def __init__(self, segment: Segment) -> None:
        self._lock = RobustLock(segment, LOCK * WORD, whole=True)
        self._repair = words(segment, REPAIR * WORD)

    def enter(self) -> None:
        """Wait for the lock."""
        if _until.time is None:
            self._lock.acquire()
        elif not self._lock.acquire(max(0.001, _until.time - time.monotonic())):
            check_time()
            raise TimeoutError("another process is using this channel")
        if self._lock.was_abandoned:
            self._repair[0] = 1

    def leave(self) -> None:
        """Give the lock back, if this thread has it."""
        if self._lock.held:
            self._lock.release()

    def renew(self) -> None:
        """In a forked child: the file's lock has done it already."""


class IntentMutex:
    """A semaphore, and beside it for each process a word that says whether it may be holding it.

    **Words.**  Each process has a slot: (intent, owner).  Its intent is positive from before it
    touches the semaphore until after it has released it, and else negative; each time it is a
    number never used before in that slot.  A gate in front lets one thread of a process in.

    **Claim.**  If the semaphore is 0, some process with a positive intent has taken it and not
    released it: whoever made it 0 had set his intent before, and will change it only after making
    it 1; and a recoverer makes it 1 before it touches the dead one's intent.

    **Recovery** (by one process at a time: under the kernel's lock).  Collect all intents; see that
    the semaphore is 0; collect them again.  If both are equal, no intent has changed in between,
    numbers being used once, so at the moment of looking at the semaphore exactly these were
    positive.  If none of them belongs to a living process then, by the claim, a dead one has it, and
    it will never release it: the recoverer does.  Until then nobody can have got it, since it was 0.

    **A recoverer that is killed** has either not yet made it 1, then the next one finds the same
    state; or has, then the dead one's intent stays positive, which is harmless: a recovery also
    needs the semaphore to be 0 and no living intent, and then by the claim it was taken by a dead
    one.  Before it goes on each recoverer wipes the intents of the dead that it has seen.

    **A waiter** makes its intent negative before it tries to recover, or the waiters would look to
    each other like holders.  For the same reason the one that has waited for long says so to all
    (SUSPECT): from then on nobody sleeps with a positive intent, which those who come with short
    timeouts would else do nearly always; they look again every millisecond, until one of them has
    the lock.  The word is a hint only: what it says wrongly costs a millisecond, or a look more.

    Owners are told apart by pid and time of start (`heap.identity`).
    """

    __slots__ = (
        "_file", "_nested", "_owned", "_place", "_sem", "_shared", "acquire", "inside", "intents",
        "lock", "release", "segment", "seq", "slot", "unlock",
    )  # fmt: skip

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._place = _Place(segment)
        self._sem = self._place.semaphore(_RECURSIVE)
        self.acquire, self.release = self._sem.acquire, self._sem.release
        self._file = RobustLock(segment, LOCK * WORD, whole=True)
        self._shared = words(segment, 0, INTENTS + 1)
        self.intents = words(segment, INTENT_AT, MOST_INTENTS * _STEP)
        self.renew()

    def renew(self) -> None:
        """In a forked child: a slot and a gate of its own; it holds nothing."""
        gate: Any = RLock()
        self.lock, self.unlock, self._owned = gate.acquire, gate.release, gate._is_owned
        self._sem._after_fork()
        self.slot: int | None = None
        self.seq = 0
        self.inside = False
        self._nested = 0

    def enter(self) -> None:
        """Wait for the lock."""
        if not self.lock(False):
            self.wait_for_thread()
        if self.inside:
            self.refuse()
        self.inside = True
        seq = self.seq = self.seq + 1
        try:
            self.intents[self.slot] = seq  # type: ignore[index]  # None: TypeError, on purpose
        except TypeError:
            self.claim()
        if not self.acquire(False):
            self.wait()

    def leave(self) -> None:
        """Give back whatever this thread has of the lock."""
        if self._nested and self._owned():
            self._nested -= 1
            return
        try:
            self.release()
        except AssertionError:  # interrupted before it was acquired, or after it was released
            if not self._owned():
                return
        if self.slot is not None:
            self.intents[self.slot] = -self.seq
        self.inside = False
        self.unlock()

    def own_slot(self) -> int:
        """Return this process's slot, claimed if need be."""
        if self.slot is None:
            self.enter()
            self.leave()
        assert self.slot is not None
        return self.slot

    def refuse(self) -> NoReturn:
        """Raise: a finaliser or a signal handler came back in the thread that is inside."""
        self._nested += 1
        self.unlock()
        raise RuntimeError(
            "this thread is in the middle of an operation on this channel: a finaliser or a signal"
            " handler cannot use it now"
        )

    def wait_for_thread(self) -> None:
        """Another thread of this process has it, or waits for it."""
        while not self.lock(True, _PATIENCE):
            check_time()

    def wait(self) -> None:
        """Somebody else has it; this process's intent is set."""
        shared = self._shared
        if not shared[_SUSPECT] and self.acquire(True, _PATIENCE):
            return
        shared[_SUSPECT] = 1
        # From now on mostly negative: those who wait positive look like holders to a recoverer.
        while True:
            self.intents[self.slot] = -self.seq  # type: ignore[index]  # claimed in `enter`
            with self._file:
                self._recover()
            check_time()
            time.sleep(_PAUSE)
            self.seq += 1
            self.intents[self.slot] = self.seq  # type: ignore[index]
            if self.acquire(False):
                shared[_SUSPECT] = 0
                return

    def _recover(self) -> None:
        """Release the lock for a dead holder, if there is one."""
        before = self._collect()
        taken = self._sem._is_zero()
        if not taken or before != self._collect():
            return
        dead: list[int] = []
        for slot in range(0, len(before), _STEP):
            if before[slot] > 0:
                if is_alive(before[slot + 1]):
                    return
                dead.append(slot)
        # A process may have died since: then it was alive when we looked at the semaphore, and may
        # have passed the lock on.  Look again at what has to be still the same.
        if not dead or not self._sem._is_zero() or before != self._collect():
            return
        self._shared[REPAIR] = 1
        # What this process does not hold is released through an object of another kind.
        self._place.semaphore(_PLAIN).release()
        for slot in dead:
            self.intents[slot] = -before[slot]

    def _collect(self) -> list[int]:
        return self.intents[: self._shared[INTENTS] * _STEP].tolist()

    def claim(self) -> None:
        """Take a slot: one whose owner is dead or has given it back, or a new one."""
        with self._file:
            count = self._shared[INTENTS]
            for number in range(count):
                slot = number * _STEP
                # A positive one belongs to a dead holder who has yet to be found.
                if self.intents[slot] <= 0 and not is_alive(self.intents[slot + 1]):
                    break
            else:
                if count == MOST_INTENTS:
                    raise OSError(f"{MOST_INTENTS} processes use this channel: no more can")
                slot = count * _STEP
            # Numbers go on where the owner before has stopped: none is used twice.
            self.seq = -self.intents[slot] + 1
            self.intents[slot + 1] = identity()
            self._shared[INTENTS] = max(count, slot // _STEP + 1)
            self.intents[slot] = self.seq
            self.slot = slot

    def __del__(self) -> None:
        slot = getattr(self, "slot", None)
        if slot is not None:
            self.intents[slot + 1] = 0


def prepare(segment: Segment) -> None:
    """Give a new channel the fast lock, if this system can."""
    if portable_level() != LINUX or not _has_gil():
        return
    try:
        import ctypes

        where = _Place(segment).address
        if ctypes.CDLL(None).sem_init(ctypes.c_void_p(where), 1, 1) == 0:
            words(segment, 0, INTENTS)[_READY] = 1
    except (ImportError, OSError, AttributeError):
        return  # no such C library here


def mutex_of(segment: Segment) -> FileMutex | IntentMutex:
    """Return this process's lock of a channel."""
    return IntentMutex(segment) if words(segment, 0, INTENTS)[_READY] else FileMutex(segment)


def _has_gil() -> bool:
    """Whether threads take turns: an intent is one store, but its number is counted before it."""
    check = getattr(sys, "_is_gil_enabled", None)
    return check is None or bool(check())


class _Place:
    """Where the semaphore lies in this process; the memory stays there while this lives."""

    __slots__ = ("_anchor", "address")

    def __init__(self, segment: Segment) -> None:
        # What lies under ctypes, which itself would cost each worker 5 ms.
        from _ctypes import _SimpleCData, addressof

        kind: Any = type("_Byte", (_SimpleCData,), {"_type_": "c"})
        self._anchor = kind.from_buffer(segment.buf, SEMAPHORE * WORD)
        self.address: int = addressof(self._anchor)

    def semaphore(self, kind: int) -> Any:
        """Return an object of the standard library's over this very memory."""
        from _multiprocessing import SemLock  # type: ignore[import-not-found]  # it has no stubs

        rebuild: Any = SemLock._rebuild  # multiprocessing's own way
        return rebuild(self.address, kind, 1, None)
