"""The fast mutex of `mutex`: a semaphore in shared memory, and who may be holding it.

A semaphore costs 60 ns, and knows nothing of deaths; so beside it each process says, in a word of
its own, whether it may be holding it.
"""

from __future__ import annotations

import time
from _thread import RLock

from parmap._memory.flock import RobustLock
from parmap._memory.identity import identity, is_alive
from parmap._memory.manners import ASLEEP, HUNGRY, MANNERS, PATIENCE, be_polite
from parmap._memory.patience import bounded, check_time, left
from parmap._memory.semaphores import (
    ABANDONED,
    BELL,
    COUNT,
    HEADER,
    LOCK,
    MANY,
    PLAIN,
    RECURSIVE,
    SEMAPHORE,
    SLOT,
    WAITERS,
    Place,
)
from parmap._memory.words import WORD, words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

    from parmap._memory.segment import Segment

FIRST_SLEEP = 0.002  # on the semaphore itself
_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # between two looks whether the holder is dead

# How a process stands: it may come in at once; it is in; it lets others go first; it has no slot.
_OUT, _IN, _POLITE, _NEW = 0, 1, 2, 3


class IntentMutex:
    """A semaphore, and beside it for each process a word that says whether it may be holding it.

    **Words.**  Each process has a slot: (intent, owner).  Its intent is positive from before it
    touches the semaphore until after it has released it, and else negative; each time it is a
    number never used before in that slot.  A gate in front lets one thread of a process in.

    **Claim.**  If the semaphore is 0, some process with a positive intent has it: whoever made it 0
    had set his intent before, and will change it only after making it 1; and who takes it over
    from a dead one has set his own before he touches the dead one's.

    **Takeover** (by one process at a time: under the kernel's lock).  Collect all intents; see that
    the semaphore is 0; collect them again.  If both are equal, no intent has changed in between,
    numbers being used once, so at the moment of looking at the semaphore exactly these were
    positive.  If none of them belongs to a living process then, by the claim, a dead one has it, and
    will never release it; nobody else can get it, since it is 0.  So it belongs to who has found
    out: he sets his own intent, and then wipes those of the dead.

    **One that is killed while he takes over** has either not yet set his intent, and the next one
    finds the same state; or he has, and is one more of the dead with a positive intent.  An intent
    that stays positive after its owner had released is harmless: a takeover also needs the semaphore
    to be 0 and no living intent, and then by the claim one of the dead has it.

    **A waiter** sleeps for two milliseconds on the semaphore, which wakes him soonest; but only if
    nobody waits for longer, since his intent is positive meanwhile, and he looks to the others like
    a holder.  Those who wait for longer sleep, with negative intents, on a second semaphore, the
    bell, which who leaves rings when WAITERS says so; and look from time to time whether the holder
    is dead.  WAITERS and the bell are hints only, which a kill may falsify: what they say wrongly
    costs a pause, never the lock.

    **No waiter starves.**  Who has waited for 5 ms is hungry, and says so.  Who leaves and sees it
    does not come back before a hungry one has been in (or 10 ms have passed: he may be dead).

    Owners are told apart by pid and time of start (`identity`).
    """

    __slots__ = (
        "__weakref__", "_bell", "_file", "_nested", "_over", "_owned", "_place", "_plain", "_sem",
        "_took", "abandoned", "acquire", "inside", "intents", "lock", "release", "segment", "seq",
        "shared", "slot", "slots", "unlock",
    )  # fmt: skip

    def __init__(self, segment: Segment, at: int, slots: int) -> None:
        self.segment = segment
        self.slots = slots
        self._place = Place(segment, at)
        self._sem = self._place.semaphore(SEMAPHORE, RECURSIVE)
        self._plain = self._place.semaphore(SEMAPHORE, PLAIN)
        # Two who leave may both have seen it silent: the second ring is no error.
        self._bell = self._place.semaphore(BELL, PLAIN, MANY)
        self.acquire, self.release = self._sem.acquire, self._sem.release
        self._file = RobustLock(segment, at + LOCK * WORD)
        self.shared = words(segment, at, HEADER)
        self.abandoned = self.shared[ABANDONED : ABANDONED + 1]
        self.intents = words(segment, at + HEADER * WORD, slots * SLOT)
        self.renew()

    def renew(self) -> None:
        """In a forked child: a slot and a gate of its own; it holds nothing."""
        gate: Any = RLock()
        self.lock, self.unlock, self._owned = gate.acquire, gate.release, gate._is_owned
        self._sem._after_fork()
        self.slot = -1
        self.seq = 0
        self.inside = _NEW
        self._nested = 0
        self._over = False  # this process has it, but not through its semaphore object
        self._took = -1  # the last intent with which it took over

    def enter(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most `timeout` seconds; return whether it is held now."""
        if not self.lock(False) or self.inside:
            return self.enter_slowly(timeout)
        self.inside = _IN
        seq = self.seq = self.seq + 1
        self.intents[self.slot] = seq
        if self.acquire(False):
            return True
        if self.wait(None if timeout is None else time.monotonic() + timeout):
            return True
        self.leave()
        return False

    def leave(self) -> None:
        """Give back whatever this thread has of the lock."""
        if self._nested and self._owned():
            self._nested -= 1
            return
        try:
            self.release()
        except AssertionError:
            # Interrupted before it was acquired or after its release; or taken over.
            if not self._owned():
                return
            if self._over:
                self._over = False  # no signal can come between this store and the next call's end
                self._plain.release()
        if self.slot < 0:
            self.inside = _NEW  # interrupted in `claim`
        else:
            self.intents[self.slot] = -self.seq
            self.inside = self._pass_on() if self.shared[WAITERS] else _OUT
        self.unlock()

    @property
    def was_abandoned(self) -> bool:
        """Whether the holder before died inside, and this process has taken over."""
        return self._took == self.seq

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock."""
        return bool(self._owned())

    def own_slot(self) -> int:
        """Return this process's slot, claimed if need be."""
        if self.slot < 0:
            with self:
                pass
        return self.slot

    def __enter__(self) -> None:
        # `enter` and `leave` once more: each Python call costs as much as the semaphore.
        try:
            if self.lock(False) and not self.inside:
                self.inside = _IN
                seq = self.seq = self.seq + 1
                self.intents[self.slot] = seq
                if not self.acquire(False):
                    self.wait()
            else:
                self.enter_slowly()
        except BaseException:
            self.leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self.release()
            self.intents[self.slot] = -self.seq
            self.inside = self._pass_on() if self.shared[WAITERS] else _OUT
            self.unlock()
        except AssertionError:  # taken over
            self.leave()
        except BaseException:  # from a signal handler
            self.leave()
            raise

    def wait_for_thread(self, deadline: float | None = None) -> bool:
        """Another thread of this process has it, or waits for it: wait for the gate."""
        deadline = bounded(deadline)
        hungry = False
        while not self.lock(True, left(deadline, MANNERS if hungry else PATIENCE)):
            if deadline is not None and time.monotonic() >= deadline:
                check_time()
                return False
            self.shared[WAITERS] = HUNGRY
            hungry = True
        if hungry:
            self.shared[WAITERS] = ASLEEP
        return True

    def wait(self, deadline: float | None = None) -> bool:
        """Somebody else has it; this process's intent is set.  Whether it has it now."""
        deadline = bounded(deadline)
        shared, began, pause, rung = self.shared, time.monotonic(), _PAUSE, False
        if not shared[WAITERS] and self.acquire(True, left(deadline, FIRST_SLEEP)):
            return True
        self.intents[self.slot] = -self.seq
        while True:
            hungry = time.monotonic() - began > PATIENCE
            # Before the look, or who leaves in between would ring for nobody.
            shared[WAITERS] = HUNGRY if hungry else shared[WAITERS] or ASLEEP
            got = self._try() or (not rung and self._take_over())
            if got or (deadline is not None and time.monotonic() >= deadline):
                break
            rung = self._bell.acquire(True, left(deadline, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)
        if shared[WAITERS] == HUNGRY:
            shared[WAITERS] = ASLEEP
        if not got:
            check_time()
        return got

    def refuse(self) -> NoReturn:
        """Raise: this thread has come back in, say in a finaliser or a signal handler."""
        self._nested += 1
        self.unlock()
        raise RuntimeError(
            "this thread holds the lock already, or is in the middle of an operation on this object:"
            " a finaliser or a signal handler cannot use it now"
        )

    def enter_slowly(self, timeout: float | None = None) -> bool:
        """Like `enter`, whose first step was not enough: the gate is shut, or this is no time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._owned():
            if self.inside == _IN:
                self.refuse()
            if self.inside == _POLITE and timeout != 0:
                self.unlock()
                be_polite(self.shared, deadline)
        if not self._owned() and not self.wait_for_thread(deadline):
            return False
        self.inside = _IN
        self.seq += 1
        if self.slot < 0:
            self.claim()
        else:
            self.intents[self.slot] = self.seq
        if self.acquire(False) or self.wait(deadline):
            return True
        self.leave()
        return False

    def claim(self) -> None:
        """Take a slot: one whose owner is dead, one that an earlier object here had, or a new one.

        None is given back at the end, which may come after the memory has become another's.
        """
        with self._file:
            count = self.shared[COUNT]
            for number in range(count):
                slot = number * SLOT
                owner = self.intents[slot + 1]
                # A positive one belongs to a dead holder who has yet to be found.
                if self.intents[slot] <= 0 and (owner == identity() or not is_alive(owner)):
                    break
            else:
                if count == self.slots:
                    raise OSError(f"{count} processes use this object: no more can")
                slot = count * SLOT
            # Numbers go on where the owner before has stopped: none is used twice.
            self.seq = -self.intents[slot] + 1
            self.intents[slot + 1] = identity()
            self.shared[COUNT] = max(count, slot // SLOT + 1)
            self.intents[slot] = self.seq
            self.slot = slot

    def _try(self) -> bool:
        if self._sem._is_zero():
            return (
                False  # without a change of intent, which would disturb those who look for a death
            )
        self.seq += 1
        self.intents[self.slot] = self.seq
        if self.acquire(False):
            return True
        self.intents[self.slot] = -self.seq
        return False

    def _pass_on(self) -> int:
        """Wake somebody who sleeps; return how this process comes back."""
        waiters = self.shared[WAITERS]
        if waiters != HUNGRY:
            self.shared[WAITERS] = 0  # who is woken, and who sleeps on, says it again
        if self._bell._is_zero():
            self._bell.release()
        return _POLITE if waiters == HUNGRY else _OUT

    def _take_over(self) -> bool:
        """Have the lock, if its holder is dead."""
        if not self._file.acquire(0):
            return False  # another one is looking
        try:
            dead = self._dead_holders()
            if not dead:
                return False
            self.seq += 1
            self.intents[self.slot] = self.seq
            self._took = self.seq
            self._over = True  # from here on `leave` gives it back
            self.abandoned[0] = 1
            for slot in dead:
                self.intents[slot] = -self.intents[slot]
            return True
        finally:
            self._file.release()

    def _dead_holders(self) -> list[int]:
        """Return the slots of the dead one of whom has it; none if somebody lives who may have it."""
        before = self._collect()
        if not self._sem._is_zero() or before != self._collect():
            return []
        dead: list[int] = []
        for slot in range(0, len(before), SLOT):
            if before[slot] > 0:
                if is_alive(before[slot + 1]):
                    return []
                dead.append(slot)
        # A process may have died since: then it was alive when we looked at the semaphore, and may
        # have passed the lock on.  Look again at what has to be still the same.
        return dead if self._sem._is_zero() and before == self._collect() else []

    def _collect(self) -> list[int]:
        return self.intents[: self.shared[COUNT] * SLOT].tolist()
