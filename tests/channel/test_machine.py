"""A channel in one process against the simplest model of it: a queue, and two sets of ends.

Everything is asked with a timeout of 0, so each rule has one right outcome. Where the contract is
silent (a new receiver after the last one is gone) the machine does not go.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from parmap.channel import Channel, select
from parmap.errors import (
    BrokenChannelError,
    ChannelEmpty,
    ChannelFull,
    ClosedChannelError,
    EndOfChannel,
)

ERRORS = (
    BrokenChannelError, ChannelEmpty, ChannelFull, ClosedChannelError, EndOfChannel, TimeoutError,
)  # fmt: skip
SIZES = [0, 1, 60, 100, 130, 500, 5000, 70_000]


def outcome(fn, *args, **kwargs):
    """What a call returned or raised; no traceback stays to keep an end alive."""
    try:
        return fn(*args, **kwargs)
    except ERRORS as error:
        return type(error)


class ChannelMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 5))
    def begin(self, capacity):
        self.capacity = capacity
        self.channel: Any = Channel(capacity)
        self.senders: list[Any] = []
        self.receivers: list[Any] = []
        # The model.
        self.queue: deque[Any] = deque()
        self.channel_sends = self.channel_receives = self.channel_closed = False
        self.had_sender = self.had_receiver = self.ended = False
        self.number = 0

    @property
    def broken(self) -> bool:
        return self.had_receiver and not self.receivers and not self.channel_receives

    def look(self) -> None:
        """After an end is gone: has the stream ended?  That is final."""
        if self.had_sender and not self.senders and not self.channel_sends:
            self.ended = True

    def pick(self, data, ends):
        return data.draw(st.integers(0, len(ends) - 1))

    # --- ends ---

    @precondition(lambda self: self.ended or not self.channel_closed)
    @rule()
    def make_a_sender(self):
        got = outcome(lambda: self.channel.sender)
        if self.ended:
            assert got is ClosedChannelError
            return
        self.senders.append(got)
        self.had_sender = True

    @precondition(lambda self: not self.broken)
    @rule()
    def make_a_receiver(self):
        self.receivers.append(self.channel.receiver)
        self.had_receiver = True

    @precondition(lambda self: self.senders)
    @rule(data=st.data())
    def clone_a_sender(self, data):
        self.senders.append(self.senders[self.pick(data, self.senders)].clone())

    @precondition(lambda self: self.receivers)
    @rule(data=st.data())
    def clone_a_receiver(self, data):
        self.receivers.append(self.receivers[self.pick(data, self.receivers)].clone())

    @precondition(lambda self: self.senders)
    @rule(data=st.data(), drop=st.booleans())
    def end_a_sender(self, data, drop):
        self.end(self.senders, data, drop)

    @precondition(lambda self: self.receivers)
    @rule(data=st.data(), drop=st.booleans())
    def end_a_receiver(self, data, drop):
        self.end(self.receivers, data, drop)

    def end(self, ends, data, drop):
        end = ends.pop(self.pick(data, ends))
        if not drop:
            end.close()
            end.close()
        del end
        self.look()

    @rule()
    def close_the_channel(self):
        self.channel.close()
        self.channel_closed, self.channel_sends, self.channel_receives = True, False, False
        if not self.senders:
            self.ended = True

    # --- sending ---

    def item(self, size):
        self.number += 1
        return self.number, b"x" * size

    def send_through(self, data):
        """Choose an end, or the channel itself, which counts as a sender from then on."""
        choice = data.draw(st.integers(-1, len(self.senders) - 1))
        if choice >= 0:
            return self.senders[choice]
        if not self.channel_closed and not self.ended:
            self.channel_sends = self.had_sender = True
        return self.channel

    def refusal(self, through):
        """The errors of which one is due, if any."""
        if through is self.channel and (self.channel_closed or self.ended):
            return {ClosedChannelError} | ({BrokenChannelError} if self.broken else set())
        return {BrokenChannelError} if self.broken else set()

    @rule(data=st.data(), size=st.sampled_from(SIZES), patient=st.booleans())
    def send(self, data, size, patient):
        through = self.send_through(data)
        refusal = self.refusal(through)
        item = self.item(size)
        got = outcome(through.send, item, 0) if patient else outcome(through.try_send, item)
        if refusal:
            assert got in refusal
        elif len(self.queue) == self.capacity:
            assert got is (TimeoutError if patient else ChannelFull)
        else:
            assert got is None
            self.queue.append(item)

    @precondition(lambda self: self.senders and not self.broken)
    @rule(data=st.data(), count=st.integers(0, 5), size=st.sampled_from(SIZES))
    def send_many(self, data, count, size):
        through = self.senders[self.pick(data, self.senders)]
        items = [self.item(size) for _ in range(min(count, self.capacity - len(self.queue)))]
        through.send_many(iter(items))
        self.queue.extend(items)

    # --- receiving ---

    @property
    def may_receive(self) -> bool:
        """Whether the channel itself may be asked; it counts as a receiver from then on."""
        return bool(not self.broken and (self.ended or not self.channel_closed))

    def receive_through(self, data):
        least = -1 if self.may_receive else 0
        choice = data.draw(st.integers(least, len(self.receivers) - 1))
        if choice >= 0:
            return self.receivers[choice]
        if not self.channel_closed:
            self.channel_receives = self.had_receiver = True
        return self.channel

    @precondition(lambda self: self.receivers or self.may_receive)
    @rule(data=st.data(), patient=st.booleans())
    def receive(self, data, patient):
        through = self.receive_through(data)
        got = outcome(through.receive, 0) if patient else outcome(through.try_receive)
        if self.queue:
            assert got == self.queue.popleft()
        elif self.ended:
            assert got is EndOfChannel
        else:
            assert got is (TimeoutError if patient else ChannelEmpty)

    @precondition(lambda self: self.receivers and (self.queue or self.ended))
    @rule(data=st.data(), limit=st.integers(1, 6))
    def receive_many(self, data, limit):
        through = self.receivers[self.pick(data, self.receivers)]
        got = outcome(through.receive_many, limit)
        if self.queue:
            expected = [self.queue.popleft() for _ in range(min(limit, len(self.queue)))]
            assert got == expected
        else:
            assert got is EndOfChannel

    @precondition(lambda self: self.receivers and self.ended)
    @rule(data=st.data())
    def iterate(self, data):
        assert list(self.receivers[self.pick(data, self.receivers)]) == list(self.queue)
        self.queue.clear()

    @precondition(lambda self: self.receivers)
    @rule()
    def select(self):
        ready = select(*self.receivers, timeout=0)
        if self.queue or self.ended:
            assert ready == self.receivers
        elif ready:  # probably; but who has looked knows better
            for receiver in ready:
                assert outcome(receiver.try_receive) is ChannelEmpty
            assert select(*self.receivers, timeout=0) == []

    @invariant()
    def never_more_than_capacity(self):
        assert not hasattr(self, "queue") or len(self.queue) <= self.capacity

    def teardown(self):
        if hasattr(self, "channel"):
            for end in (*self.senders, *self.receivers, self.channel):
                end.close()
            del self.channel
            self.senders.clear()
            self.receivers.clear()


TestChannelMachine = ChannelMachine.TestCase
TestChannelMachine.settings = settings(stateful_step_count=40)
