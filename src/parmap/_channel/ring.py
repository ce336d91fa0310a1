"""The queue: slots of exact capacity in shared memory, under one lock.

Each change is published by ONE store, to TAIL (a message is in) or to HEAD (it is out).  What comes
before that store is invisible, what comes after it can be missing: README.md goes through all
places where a process may be killed.
"""

from __future__ import annotations

from parmap._channel.large import Opened, Parcels
from parmap._channel.layout import (
    CAPACITY,
    COUNT,
    ENDED,
    FLAGS,
    HEAD,
    HEAP_END,
    LEVEL,
    LEVELLED,
    PARCEL,
    SENDER_EXISTED,
    SLOT,
    TAIL,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
    WORDS,
    Layout,
)
from parmap._memory.segment import Segment
from parmap._memory.words import words
from parmap._wire.messages import PICKLE

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence


class Ring(Parcels):
    """One channel's queue as this process sees it.  Thread-safe; never waits but for the lock."""

    __slots__ = ()

    @staticmethod
    def new_segment(capacity: int) -> Segment:
        """Return the memory of a new, empty queue."""
        heap = Layout(capacity).heap
        segment = Segment.create(heap)
        header = words(segment, 0, WORDS)
        header[CAPACITY] = capacity
        header[HEAP_END] = heap
        return segment

    def __len__(self) -> int:
        return max(0, self.words[TAIL] - self.words[HEAD])

    def put(self, record: bytes, *, sleep: bool = False) -> bool:
        """Put a small message in; False if there is no room: then, with `sleep`, be rung for."""
        shared = self.words
        wake = 0
        try:
            self._enter()
            tail = shared[TAIL]
            if tail - shared[HEAD] >= self.capacity:
                shared[WAITING_SENDERS] += sleep
                return False
            at = self.slots + tail % self.capacity * SLOT
            self._buf[at : at + len(record)] = record
            wake = shared[WAITING_RECEIVERS]
            if wake:
                wake = self.before_tail(wake, 1)
            shared[TAIL] = tail + 1
        finally:
            try:
                self._leave()
            except BaseException:
                self._leave()
                raise
        if wake:
            self.data.ring()
        return True

    def after_head(self, word: int, count: int) -> int:
        """Messages are out: return how many senders to wake."""
        shared = self.words
        if word & LEVELLED and shared[TAIL] == shared[HEAD] and not shared[FLAGS] & ENDED:
            self.data.silence()
        wake = min(word & COUNT, count)
        shared[WAITING_SENDERS] = word - wake
        return wake

    def put_many(self, records: Sequence[bytes], *, sleep: bool = False) -> int:
        """Put in as many small messages as there is room for; return how many."""
        shared, slots, capacity = self.words, self.slots, self.capacity
        wake = 0
        try:
            self._enter()
            tail = shared[TAIL]
            count = min(len(records), capacity - tail + shared[HEAD])
            if count <= 0:
                shared[WAITING_SENDERS] += sleep
                return 0
            number = tail
            for record in records[:count] if count < len(records) else records:
                at = slots + number % capacity * SLOT
                self._buf[at : at + len(record)] = record
                number += 1
            wake = self.before_tail(shared[WAITING_RECEIVERS], count)
            shared[TAIL] = number
        finally:
            try:
                self._leave()
            except BaseException:
                self._leave()
                raise
        for _ in range(wake):
            self.data.ring()
        return count

    def get(self, *, sleep: bool = False) -> bytes | Opened | None:
        """Take the next message out; None if there is none (then, with `sleep`, be rung for).

        Raises `EndOfChannel` when none will come.
        """
        shared = self.words
        opened: Opened | None = None
        wake = 0
        try:
            self._enter()
            head = shared[HEAD]
            if head == shared[TAIL]:
                self._found_empty(sleep)
                return None
            at = self.slots + head % self.capacity * SLOT
            record: bytes = self._buf[at : at + SLOT]
            if record[0] == PARCEL:
                opened = self.open(record, head)
            else:
                shared[HEAD] = head + 1
            wake = shared[WAITING_SENDERS]
            if wake:
                wake = self.after_head(wake, 1)
        finally:
            try:
                self._leave()
            except BaseException:
                self._leave()
                raise
        if wake:
            self.space.ring()
        return record if opened is None else opened

    def get_many(self, limit: int) -> list[bytes]:
        """Take out what is there at once of plain small messages, at most `limit`."""
        shared, slots, capacity, buf = self.words, self.slots, self.capacity, self._buf
        records: list[bytes] = []
        wake = 0
        try:
            self._enter()
            head = shared[HEAD]
            tail = min(shared[TAIL], head + limit)
            number = head
            while number < tail:
                at = slots + number % capacity * SLOT
                if buf[at] in (PARCEL, PICKLE):  # what may fail to be rebuilt is taken alone
                    break
                records.append(buf[at : at + SLOT])
                number += 1
            shared[HEAD] = number
            wake = self.after_head(shared[WAITING_SENDERS], number - head)
        finally:
            try:
                self._leave()
            except BaseException:
                self._leave()
                raise
        for _ in range(wake):
            self.space.ring()
        return records

    def settle_end(self) -> bool:
        """Whether the stream has ended; if nobody is left who could send, it does so now."""
        if self.words[FLAGS] & ENDED:
            return True
        return self.locked(self.settle_end_locked)

    def end_if_alone(self) -> bool:
        """End the stream if there is no sender, even if there never was one."""
        return self.locked(self.settle_end_locked, 0)

    def settle_end_locked(self, needed: int = SENDER_EXISTED) -> bool:
        """Do what `settle_end` does; the caller has the lock."""
        shared = self.words
        flags = shared[FLAGS]
        if flags & ENDED:
            return True
        if flags & needed != needed or self._senders.anyone():
            return False
        shared[FLAGS] = flags | ENDED
        # For good: those who sleep, and those who poll for themselves.
        word = shared[WAITING_RECEIVERS]
        for _ in range(min(word & COUNT, _MOST_RINGS) + 1):
            self.data.ring()
        shared[WAITING_RECEIVERS] = word & ~COUNT
        return True

    def _found_empty(self, sleep: bool) -> None:
        if self.settle_end_locked():
            from parmap.errors import EndOfChannel

            raise EndOfChannel("every sender of this channel is gone, and nothing is left")
        if self.words[FLAGS] & LEVEL:
            self.data.silence()  # somebody was killed before he could do it
        if sleep:
            self.words[WAITING_RECEIVERS] += 1


_MOST_RINGS = 4096
