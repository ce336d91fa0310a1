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
    ENDED,
    FLAGS,
    HEAD,
    HEAP_END,
    LEVEL,
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
from parmap._channel.messages import LABEL, PARCEL, Parcel
from parmap._memory.segment import Segment
from parmap._memory.words import words

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._channel.bell import Bell
    from parmap._channel.mutex import FileMutex
    from parmap._channel.presence import Presence
    from parmap._memory.keeper import Keeper

# Up to here copying costs less than taking the lock a second time.
_COPY_INSIDE = 1 << 16


class Opened:
    """A parcel that was taken out: its bytes, until `close`.  Owns its descriptors."""

    __slots__ = ("_block", "_heap", "data", "fds", "form")

    def __init__(self, heap: Heap, form: int, block: int, nbytes: int, fds: Sequence[int]) -> None:
        self._heap = heap
        self._block = block
        self.form = form
        self.fds = fds
        self.data = heap.view(block, nbytes)

    def close(self) -> None:
        """Its memory may be used for another message."""
        self.data.release()
        self._heap.release(self._block)


class Ring:
    """One channel's queue as this process sees it.  Thread-safe; never waits but for the lock."""

    __slots__ = (
        "_buf", "_data", "_enter", "_heap", "_keeper", "_leave", "_senders", "_slots", "_space",
        "capacity", "segment", "words",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        mutex: FileMutex,
        keeper: Keeper,
        bells: tuple[Bell, Bell],
        senders: Presence,
    ) -> None:
        """`bells`: the one that tells receivers of messages, and the one that tells of room."""
        self.segment = segment
        self.words = words(segment, 0, WORDS)
        self.capacity = self.words[CAPACITY]
        layout = Layout(self.capacity)
        self._slots = layout.slots
        self._buf = segment.buf
        self._heap = Heap(segment, layout, self._queued_blocks)
        self._keeper = keeper
        self._enter, self._leave = mutex.enter, mutex.leave
        self._data, self._space = bells
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
                if sleep:
                    shared[WAITING_SENDERS] += 1
                return False
            at = self._slots + tail % self.capacity * SLOT
            self._buf[at : at + len(record)] = record
            if shared[FLAGS] & LEVEL and tail == shared[HEAD]:
                self._data.ring()
            shared[TAIL] = tail + 1
            wake = shared[WAITING_RECEIVERS]
            if wake:
                shared[WAITING_RECEIVERS] = wake - 1
        finally:
            self._leave()
        if wake:
            self._data.ring()
        return True

    def put_many(self, records: Sequence[bytes], *, sleep: bool = False) -> int:
        """Put in as many small messages as there is room for; return how many."""
        shared, slots, capacity = self.words, self._slots, self.capacity
        wake = 0
        try:
            self._enter()
            tail = shared[TAIL]
            count = min(len(records), capacity - tail + shared[HEAD])
            if count <= 0:
                if sleep:
                    shared[WAITING_SENDERS] += 1
                return 0
            number = tail
            for record in records[:count] if count < len(records) else records:
                at = slots + number % capacity * SLOT
                self._buf[at : at + len(record)] = record
                number += 1
            if shared[FLAGS] & LEVEL and tail == shared[HEAD]:
                self._data.ring()
            shared[TAIL] = number
            wake = min(shared[WAITING_RECEIVERS], count)
            if wake:
                shared[WAITING_RECEIVERS] -= wake
        finally:
            self._leave()
        for _ in range(wake):
            self._data.ring()
        return count

    def put_parcel(self, parcel: Parcel, *, sleep: bool = False) -> bool:
        """Put a large message in; False if there is no room for it."""
        block = None
        try:
            with _Held(self):
                if self._has_room(parcel.nbytes):
                    block = self._heap.allocate(parcel.nbytes)
                if block is None:
                    self.words[WAITING_SENDERS] += sleep
                elif parcel.nbytes <= _COPY_INSIDE:
                    self._write(block, parcel)
                    self._publish(block, parcel, sleep)
            if block is not None and parcel.nbytes > _COPY_INSIDE:
                self._write(block, parcel)
                with _Held(self):  # others may have been faster: then wait with empty hands
                    self._publish(block, parcel, sleep)
            return parcel.sent
        finally:
            if block is not None and not parcel.sent:
                self._heap.release(block)

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
            at = self._slots + head % self.capacity * SLOT
            record: bytes = self._buf[at : at + SLOT]
            if record[0] == PARCEL:
                opened = self._open(record, head)
            else:
                shared[HEAD] = head + 1
            if shared[FLAGS] & (LEVEL | ENDED) == LEVEL and head + 1 == shared[TAIL]:
                self._data.silence()
            wake = shared[WAITING_SENDERS]
            if wake:
                shared[WAITING_SENDERS] = wake - 1
        finally:
            self._leave()
        if wake:
            self._space.ring()
        return record if opened is None else opened

    def get_many(self, limit: int) -> list[bytes]:
        """Take out what is there at once of small messages, at most `limit`."""
        shared, slots, capacity, buf = self.words, self._slots, self.capacity, self._buf
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
            if shared[FLAGS] & (LEVEL | ENDED) == LEVEL and number == shared[TAIL]:
                self._data.silence()
            wake = min(shared[WAITING_SENDERS], number - head)
            if wake:
                shared[WAITING_SENDERS] -= wake
        finally:
            self._leave()
        for _ in range(wake):
            self._space.ring()
        return records

    def settle_end(self) -> bool:
        """Whether the stream has ended; if nobody is left who could send, it does so now."""
        if self.words[FLAGS] & ENDED:
            return True
        with _Held(self):
            return self._settle_end(SENDER_EXISTED)

    def end_if_alone(self) -> bool:
        """End the stream if there is no sender, even if there never was one."""
        with _Held(self):
            return self._settle_end(0)

    def held(self) -> _Held:
        """``with ring.held():`` nobody else changes anything."""
        return _Held(self)

    def _settle_end(self, needed: int) -> bool:
        shared = self.words
        flags = shared[FLAGS]
        if flags & ENDED:
            return True
        if flags & needed != needed or self._senders.anyone():
            return False
        shared[FLAGS] = flags | ENDED
        # For good: those who sleep, and those who poll for themselves.
        for _ in range(min(shared[WAITING_RECEIVERS], _MOST_RINGS) + 1):
            self._data.ring()
        shared[WAITING_RECEIVERS] = 0
        return True

    def _found_empty(self, sleep: bool) -> None:
        if self._settle_end(SENDER_EXISTED):
            from parmap.errors import EndOfChannel

            raise EndOfChannel("every sender of this channel is gone, and nothing is left")
        if self.words[FLAGS] & LEVEL:
            self._data.silence()  # somebody was killed before he could do it
        if sleep:
            self.words[WAITING_RECEIVERS] += 1

    def _open(self, record: bytes, head: int) -> Opened:
        """Take a parcel out.  The block is ours before the message is: no kill can lose it."""
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
        with self._heap.view(block, parcel.nbytes) as target:
            parcel.write(target)

    def _publish(self, block: int, parcel: Parcel, sleep: bool) -> None:
        """Put a written block into the queue, if there is room, for its descriptors too."""
        shared = self.words
        tag = _now() if parcel.fds else 0
        if not self._has_room(parcel.nbytes) or (tag and not self._keeper.put(tag, parcel.fds)):
            shared[WAITING_SENDERS] += sleep
            return
        tail = shared[TAIL]
        at = self._slots + tail % self.capacity * SLOT
        LABEL.pack_into(
            self._buf, at, PARCEL, parcel.form, len(parcel.fds), block, parcel.nbytes, tag
        )
        if shared[FLAGS] & LEVEL and tail == shared[HEAD]:
            self._data.ring()
        shared[BYTES] += parcel.nbytes
        shared[TAIL] = tail + 1
        parcel.sent = True  # nothing can interrupt these two
        if shared[WAITING_RECEIVERS]:
            shared[WAITING_RECEIVERS] -= 1
            self._data.ring()

    def _queued(self) -> list[tuple[int, int]]:
        """Return block and size of each parcel in the queue."""
        found: list[tuple[int, int]] = []
        for number in range(self.words[HEAD], self.words[TAIL]):
            at = self._slots + number % self.capacity * SLOT
            if self._buf[at] == PARCEL:
                label = LABEL.unpack_from(self._buf, at)
                found.append((label[3], label[4]))
        return found

    def _queued_blocks(self) -> set[int]:
        return {block for block, _ in self._queued()}


_MOST_RINGS = 4096
_now = time.monotonic_ns  # tags must rise, in all processes: under the lock it does


class _Held:
    """``with``: the lock of a ring."""

    __slots__ = ("_ring",)

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def __enter__(self) -> None:
        ring = self._ring
        try:
            ring._enter()  # noqa: SLF001 - same module
        except BaseException:
            ring._leave()  # noqa: SLF001
            raise

    def __exit__(self, *raised: object) -> None:
        self._ring._leave()  # noqa: SLF001
