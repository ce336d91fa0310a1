"""For any interleaving of sends, receives, closes and deaths, what is received is a merge of what
was sent: in order for each sender, at most once, and nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parmap.channel import Channel, select
from parmap.errors import BrokenChannelError, ChannelEmpty, ChannelFull, EndOfChannel
from support.channel_peers import Child, Running
from support.gates import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = [0, 10, 115, 128, 300, 5000, 80_000]


class Sending(NamedTuple):
    """What one sender does: runs of items, each in one way, of one size; then its end."""

    runs: list[tuple[str, int, int]]
    ending: str

    @property
    def count(self) -> int:
        return sum(count for _, count, _ in self.runs)


class Receiving(NamedTuple):
    way: str
    limit: int | None  # then it ends; None: to the end of the stream
    ending: str


def sendings(endings: list[str]) -> st.SearchStrategy[list[Sending]]:
    run = st.tuples(
        st.sampled_from(["send", "try_send", "send_many"]),
        st.integers(0, 12),
        st.sampled_from(SIZES),
    )
    one = st.builds(Sending, st.lists(run, max_size=4), st.sampled_from(endings))
    return st.lists(one, min_size=1, max_size=4)


def receivings(endings: list[str], *, quitters: bool) -> st.SearchStrategy[list[Receiving]]:
    limits: Any = st.none() | st.integers(0, 15) if quitters else st.none()
    ways = ["receive", "try_receive", "receive_many", "iterate", "select"]
    one = st.builds(Receiving, st.sampled_from(ways), limits, st.sampled_from(endings))
    return st.lists(one, min_size=1, max_size=4)


class Sent(NamedTuple):
    """One message; its size tells a torn one."""

    who: int
    number: int
    load: bytes


def load(who: int, number: int, size: int) -> bytes:
    return bytes([(who * 31 + number) % 256]) * size


def send_run(who: int, sender: Any, plan: Sending, done: Callable[[int], object]) -> None:
    """Send what is planned, and call `done` with the number of each item that was sent."""
    number = 0
    for way, count, size in plan.runs:
        items = [Sent(who, n, load(who, n, size)) for n in range(number, number + count)]
        number += count
        if way == "send_many":
            sender.send_many(items)
            for item in items:
                done(item.number)
            continue
        for item in items:
            try:
                if way == "send":
                    sender.send(item, timeout=PATIENCE)
                else:
                    sender.try_send(item)
            except ChannelFull:
                sender.send(item, timeout=PATIENCE)
            done(item.number)


def receive_run(receiver: Any, way: str) -> Iterator[Sent]:
    """Receive to the end of the stream, in this way."""
    if way == "iterate":
        yield from receiver
        return
    while True:
        try:
            if way == "receive":
                yield receiver.receive(timeout=PATIENCE)
            elif way == "receive_many":
                yield from receiver.receive_many(1)
            else:
                if way == "select":
                    assert select(receiver, timeout=PATIENCE) == [receiver], "not woken"
                yield receiver.try_receive()
        except ChannelEmpty:
            if way == "try_receive":
                select(receiver, timeout=0.001)
        except EndOfChannel:
            return


def check_merge(sent: list[int], logs: list[list[Sent]], *, complete: bool) -> None:
    """`sent`: how many of its items each sender has sent (in order, from 0)."""
    got = [item for log in logs for item in log]
    names = [(item.who, item.number) for item in got]
    assert len(names) == len(set(names)), "an item came twice"
    for log in logs:
        for who in range(len(sent)):
            numbers = [item.number for item in log if item.who == who]
            assert numbers == sorted(numbers), "a sender's items came out of order"
    for item in got:
        assert item.load == load(item.who, item.number, len(item.load)), "torn"
    if complete:
        assert sorted(names) == [(w, n) for w, count in enumerate(sent) for n in range(count)]


@pytest.fixture(autouse=True)
def _eager_switching():
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    yield
    sys.setswitchinterval(before)


@given(
    capacity=st.integers(1, 6),
    senders=sendings(["close", "with", "drop"]),
    receivers=receivings(["close"], quitters=False),
)
def test_threads_receive_a_merge_of_what_was_sent(capacity, senders, receivers):
    channel: Channel[Sent] = Channel(capacity)

    def send(who, sender, plan):
        send_run(who, sender, plan, lambda _: None)
        if plan.ending == "close":
            sender.close()
        elif plan.ending == "with":
            with sender:
                pass

    hold = channel.sender
    consumers = [Running(lambda r, p: list(receive_run(r, p.way)), channel.receiver, plan)
                 for plan in receivers]  # fmt: skip
    producers = [Running(send, who, channel.sender, plan) for who, plan in enumerate(senders)]
    hold.close()
    for thread in producers:
        thread.result()
    logs = [thread.result() for thread in consumers]

    check_merge([plan.count for plan in senders], logs, complete=True)


@given(
    capacity=st.integers(1, 6),
    senders=sendings(["close"]),
    receivers=receivings(["close", "drop"], quitters=True),
)
def test_threads_that_quit_receiving_take_only_what_they_took(capacity, senders, receivers):
    """The rest comes to those who stay; if nobody stays, senders are told and nobody hangs."""
    channel: Channel[Sent] = Channel(capacity)
    sent = [0] * len(senders)
    broken: list[int] = []
    somebody_stays = any(plan.limit is None for plan in receivers)

    def send(who, sender, plan):
        def count(number):
            sent[who] = number + 1

        with sender:
            try:
                send_run(who, sender, plan, count)
            except BrokenChannelError:
                broken.append(who)

    def receive(receiver, plan):
        if plan.limit == 0:
            receiver.close()
            return []
        log = []
        for item in receive_run(receiver, plan.way):
            log.append(item)
            if len(log) == plan.limit:
                break
        if plan.ending == "close":
            receiver.close()
        return log

    hold, keep = channel.sender, channel.receiver
    consumers = [Running(receive, channel.receiver, plan) for plan in receivers]
    producers = [Running(send, who, channel.sender, plan) for who, plan in enumerate(senders)]
    hold.close()
    keep.close()
    for thread in producers:
        thread.result()
    logs = [thread.result() for thread in consumers]

    assert not (somebody_stays and broken), "there was somebody to send to"
    check_merge(sent, logs, complete=somebody_stays)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@settings(max_examples=max(10, settings().max_examples // 4))
@given(
    capacity=st.integers(1, 6),
    senders=sendings(["exit", "kill", "close"]),
    receivers=receivings(["exit", "kill", "close"], quitters=True),
)
def test_processes_that_die_between_two_operations_lose_nothing(capacity, senders, receivers):
    """What `send` returned for arrives, though its sender was killed right after, and a receiver
    that was killed with nothing in its hands took nothing along."""
    channel: Channel[Sent] = Channel(capacity)
    hold, keep = channel.sender, channel.receiver

    def send(me, who, plan):
        keep.close()
        sender = channel.sender
        hold.close()
        me.say()
        send_run(who, sender, plan, lambda _: None)
        if plan.ending == "kill":
            die()
        elif plan.ending == "close":
            sender.close()
            signal.pause()

    def receive(me, plan):
        hold.close()
        receiver = channel.receiver
        keep.close()
        me.say()
        count = 0
        if plan.limit != 0:
            for item in receive_run(receiver, plan.way):
                me.say(item)
                count += 1
                if count == plan.limit:
                    break
        me.say("over")
        if plan.ending == "kill":
            die()
        elif plan.ending == "close":
            receiver.close()
            signal.pause()

    children = []
    try:
        consumers = [Child(receive, plan) for plan in receivers]
        children += consumers
        producers = [Child(send, who, plan) for who, plan in enumerate(senders)]
        children += producers
        for process in children:
            process.hear()
        hold.close()
        # The test stays to the end, so nobody ever sends to nobody.
        mine = Running(list, keep)
        logs = [hear_log(process) for process in consumers]
        logs.append(mine.result())
    finally:
        for process in children:
            process.kill()
        hold.close()
        keep.close()

    check_merge([plan.count for plan in senders], logs, complete=True)


def hear_log(process: Child) -> list[Sent]:
    log = []
    while (item := process.hear()) != "over":
        log.append(item)
    return log
