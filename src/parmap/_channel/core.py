"""One channel as one process has it: send, receive, wait, end.

There is one `Core` per channel and process; whoever refers to it keeps the messages alive.
"""

from __future__ import annotations

import time
from _thread import RLock
from _weakref import ref

from parmap._channel.bell import Bell
from parmap._channel.layout import (
    ENDED,
    FLAGS,
    HEAD,
    LEVEL,
    MOST_CAPACITY,
    RECEIVER_EXISTED,
    SENDER_EXISTED,
    TAIL,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
)
from parmap._channel.messages import Messages, Parcel
from parmap._channel.mutex import FileMutex
from parmap._channel.presence import Presence
from parmap._channel.ring import Opened, Ring
from parmap._channel.waiting import Waiter, give_way, watch, yields
from parmap._memory.keeper import Keeper

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Iterable
    from typing import Any

    from parmap._memory.segment import Segment

SENDER, RECEIVER = 0, 1
_CHUNK = 256  # so many messages of a batch are encoded before any is sent


class Core:
    """Made by `create`, or found by `core_of`.  Thread-safe; goes on working in a forked child."""

    __slots__ = (
        "__weakref__", "_keeper", "_messages", "_mutex", "_poll", "_waiters", "bells", "neutral",
        "presences", "ring", "segment", "words",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        bells: tuple[Bell, Bell],
        presences: tuple[Presence, Presence],
        keeper: Keeper,
    ) -> None:
        """Internal: there is only one for a segment."""
        self.segment = segment
        self.bells = bells
        self.presences = presences
        self._keeper = keeper
        self._mutex = FileMutex(segment)
        self.ring = Ring(segment, self._mutex, keeper, bells, presences[SENDER])
        self.words = self.ring.words
        self._messages = Messages()
        # A sender waits for room, or for the last receiver to go; a receiver the other way round.
        self._waiters = (Waiter(bells[1], presences[RECEIVER]), Waiter(bells[0], presences[SENDER]))
        self._poll: select.epoll | None = None
        self.neutral: Callable[[], Any] | None = None  # a weak reference, owned by `local`

    @classmethod
    def create(cls, capacity: int) -> Core:
        """Return a new channel."""
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise TypeError(f"capacity must be an int, not {type(capacity).__name__}")
        if not 1 <= capacity <= MOST_CAPACITY:
            raise ValueError(f"capacity must be between 1 and {MOST_CAPACITY}, not {capacity}")
        segment = Ring.new_segment(capacity)
        parts = (Bell.create(), Bell.create()), (Presence.create(), Presence.create())
        return _register(cls(segment, *parts, Keeper.create()))

    # ------------------------------------------------------------------ ends

    def join(self, role: int) -> int:
        """Return a descriptor that counts as an end of that side while it is open."""
        with self.ring.held():
            flags = self.words[FLAGS]
            if role == SENDER:
                gone = flags & SENDER_EXISTED and not self.presences[SENDER].anyone()
                if flags & ENDED or gone:
                    from parmap.errors import ClosedChannelError

                    raise ClosedChannelError("the stream ended before this sender arrived")
            fd = self.presences[role].join()
            self.words[FLAGS] = flags | (SENDER_EXISTED if role == SENDER else RECEIVER_EXISTED)
            return fd

    def is_broken(self) -> bool:
        """Whether there were receivers, and all are gone."""
        return bool(self.words[FLAGS] & RECEIVER_EXISTED) and not self.presences[RECEIVER].anyone()

    # ------------------------------------------------------------------ sending

    def send(self, item: object, timeout: float | None = None, *, wait: bool = True) -> None:
        """Put `item` into the queue.  `wait`: else `ChannelFull` when there is no room."""
        if self.is_broken():
            self._break(item)
        message = self._messages.encode(item)
        if type(message) is bytes:
            if not self.ring.put(message):
                self._await_room(lambda *, sleep: self.ring.put(message, sleep=sleep), item, timeout, wait)
            return
        assert isinstance(message, Parcel)
        parcel = message
        try:
            if not self.ring.put_parcel(parcel):
                self._await_room(
                    lambda *, sleep: self.ring.put_parcel(parcel, sleep=sleep), item, timeout, wait
                )
        finally:
            parcel.close()

    def send_many(self, items: Iterable[object], timeout: float | None = None) -> None:
        """Send each of `items`, many at a time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        chunk: list[object] = []
        for item in items:
            chunk.append(item)
            if len(chunk) == _CHUNK:
                self._send_chunk(chunk, deadline)
                chunk = []
        self._send_chunk(chunk, deadline)

    def _send_chunk(self, items: list[object], deadline: float | None) -> None:
        if not items:
            return
        encode = self._messages.encode
        records: list[bytes] = []
        for place, item in enumerate(items):
            try:
                message = encode(item)
            except BaseException:
                self._send_records(records, items, place - len(records), deadline)
                raise
            if type(message) is bytes:
                records.append(message)
                continue
            assert isinstance(message, Parcel)
            message.close()
            self._send_records(records, items, place - len(records), deadline)
            records = []
            self.send(item, _left(deadline))
        self._send_records(records, items, len(items) - len(records), deadline)

    def _send_records(
        self, records: list[bytes], items: list[object], first: int, deadline: float | None
    ) -> None:
        done = 0

        def more(*, sleep: bool) -> bool:
            nonlocal done
            while done < len(records):
                count = self.ring.put_many(records[done:] if done else records, sleep=sleep)
                if not count:
                    return False
                done += count
            return True

        if not records:
            return
        if self.is_broken():
            self._break(items[first])
        while not more(sleep=False):
            before = done
            self._await_room(
                lambda *, sleep: more(sleep=sleep) or done > before,
                items[first + done],
                _left(deadline),
                True,
            )

    def _await_room(
        self, put: Callable[..., bool], item: object, timeout: float | None, wait: bool
    ) -> None:
        """Wait until `put` succeeds."""
        if not wait:
            from parmap.errors import ChannelFull

            raise ChannelFull(f"the channel holds all it can: {len(self.ring)} items")
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in yields():
            give_way()
            if len(self.ring) < self.ring.capacity and put(sleep=False):
                return
        waiter, turn = self._waiters[SENDER], 0
        waiter.prepare()
        while True:
            registered = False
            if self.is_broken():
                self._ring_all_senders()
                self._break(item)
            if self.words[FLAGS] & ENDED:
                from parmap.errors import ClosedChannelError

                raise ClosedChannelError("another thread has closed this end meanwhile")
            try:
                if put(sleep=True):
                    return
                registered = True
                left = _left(deadline)
                if left is not None and left <= 0:
                    raise TimeoutError(f"no room in the channel within {timeout} seconds")
                waiter.sleep(left, turn)
                turn += 1
                registered = not self.bells[1].take()
            finally:
                if registered:
                    self._unregister(WAITING_SENDERS)

    def _break(self, item: object) -> None:
        from parmap.errors import BrokenChannelError

        raise BrokenChannelError(item=item)

    def _ring_all_senders(self) -> None:
        for _ in range(min(self.words[WAITING_SENDERS], 4096)):
            self.bells[1].ring()

    def _unregister(self, word: int) -> None:
        with self.ring.held():
            self.words[word] = max(0, self.words[word] - 1)

    # ------------------------------------------------------------------ receiving

    def receive(self, timeout: float | None = None, *, wait: bool = True) -> Any:
        """Take the next item out.  `wait`: else `ChannelEmpty` when there is none."""
        record = self.ring.get()
        if record is None:
            record = self._await_message(timeout, wait)
        if type(record) is bytes:
            return self._messages.decode(record)
        assert isinstance(record, Opened)
        try:
            return self._messages.decode_parcel(record.form, record.data, record.fds)
        finally:
            record.close()

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Any]:
        """Wait for one item, and take what is there then, at most `limit` in all."""
        items = [self.receive(timeout)]
        decode = self._messages.decode
        while len(items) < limit and self.words[HEAD] < self.words[TAIL]:
            records = self.ring.get_many(limit - len(items))
            items += map(decode, records)
            if not records:
                try:  # a large one, or somebody else has it
                    items.append(self.receive(wait=False))
                except (EOFError, LookupError):
                    break
        return items

    def _await_message(self, timeout: float | None, wait: bool) -> bytes | Opened:
        if not wait:
            from parmap.errors import ChannelEmpty

            raise ChannelEmpty("nothing is waiting in the channel")
        deadline = None if timeout is None else time.monotonic() + timeout
        ring, shared = self.ring, self.words
        for _ in yields():
            give_way()
            if shared[HEAD] != shared[TAIL] and (record := ring.get()) is not None:
                return record
        waiter, turn = self._waiters[RECEIVER], 0
        waiter.prepare()
        while True:
            registered = False
            try:
                record = ring.get(sleep=True)
                if record is not None:
                    return record
                registered = True
                left = _left(deadline)
                if left is not None and left <= 0:
                    raise TimeoutError(f"nothing came through the channel within {timeout} seconds")
                if waiter.sleep(left, turn):
                    ring.settle_end()  # for the others too: this thread alone was told
                turn += 1
                if not shared[FLAGS] & LEVEL:  # then the byte stays until the queue is empty
                    registered = not self.bells[0].take()
            finally:
                if registered:
                    self._unregister(WAITING_RECEIVERS)

    # ------------------------------------------------------------------ being polled

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to receive, or the end."""
        if self._poll is None:
            with self.ring.held():
                self.words[FLAGS] |= LEVEL
                if len(self.ring):
                    self.bells[0].ring()
            self._poll = watch(self.bells[0], self.presences[SENDER])
            self.ring.settle_end()
        return self.bells[0].fileno() if self._poll is None else self._poll.fileno()

    @property
    def polls_blindly(self) -> bool:
        """Whether `fileno` cannot tell of the end."""
        return self._poll is None

    @property
    def has_ended(self) -> bool:
        """Whether the end of the stream has been noted."""
        return bool(self.words[FLAGS] & ENDED)

    def is_ready(self) -> bool:
        """Whether there is something to receive, or the end, at this moment."""
        return bool(len(self.ring)) or self.ring.settle_end()

    def tickets(self) -> tuple[object, ...]:
        """Return what `core_of` makes it from in another process."""
        return (
            self.segment,
            tuple([bell.tickets() for bell in self.bells]),
            tuple([presence.ticket() for presence in self.presences]),
            self._keeper,
        )

    def renew(self) -> None:
        """In a forked child: what must not be shared with the parent."""
        self._mutex.renew()
        for waiter in self._waiters:
            waiter.close()
        if self._poll is not None:
            self._poll.close()
            self._poll = None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


# This process's channels by the identity of their memory.
_cores: dict[tuple[int, int], ref[Core]] = {}
_cores_lock = RLock()


def _register(core: Core) -> Core:
    key = core.segment.key
    _cores[key] = ref(core, lambda gone: _forget(key, gone))
    return core


def _forget(key: tuple[int, int], gone: ref[Core]) -> None:
    if _cores.get(key) is gone:
        del _cores[key]


def core_of(
    segment: Segment, bells: tuple[Any, Any], presences: tuple[Any, Any], keeper: Keeper
) -> Core:
    """Unpickle a channel: the one that is here already, if it is."""
    arrived = (
        (Bell.arrive(bells[0]), Bell.arrive(bells[1])),
        (Presence.arrive(presences[0]), Presence.arrive(presences[1])),
    )
    with _cores_lock:
        weak = _cores.get(segment.key)
        core = None if weak is None else weak()
        return _register(Core(segment, *arrived, keeper)) if core is None else core


def live_cores() -> list[Core]:
    """Return this process's channels."""
    return [core for weak in list(_cores.values()) if (core := weak()) is not None]


def renew_lock() -> None:
    """In a forked child: the thread that held it may not exist here."""
    global _cores_lock
    _cores_lock = RLock()
