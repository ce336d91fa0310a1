"""Large messages: written into a block of the heap first, then named by a slot of the ring."""

from __future__ import annotations

import time

from parmap._channel.heap import Heap
from parmap._channel.layout import (
    BYTES,
    CAPACITY,
    COUNT,
    HEAD,
    LABEL,
    LEVELLED,
    MOST_BYTES,
    PARCEL,
    SLOT,
    TAIL,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
    WORDS,
    Layout,
)
from parmap._memory.words import words
from parmap._wire.messages import AS_PICKLE

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from parmap._channel.bell import Bell
    from parmap._channel.presence import Presence
    from parmap._memory.intents import IntentMutex
    from parmap._memory.keeper import Keeper
    from parmap._memory.mutex import FileMutex
    from parmap._memory.segment import Segment
    from parmap._wire.messages import Messages, Parcel

    R = TypeVar("R")

# Up to here copying costs less than taking the lock a second time.
_COPY_INSIDE = 1 << 12
# A sender that is so far ahead waits a little for a warm block: to touch new memory costs more than
# the copy, and what does not fit the processor's caches costs both sides more.
_AHEAD, _AHEAD_COUNT = 1 << 21, 8
_LOOKS, _PAUSE = 4, 50e-6
_now = time.monotonic_ns  # tags must rise, in all processes: under the lock it does


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


class Parcels:
    """The part of a `Ring` that deals with large messages, and what all of it stands on."""

    __slots__ = (
        "_abandoned", "_buf", "_enter", "_heap", "_idle_at", "_keeper", "_leave", "_senders",
        "capacity", "data",
        "segment", "slots", "space", "words",
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
        self._idle_at = -1
        self._enter, self._leave, self._abandoned = mutex.enter, mutex.leave, mutex.abandoned
        self.data, self.space = bells
        self._senders = senders

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

    def before_tail(self, word: int, count: int) -> int:
        """Messages are about to be in: return how many receivers to wake."""
        if word & LEVELLED and self.words[TAIL] == self.words[HEAD]:
            self.data.ring()
        wake = min(word & COUNT, count)
        self.words[WAITING_RECEIVERS] = word - wake
        return wake

    def put_parcel(self, parcel: Parcel, *, sleep: bool = False, patient: bool = False) -> bool:
        """Put a large message in; False if there is no room for it.

        `patient`: wait a little for a block that was used before, if there may be one soon.
        """
        block = self._reserve_warm(parcel) if patient and self._is_ahead() else None
        if block is None:
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

    def _is_ahead(self) -> bool:
        """Whether receivers have more to do than keeps them busy."""
        shared = self.words
        if shared[BYTES] < _AHEAD or shared[TAIL] - shared[HEAD] < _AHEAD_COUNT:
            return False
        return shared[HEAD] != self._idle_at

    def _reserve_warm(self, parcel: Parcel) -> int | None:
        """Return a block that was used before, if receivers give one back soon."""
        head = self.words[HEAD]
        for _ in range(_LOOKS):
            block = self.locked(self._reserve, parcel, False, True)
            if block is not None:
                return block
            time.sleep(_PAUSE)
        if self.words[HEAD] == head:
            self._idle_at = head  # nobody receives: not once more before somebody does
        return None

    def _reserve(self, parcel: Parcel, sleep: bool, warm: bool = False) -> int | None:
        """Return a block for the parcel; a small one is sent at once."""
        block: int | None = None
        if self._has_room(parcel.nbytes):
            block = self._heap.allocate(parcel.nbytes, self._queued_blocks, warm=warm)
        if block is None:
            self.words[WAITING_SENDERS] += sleep
        elif parcel.nbytes <= _COPY_INSIDE:
            self._write(block, parcel)
            self._publish(block, parcel, sleep)
        return block

    def open(self, record: bytes, head: int) -> Opened:
        """Take a parcel out; the caller has the lock.

        The block is ours before the message is: no kill can lose it.
        """
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
        if self._abandoned[0]:  # somebody died under the lock: BYTES may be wrong
            shared[BYTES] = sum(size for _, size in self._queued())
            self._abandoned[0] = 0
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
