"""What workers have said, until somebody delivers it to this process's streams and handlers.

The thread that drives a loop only notes it: handlers are the user's code, may take locks that their
own process holds while it waits for that very loop, and may call parmap.  It is delivered by

* the caller of a map, between two results, in the order in which it was said;
* whoever asks for the result of a future, or waits for a worker of a group;
* else, and when there is much of it, a thread of its own, which lives for as long as there is some.

One delivers at a time, so that the order is kept.  But nobody waits for long behind a deliverer who
is stuck in a handler: the stuck one may wait for a lock of the very thread that comes next.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._wire.utterance import Utterance

# From so many bytes on the thread helps callers that do not come, and at last workers have to wait.
MUCH = 256 * 1024
TOO_MUCH = 1024 * 1024
# What an utterance costs beside its payload.
_OVERHEAD = 500
# Seconds to wait for another deliverer who makes no progress.
PATIENCE = 1.0


class Deliverable:
    """Something to be delivered by whoever gets it."""

    __slots__ = ()

    def deliver(self) -> None:
        """Deliver it, in this thread."""
        raise NotImplementedError


class Said(Deliverable):
    """One utterance.  Delivered once, by whoever comes first."""

    __slots__ = ("_utterance", "chunk", "nbytes", "worker")

    def __init__(self, utterance: Utterance) -> None:
        self._utterance: list[Utterance] = [utterance]
        self.worker = utterance.worker
        self.chunk = utterance.chunk
        self.nbytes = len(utterance.payload) + _OVERHEAD

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has begun to deliver it."""
        return bool(self._utterance)

    def deliver(self) -> None:
        """Deliver it now, unless that has been done."""
        if self.is_waiting:
            with hearsay.turn(self):
                self.deliver_in_turn()

    def deliver_in_turn(self) -> None:
        """As `deliver`, for who has the turn."""
        from parmap._calls import delivery  # what nobody says anything costs nobody

        try:
            utterance = self._utterance.pop()
        except IndexError:
            return  # somebody else was faster
        try:
            delivery.deliver(utterance)
        finally:
            hearsay.delivered(self)


class Hearsay(Deliverable):
    """All that is not delivered yet in this process.  Thread-safe."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._gate = threading.Lock()
        self._held = 0
        self._waiting: deque[Said] = deque()
        self._deaf: list[Callable[[], None]] = []
        self._turn = threading.RLock()
        self._at: Said | None = None  # what is being delivered
        self._stuck_at: Said | None = None  # what somebody has waited for in vain
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        """Whether there is something to deliver, or being delivered."""
        return self._held > 0

    @property
    def is_too_much(self) -> bool:
        """Whether workers should wait before they say more."""
        return self._held > TOO_MUCH

    # ------------------------------------------------------------------ for the loops

    def note(self, said: Said) -> None:
        """Remember it until it is delivered."""
        with self._gate:
            self._waiting.append(said)
            self._held += said.nbytes
            much = self._held > MUCH
        if much:
            self.serve()

    def serve(self) -> None:
        """Have everything delivered, whether anybody comes for it or not."""
        with self._gate:
            if self._thread is not None or not self._held:
                return
            thread = threading.Thread(target=self._run, name="parmap-delivery", daemon=True)
            self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # at exit there are no new threads; what is left is delivered then
            self._thread = None

    def when_less(self, call: Callable[[], None]) -> None:
        """Call this once it is no longer too much."""
        with self._gate:
            self._deaf.append(call)
        self._wake_deaf()  # it may have become less meanwhile

    # ------------------------------------------------------------------ for whoever delivers

    def deliver(self) -> None:
        """Deliver all that there is now."""
        for said in self._now():
            said.deliver()
        if self._held:  # the last is in another's hands
            with self.turn(None):
                pass

    def turn(self, said: Said | None) -> _Turn:
        """One delivers at a time."""
        return _Turn(self, said)

    def delivered(self, said: Said) -> None:
        """It need not be remembered any more."""
        with self._gate:
            self._held -= said.nbytes
            while self._waiting and not self._waiting[0].is_waiting:
                self._waiting.popleft()
        self._wake_deaf()

    def _now(self) -> list[Said]:
        with self._gate:
            return [said for said in self._waiting if said.is_waiting]

    def _wake_deaf(self) -> None:
        if not self._deaf or self._held > TOO_MUCH // 2:
            return
        with self._gate:
            deaf, self._deaf = self._deaf, []
        for call in deaf:
            call()

    def _run(self) -> None:
        while True:
            for said in self._now():
                said.deliver()
            with self._gate:
                # What another thread is delivering is not waited for.
                if not any(said.is_waiting for said in self._waiting):
                    self._thread = None
                    return

    def take_turn(self, said: Said | None) -> bool:
        """Wait for the turn, for as long as the one who has it gets on.  False: it is stuck."""
        while not self._turn.acquire(blocking=False):
            before = self._at
            if before is not None and before is self._stuck_at:
                return False  # it was waited for already
            if self._turn.acquire(timeout=PATIENCE):
                break
            if self._at is before:
                self._stuck_at = before
                return False
        self._at = said
        return True

    def end_turn(self) -> None:
        self._at = self._stuck_at = None
        self._turn.release()


class _Turn:
    __slots__ = ("_has_it", "_hearsay", "_said")

    def __init__(self, hearsay: Hearsay, said: Said | None) -> None:
        self._hearsay = hearsay
        self._said = said
        self._has_it = False

    def __enter__(self) -> None:
        self._has_it = self._hearsay.take_turn(self._said)

    def __exit__(self, *exc_info: object) -> None:
        if self._has_it:
            self._hearsay.end_turn()


hearsay = Hearsay()

if hasattr(os, "register_at_fork"):
    # In a forked child: the parent delivers, and locks may have been held.
    os.register_at_fork(after_in_child=hearsay._begin)
