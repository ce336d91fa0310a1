"""Receiving: the everyday path first, then waiting."""

from __future__ import annotations

from marshal import loads
from time import monotonic

from parmap._channel.fast import make_get
from parmap._channel.large import Opened
from parmap._channel.layout import FLAGS, HEAD, LEVEL, TAIL, WAITING_RECEIVERS
from parmap._channel.state import GRACE, RECEIVER, State, left_until
from parmap._channel.waiting import PARKED_AFTER, tell_parked, yields
from parmap._memory.intents import IntentMutex
from parmap._memory.patience import within
from parmap._wire.messages import PICKLE
from parmap.errors import ChannelError

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._channel.state import Holder


class Receiving(State):
    """A channel, as those use it who receive."""

    __slots__ = ()

    def _get(self) -> bytes | Opened | None:
        if self._fast_get is None:
            mutex = self._mutex
            if isinstance(mutex, IntentMutex):
                self._fast_get = make_get(self.ring, mutex)
            else:
                self._fast_get = self.ring.get
        return self._fast_get()

    def receive(self, end: Holder, timeout: float | None = None, *, wait: bool = True) -> Any:
        """Take the next item out, through `end`.  `wait`: else `ChannelEmpty` when it is empty."""
        record = (self._fast_get or self._get)() or self._await_message(end, timeout, wait)
        if type(record) is bytes:
            return loads(record) if record[0] != PICKLE else self._messages.decode(record)  # noqa: S302 - from the same user, as a pickle is
        assert isinstance(record, Opened)
        try:
            return record.read(self._messages)
        finally:
            record.close()

    def try_receive(self, end: Holder) -> Any:
        """Take the next item out now, or raise `ChannelEmpty`."""
        try:
            return within(GRACE, self.receive, end, wait=False)
        except TimeoutError as error:
            from parmap.errors import ChannelEmpty

            raise ChannelEmpty(str(error)) from None

    def receive_many(self, end: Holder, limit: int, timeout: float | None = None) -> list[Any]:
        """Wait for one item, and take what is there then, at most `limit` in all.

        An item that cannot be rebuilt must not take those before it along: its error is raised by
        the next call, in this process.
        """
        owed, self._owed = self._owed, None
        if owed is not None:
            raise owed
        items = [self.receive(end, timeout)]
        while len(items) < limit and self.words[HEAD] < self.words[TAIL]:
            records = self.ring.get_many(limit - len(items))
            items += map(loads, records)
            if not records:
                try:  # a large one, or a pickle, or somebody else has it
                    items.append(self.try_receive(end))
                except ChannelError:  # empty, or the end: next time
                    break
                except Exception as error:
                    self._owed = error
                    break
        return items

    def _await_message(self, end: Holder, timeout: float | None, wait: bool) -> bytes | Opened:
        ring, shared = self.ring, self.words
        if not wait:
            return self._take_now()
        deadline = None if timeout is None else monotonic() + timeout
        for give_way in yields():
            give_way()
            if shared[HEAD] != shared[TAIL] and (record := self._get()) is not None:
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
                left = left_until(deadline)
                if left is not None and left <= 0:
                    raise TimeoutError(f"nothing came through the channel within {timeout} seconds")
                if left is None and turn == PARKED_AFTER:
                    tell_parked([self.claim()])
                if waiter.sleep(left, turn):
                    ring.settle_end()  # for the others too: this thread alone was told
                turn += 1
                if not shared[FLAGS] & LEVEL:  # then the byte stays until the queue is empty
                    registered = not self.bells[0].take()
            finally:
                if registered:
                    self._unregister(WAITING_RECEIVERS)

    def _take_now(self) -> bytes | Opened:
        record = self.ring.get()
        if record is None:
            from parmap.errors import ChannelEmpty

            raise ChannelEmpty("nothing is waiting in the channel")
        return record
