"""Sending: the everyday path first, then all that may have to be waited for."""

from __future__ import annotations

from itertools import islice
from marshal import dumps
from time import monotonic

from parmap._channel.fast import make_put
from parmap._channel.layout import COUNT, NEWS, SLOT, WAITING_SENDERS
from parmap._channel.state import GRACE, SENDER, State, left_until
from parmap._channel.waiting import yields
from parmap._memory.intents import IntentMutex
from parmap._memory.patience import within
from parmap._wire.messages import SMALL, Parcel

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from parmap._channel.state import Holder

# Less than the system needs to tell anybody of a death.
_LOOK_EVERY = 5e-6
_CHUNK = 256  # so many messages of a batch are encoded before any is sent,
_PROMPT = 1e-3  # if they come within so many seconds


class Sending(State):
    """A channel, as those use it who send."""

    __slots__ = ()

    def _put(self, message: bytes) -> bool:
        """Send the first small message of this process, and make what sends the others."""
        if self._fast_put is None:
            mutex = self._mutex
            if isinstance(mutex, IntentMutex):
                self._fast_put = make_put(self.ring, mutex)
            else:
                self._fast_put = self.ring.put
        return self._fast_put(message)

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
            within(GRACE, self.send, end, item, wait=False)
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
            if not self.ring.put_parcel(parcel, patient=wait):
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
        """Send each of `items`, many at a time; of those that are slow to come, each at once."""
        deadline = None if timeout is None else monotonic() + timeout
        source, size = iter(items), _CHUNK if isinstance(items, list | tuple | range) else 1
        more = True
        while more:
            chunk: list[object] = []
            began = monotonic()
            try:
                chunk.extend(islice(source, size))
            except Exception:  # of the source: what it gave before is sent
                self._send_chunk(end, chunk, deadline)
                raise
            more = len(chunk) == size
            size = min(2 * size, _CHUNK) if monotonic() - began < _PROMPT else 1
            self._send_chunk(end, chunk, deadline)

    def _send_chunk(self, end: Holder, items: list[object], deadline: float | None) -> None:
        if not items:
            return
        records: list[bytes] = []
        if SMALL.issuperset(map(type, items)):
            records = list(map(dumps, items))  # type: ignore[arg-type]  # plain numbers
            if max(map(len, records)) <= SLOT:
                self._send_records(end, records, items, 0, deadline)
                return
            records = []
        encode = self._messages.encode
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
            self.send(end, item, left_until(deadline))
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
            self._await_room(end, some, items[first + done], left_until(deadline), True)

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
        deadline = None if timeout is None else monotonic() + timeout
        for give_way in yields():
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
                left = left_until(deadline)
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
