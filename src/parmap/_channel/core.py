"""One channel as one process has it: send, receive, wait, end.

There is one `Core` per channel and process; whoever refers to it keeps the messages alive.
"""

from __future__ import annotations

import time
from _thread import RLock
from _weakref import ref
from marshal import dumps, loads
from time import monotonic

from parmap._channel.bell import Bell
from parmap._channel.fast import make_get, make_put
from parmap._channel.layout import (
    COUNT,
    ENDED,
    FLAGS,
    HEAD,
    LEVEL,
    LEVELLED,
    MOST_CAPACITY,
    NEWS,
    RECEIVER_EXISTED,
    SENDER_EXISTED,
    SLOT,
    TAIL,
    WAITING_RECEIVERS,
    WAITING_SENDERS,
)
from parmap._channel.messages import PICKLE, SMALL, Messages, Parcel
from parmap._channel.mutex import IntentMutex, mutex_of, prepare, within
from parmap._channel.presence import Presence
from parmap._channel.ring import Opened, Ring
from parmap._channel.waiting import Waiter, give_way, watch, yields
from parmap._memory.keeper import Keeper
from parmap.errors import ChannelError

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn, Protocol

    from parmap._memory.segment import Segment

    class Holder(Protocol):
        """An end, as far as waiting on it goes: below 0, it was closed."""

        fd: int

        def refuse(self) -> NoReturn: ...


SENDER, RECEIVER = 0, 1
_LOOK_EVERY = 5e-6
_GRACE = 1.0  # a try waits so long for somebody who was stopped in the middle of something
_CHUNK = 256  # so many messages of a batch are encoded before any is sent


