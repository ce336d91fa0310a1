"""`Ring.put` and `Ring.get` once more, with the lock's steps written out.

A message costs a microsecond, and each Python call a twentieth of that.  The steps are those of
`IntentMutex.enter` and `leave`; what is not the everyday case is left to the ring.
"""

from __future__ import annotations

from parmap._channel.layout import HEAD, PARCEL, SLOT, TAIL, WAITING_RECEIVERS, WAITING_SENDERS

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._channel.large import Opened
    from parmap._channel.ring import Ring
    from parmap._memory.intents import IntentMutex


def make_put(ring: Ring, mutex: IntentMutex) -> Callable[[bytes], bool]:
    """Return a function that puts a small message in, or returns False if there is no room."""
    shared, buf, intents, slot = ring.words, ring.segment.buf, mutex.intents, mutex.own_slot()
    lock, acquire, release, unlock = mutex.lock, mutex.acquire, mutex.release, mutex.unlock
    slots, capacity, before_tail, ring_bell = (
        ring.slots, ring.capacity, ring.before_tail, ring.data.ring,
    )  # fmt: skip
    limit = 0  # up to here there was room when we looked last; HEAD only grows

    def put(record: bytes) -> bool:
        nonlocal limit
        wake, sent = 0, False
        try:
            if lock(False) and not mutex.inside:
                mutex.inside = 1
                seq = mutex.seq = mutex.seq + 1
                intents[slot] = seq
                if not acquire(False):
                    mutex.wait()
                    seq = 0
            else:
                mutex.enter_slowly()
                seq = 0
            tail = shared[TAIL]
            if tail < limit or tail < (limit := shared[HEAD] + capacity):
                at = slots + tail % capacity * SLOT
                buf[at : at + len(record)] = record
                if wake := shared[WAITING_RECEIVERS]:
                    wake = before_tail(wake, 1)
                shared[TAIL] = tail + 1
                sent = True
            if seq:
                release()
                intents[slot] = -seq
                mutex.inside = 0
                unlock()
            else:  # who has waited looks whether others do
                mutex.leave()
        except BaseException:
            mutex.leave()
            raise
        if wake:
            ring_bell()
        return sent

    return put


def make_get(ring: Ring, mutex: IntentMutex) -> Callable[[], bytes | Opened | None]:
    """Return a function that takes a small message out, or returns None if none is next."""
    shared, buf, intents, slot = ring.words, ring.segment.buf, mutex.intents, mutex.own_slot()
    lock, acquire, release, unlock = mutex.lock, mutex.acquire, mutex.release, mutex.unlock
    slots, capacity, after_head, ring_bell = (
        ring.slots, ring.capacity, ring.after_head, ring.space.ring,
    )  # fmt: skip
    open_parcel = ring.open
    known = 0  # up to here there was something when we looked last; TAIL only grows

    def get() -> bytes | Opened | None:
        nonlocal known
        wake = 0
        record: bytes | None = None
        opened: Opened | None = None
        head = shared[HEAD]
        if head >= known and head >= (known := shared[TAIL]):
            return None  # and those who have something to do there need not wait for this
        try:
            if lock(False) and not mutex.inside:
                mutex.inside = 1
                seq = mutex.seq = mutex.seq + 1
                intents[slot] = seq
                if not acquire(False):
                    mutex.wait()
                    seq = 0
            else:
                mutex.enter_slowly()
                seq = 0
            head = shared[HEAD]
            if head < known or head < (known := shared[TAIL]):
                at = slots + head % capacity * SLOT
                record = buf[at : at + SLOT]
                if record[0] == PARCEL:
                    opened = open_parcel(record, head)
                else:
                    shared[HEAD] = head + 1
                if wake := shared[WAITING_SENDERS]:
                    wake = after_head(wake, 1)
            if seq:
                release()
                intents[slot] = -seq
                mutex.inside = 0
                unlock()
            else:  # who has waited looks whether others do
                mutex.leave()
        except BaseException:
            mutex.leave()
            raise
        if wake:
            ring_bell()
        return opened or record

    return get
