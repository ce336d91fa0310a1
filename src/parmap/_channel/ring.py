"""The queue: slots of exact capacity in shared memory, under one lock.

Each change is published by ONE store, to TAIL (a message is in) or to HEAD (it is out).  What comes
before that store is invisible, what comes after it can be missing: README.md goes through all
places where a process may be killed.
"""

from __future__ import annotations

import time

from parmap._channel.heap import Heap
from parmap._channel.layout import (
    BYTES,
    CAPACITY,
    COUNT,
    ENDED,
    FLAGS,
    HEAD,
    HEAP_END,
    LEVEL,
    LEVELLED,
    MOST_BYTES,
    REPAIR,
    SENDER_EXISTED,
    SLOT,
    TAIL,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
    WORDS,
    Layout,
)
from parmap._channel.messages import AS_PICKLE, LABEL, PARCEL, Parcel
from parmap._memory.segment import Segment
from parmap._memory.words import words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from parmap._channel.bell import Bell
    from parmap._channel.messages import Messages
    from parmap._channel.mutex import FileMutex, IntentMutex
    from parmap._channel.presence import Presence
    from parmap._memory.keeper import Keeper

    R = TypeVar("R")

# Up to here copying costs less than taking the lock a second time.
_COPY_INSIDE = 1 << 12


class Opened:
    """A parcel that was taken out: where its bytes are until `close`.  Owns its descriptors."""

    __slots__ = ("_heap", "block", "fds", "form", "nbytes")

    def __init__(self, heap: Heap, form: int, block: int, nbytes: int, fds: Sequence[int]) -> None:
        self._heap = heap
        self.block = block
        self.form = form
        self.nbytes = nbytes
        self.fds = fds

    def read(self, messages: Messages) -> Any:
        """Return the item."""
        memory, at = self._heap.place(self.block, self.nbytes)
        return messages.decode_parcel(self.form, memory, at, self.nbytes, self.fds)

    def close(self) -> None:
        """Its memory may be used for another message."""
        self._heap.release(self.block)


class Ring:
    """One channel's queue as this process sees it.  Thread-safe; never waits but for the lock."""

    __slots__ = (
        "_buf", "_enter", "_heap", "_keeper", "_leave", "_senders", "capacity", "data", "segment",
        "slots", "space", "words",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        mutex: FileMutex | IntentMutex,
        keeper: Keeper,
        bells: tuple[Bell, Bell],
        senders: Presence,
    ) -> None:
        """`bells`: the one that tells receivers of messages, and the one that tells of room."""
        self.segment = segment
        self.words = words(segment, 0, WORDS)
        self.capacity = self.words[CAPACITY]
        layout = Layout(self.capacity)
        self.slots = layout.slots
        self._buf = segment.buf
        self._heap = Heap(segment, layout)
        self._keeper = keeper
        self._enter, self._leave = mutex.enter, mutex.leave
        self.data, self.space = bells
        self._senders = senders

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

    def before_tail(self, word: int, count: int) -> int:
        """Messages are about to be in: return how many receivers to wake."""
        if word & LEVELLED and self.words[TAIL] == self.words[HEAD]:
            self.data.ring()
        wake = min(word & COUNT, count)
        self.words[WAITING_RECEIVERS] = word - wake
        return wake

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

    def put_parcel(self, parcel: Parcel, *, sleep: bool = False) -> bool:
        """Put a large message in; False if there is no room for it."""
        block = self.locked(self._reserve, parcel, sleep)
        if block is None:
            return False
        try:
            if not parcel.sent:
                self._write(block, parcel)
                self.locked(self._publish, block, parcel, sleep)
            return parcel.sent
        finally:
            if not parcel.sent:
                self._heap.release(block)

    def _reserve(self, parcel: Parcel, sleep: bool) -> int | None:
        """Return a block for the parcel; a small one is sent at once."""
        block: int | None = None
        if self._has_room(parcel.nbytes):
            block = self._heap.allocate(parcel.nbytes, self._queued_blocks)
        if block is None:
            self.words[WAITING_SENDERS] += sleep
        elif parcel.nbytes <= _COPY_INSIDE:
            self._write(block, parcel)
            self._publish(block, parcel, sleep)
        return block

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
        """Take out what is there at once of small messages, at most `limit`."""
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
                if buf[at] == PARCEL:
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

    def locked(self, act: Callable[..., R], *arguments: object) -> R:
        """Return ``act(*arguments)``; meanwhile nobody else changes anything."""
        try:
            self._enter()
            return act(*arguments)
        finally:
            try:
                self._leave()
            except BaseException:
                self._leave()
                raise

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

    def open(self, record: bytes, head: int) -> Opened:
        """Take a parcel out; the caller has the lock.  The block is ours before the message is: no kill can lose it."""
        _, form, count, block, nbytes, tag = LABEL.unpack_from(record)
        self._heap.own(block)
        self.words[BYTES] = max(0, self.words[BYTES] - nbytes)
        self.words[HEAD] = head + 1
        fds = self._keeper.take(tag) if count else ()
        if fds is None or len(fds) != count:
            self._heap.release(block)
            from parmap.errors import InternalError

            raise InternalError("a handle in a message has lost its descriptors")
        return Opened(self._heap, form, block, nbytes, fds)

    def _has_room(self, nbytes: int) -> bool:
        shared = self.words
        if shared[REPAIR]:
            shared[BYTES] = sum(size for _, size in self._queued())
            shared[REPAIR] = 0
        waiting = shared[TAIL] - shared[HEAD]
        if waiting >= self.capacity:
            return False
        return shared[BYTES] + nbytes <= MOST_BYTES or not waiting

    def _write(self, block: int, parcel: Parcel) -> None:
        if parcel.form != AS_PICKLE:
            self._heap.write(block, parcel.segments[0], parcel.nbytes)
        else:
            parcel.write(*self._heap.place(block, parcel.nbytes))

    def _publish(self, block: int, parcel: Parcel, sleep: bool) -> None:
        """Put a written block into the queue, if there is room, for its descriptors too."""
        shared = self.words
        tag = _now() if parcel.fds else 0
        if not self._has_room(parcel.nbytes) or (tag and not self._keeper.put(tag, parcel.fds)):
            shared[WAITING_SENDERS] += sleep
            return
        tail = shared[TAIL]
        at = self.slots + tail % self.capacity * SLOT
        LABEL.pack_into(
            self._buf, at, PARCEL, parcel.form, len(parcel.fds), block, parcel.nbytes, tag
        )
        wake = self.before_tail(shared[WAITING_RECEIVERS], 1)
        shared[BYTES] += parcel.nbytes
        shared[TAIL] = tail + 1
        parcel.sent = True  # nothing can interrupt these two
        if wake:
            self.data.ring()

    def _queued(self) -> list[tuple[int, int]]:
        """Return block and size of each parcel in the queue."""
        found: list[tuple[int, int]] = []
        for number in range(self.words[HEAD], self.words[TAIL]):
            at = self.slots + number % self.capacity * SLOT
            if self._buf[at] == PARCEL:
                label = LABEL.unpack_from(self._buf, at)
                found.append((label[3], label[4]))
        return found

    def _queued_blocks(self) -> set[int]:
        return {block for block, _ in self._queued()}


_MOST_RINGS = 4096
_now = time.monotonic_ns  # tags must rise, in all processes: under the lock it does