class Core:
    """Made by `create`, or found by `core_of`.  Thread-safe; goes on working in a forked child."""

    __slots__ = (
        "__weakref__", "_fast_get", "_fast_put", "_keeper", "_look_again", "_messages", "_mutex", "_news", "_poll",
        "_waiters", "bells", "neutral", "presences", "ring", "segment", "words",
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
        self._mutex = mutex_of(segment)
        self.ring = Ring(segment, self._mutex, keeper, bells, presences[SENDER])
        self.words = self.ring.words
        self._messages = Messages()
        # A sender waits for room, or for the last receiver to go; a receiver the other way round.
        self._waiters = (Waiter(bells[1], presences[RECEIVER]), Waiter(bells[0], presences[SENDER]))
        self._poll: select.epoll | None = None
        self._look_again = 0.0
        self._news = 0
        self._fast_put: Callable[[bytes], bool] | None = None
        self._fast_get: Callable[[], bytes | Opened | None] | None = None
        self.neutral: Callable[[], Any] | None = None  # a weak reference, owned by `local`

    @classmethod
    def create(cls, capacity: int) -> Core:
        """Return a new channel."""
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise TypeError(f"capacity must be an int, not {type(capacity).__name__}")
        if not 1 <= capacity <= MOST_CAPACITY:
            raise ValueError(f"capacity must be between 1 and {MOST_CAPACITY}, not {capacity}")
        segment = Ring.new_segment(capacity)
        prepare(segment)
        parts = (Bell.create(), Bell.create()), (Presence.create(), Presence.create())
        return _register(cls(segment, *parts, Keeper.create()))

    # ------------------------------------------------------------------ ends

    def join(self, role: int) -> int:
        """Return a descriptor that counts as an end of that side while it is open."""
        return self.ring.locked(self._join, role)

    def _join(self, role: int) -> int:
        if role == SENDER and self.ring.settle_end_locked():
            from parmap.errors import ClosedChannelError

            raise ClosedChannelError("the stream ended before this sender arrived")
        fd = self.presences[role].join()
        self.words[FLAGS] |= SENDER_EXISTED if role == SENDER else RECEIVER_EXISTED
        return fd

    def is_broken(self) -> bool:
        """Whether there were receivers, and all are gone."""
        return bool(self.words[FLAGS] & RECEIVER_EXISTED) and not self.presences[RECEIVER].anyone()

    # ------------------------------------------------------------------ sending

    def _put(self, message: bytes) -> bool:
        """Send the first small message of this process, and make what sends the others."""
        if self._fast_put is None:
            mutex = self._mutex
            if isinstance(mutex, IntentMutex):
                self._fast_put = make_put(self.ring, mutex)
            else:
                self._fast_put = self.ring.put
        return self._fast_put(message)

    def _get(self) -> bytes | Opened | None:
        if self._fast_get is None:
            mutex = self._mutex
            if isinstance(mutex, IntentMutex):
                self._fast_get = make_get(self.ring, mutex)
            else:
                self._fast_get = self.ring.get
        return self._fast_get()

    def send(
        self, end: Holder, item: object, timeout: float | None = None, *, wait: bool = True
    ) -> None:
        """Put `item` into the queue, through `end`.  `wait`: else `ChannelFull` when it is full."""
        now = monotonic()
        if now >= self._look_again or self.words[NEWS] != self._news:
            self._look_for_receivers(item, now)
        if type(item) in SMALL and len(message := dumps(item)) <= SLOT:  # type: ignore[arg-type]
            if not (self._fast_put or self._put)(message):
                self._send_later(end, item, message, timeout, wait)
            return
        self._send_large(end, item, timeout, wait)

    def try_send(self, end: Holder, item: object) -> None:
        """Put `item` into the queue now, or raise `ChannelFull`."""
        try:
            within(_GRACE, self.send, end, item, wait=False)
        except TimeoutError as error:
            from parmap.errors import ChannelFull

            raise ChannelFull(str(error)) from None

    def _send_large(self, end: Holder, item: object, timeout: float | None, wait: bool) -> None:
        message = self._messages.encode(item)
        if type(message) is bytes:
            if not self._put(message):
                self._send_later(end, item, message, timeout, wait)
            return
        assert isinstance(message, Parcel)
        parcel = message

        def put(*, sleep: bool) -> bool:
            return self.ring.put_parcel(parcel, sleep=sleep)

        try:
            if not put(sleep=False):
                self._await_room(end, put, item, timeout, wait)
        finally:
            parcel.close()

    def _send_later(
        self, end: Holder, item: object, message: bytes, timeout: float | None, wait: bool
    ) -> None:
        def put(*, sleep: bool) -> bool:
            return self.ring.put(message, sleep=sleep)

        self._await_room(end, put, item, timeout, wait)

    def _look_for_receivers(self, item: object, now: float) -> None:
        """Raise `BrokenChannelError` if there were receivers, and all are gone.

        Not at each send: it costs half as much as one.  Who closes an end leaves news in shared
        memory, so that only a death can be overlooked, for as long as `_LOOK_EVERY`: less than
        the system needs to tell anybody of a death.
        """
        self._news = self.words[NEWS]
        if self.is_broken():
            self._break(item)
        self._look_again = now + _LOOK_EVERY

    def send_many(self, end: Holder, items: Iterable[object], timeout: float | None = None) -> None:
        """Send each of `items`, many at a time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        chunk: list[object] = []
        for item in items:
            chunk.append(item)
            if len(chunk) == _CHUNK:
                self._send_chunk(end, chunk, deadline)
                chunk = []
        self._send_chunk(end, chunk, deadline)

    def _send_chunk(self, end: Holder, items: list[object], deadline: float | None) -> None:
        if not items:
            return
        encode = self._messages.encode
        records: list[bytes] = []
        for place, item in enumerate(items):
            try:
                message = encode(item)
            except BaseException:
                self._send_records(end, records, items, place - len(records), deadline)
                raise
            if type(message) is bytes:
                records.append(message)
                continue
            assert isinstance(message, Parcel)
            message.close()
            self._send_records(end, records, items, place - len(records), deadline)
            records = []
            self.send(end, item, _left(deadline))
        self._send_records(end, records, items, len(items) - len(records), deadline)

    def _send_records(
        self,
        end: Holder,
        records: list[bytes],
        items: list[object],
        first: int,
        deadline: float | None,
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

        def some(*, sleep: bool) -> bool:
            before = done
            return more(sleep=sleep) or done > before

        if not records:
            return
        if self.is_broken():
            self._break(items[first])
        while not more(sleep=False):
            self._await_room(end, some, items[first + done], _left(deadline), True)

    def _await_room(
        self,
        end: Holder,
        put: Callable[..., bool],
        item: object,
        timeout: float | None,
        wait: bool,
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
            if end.fd < 0:
                end.refuse()  # another thread has closed it
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
        self._ring_all(self.bells[1], self.words[WAITING_SENDERS] & COUNT)

    def closed(self, role: int) -> None:
        """An end of this process has closed: tell those who wait on it, and those who would look.

        Takes no lock: a finaliser may call it anywhere.
        """
        if role == RECEIVER:
            self.words[NEWS] = time.monotonic_ns()
        if self._waiters[role].asleep:
            word = WAITING_SENDERS if role == SENDER else WAITING_RECEIVERS
            self._ring_all(self.bells[1 - role], self.words[word] & COUNT)

    def _ring_all(self, bell: Bell, sleepers: int) -> None:
        for _ in range(min(sleepers, 4096)):
            bell.ring()

    def _unregister(self, word: int) -> None:
        self.ring.locked(self._count_down, word)

    def _count_down(self, word: int) -> None:
        if self.words[word] & COUNT:
            self.words[word] -= 1

    # ------------------------------------------------------------------ receiving

    def receive(self, end: Holder, timeout: float | None = None, *, wait: bool = True) -> Any:
        """Take the next item out, through `end`.  `wait`: else `ChannelEmpty` when it is empty."""
        record = (
            (self._fast_get or self._get)()
            or self.ring.get()
            or self._await_message(end, timeout, wait)
        )
        if type(record) is bytes:
            return loads(record) if record[0] != PICKLE else self._messages.decode(record)
        assert isinstance(record, Opened)
        try:
            return record.read(self._messages)
        finally:
            record.close()

    def try_receive(self, end: Holder) -> Any:
        """Take the next item out now, or raise `ChannelEmpty`."""
        try:
            return within(_GRACE, self.receive, end, wait=False)
        except TimeoutError as error:
            from parmap.errors import ChannelEmpty

            raise ChannelEmpty(str(error)) from None

    def receive_many(self, end: Holder, limit: int, timeout: float | None = None) -> list[Any]:
        """Wait for one item, and take what is there then, at most `limit` in all."""
        items = [self.receive(end, timeout)]
        decode = self._messages.decode
        while len(items) < limit and self.words[HEAD] < self.words[TAIL]:
            records = self.ring.get_many(limit - len(items))
            items += map(decode, records)
            if not records:
                try:  # a large one, or somebody else has it
                    items.append(self.try_receive(end))
                except ChannelError:  # empty, or the end: next time
                    break
        return items

    def _await_message(self, end: Holder, timeout: float | None, wait: bool) -> bytes | Opened:
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
            if end.fd < 0:
                end.refuse()
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
            self.ring.locked(self._keep_level)
            self._poll = watch(self.bells[0], self.presences[SENDER])
            self.ring.settle_end()
        return self.bells[0].fileno() if self._poll is None else self._poll.fileno()

    def _keep_level(self) -> None:
        self.words[FLAGS] |= LEVEL
        self.words[WAITING_RECEIVERS] |= LEVELLED
        self.words[WAITING_SENDERS] |= LEVELLED
        if len(self.ring):
            self.bells[0].ring()

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
        self._fast_put = self._fast_get = None
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
