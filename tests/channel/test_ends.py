"""The life of an end, as a table; what ends a stream; what each operation promises.

Ends are *made*, may *travel*, are *open* somewhere, may be *inherited* by a fork; then they are
*closed* or *dead*. `LIVE` and `GONE` are ways into these states, for both roles.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import queue
import signal
import threading
import time
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Pool
from parmap._channel import local
from parmap._channel.core import SENDER
from parmap.channel import Channel, Duplex, Receiver, Sender, select
from parmap.errors import (
    BrokenChannelError,
    ChannelEmpty,
    ChannelError,
    ChannelFull,
    ClosedChannelError,
    EndOfChannel,
    SerializationError,
)
from support import channel_far as far
from support import transports
from support.channel_peers import Running, child, collect, wait_until_blocked
from support.gates import PATIENCE, Gate, wait_until, warm_pool
from support.tasks import BreaksInPickle, BreaksInUnpickle, KillsInUnpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDED = "ended before this sender arrived"
ROLES = ["sender", "receiver"]
SHORT = 0.05  # a timeout that shall pass


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[Pool]:
    with warm_pool(tmp_path_factory.mktemp("pool"), 1) as pool:
        yield pool


# --- the state table ------------------------------------------------------------------------------


class Case:
    """A channel, for a test that brings one end of one role into some state."""

    def __init__(self, role: str, pool: Pool, folder) -> None:
        self.channel: Channel[Any] = Channel(4)
        self.role = role
        self.pool = pool
        self.folder = folder
        # The other role, through which the test looks; children must not inherit two of a kind.
        other = "receiver" if role == "sender" else "sender"
        self.watcher: Any = getattr(self.channel, other)

    def make(self) -> Any:
        return getattr(self.channel, self.role)

    def gate(self, name: str) -> Gate:
        return Gate(self.folder / name)

    def looks_open(self) -> bool:
        """Whether the watcher is told, at once, that nobody is on the other side any more."""
        if self.role == "sender":
            try:
                self.watcher.try_receive()
            except ChannelEmpty:
                return True
            except EndOfChannel:
                return False
            raise AssertionError("nobody has sent anything")
        try:
            self.watcher.try_send("x")
        except ChannelFull:
            return True
        except BrokenChannelError:
            return False
        return True

    def close(self) -> None:
        """Close and forget: pytest keeps a fixture's value longer than the test's leak check."""
        self.watcher.close()
        self.channel.close()
        del self.watcher, self.channel


@pytest.fixture
def case(request, pool, tmp_path) -> Iterator[Case]:
    case = Case(request.param, pool, tmp_path)
    yield case
    case.close()


def made(case):
    end = case.make()
    yield
    end.close()


def made_twice_and_closed_once(case):
    first, second = case.make(), case.make()
    first.close()
    yield
    second.close()


def only_its_clone_is_left(case):
    end = case.make()
    clone = end.clone()
    end.close()
    yield
    clone.close()


def in_its_with_block(case):
    with case.make():
        yield


def in_a_with_block_around_a_clone(case):
    with case.make() as end:
        clone = end.clone()
    yield
    clone.close()


def travelling_in_a_message(case):
    carrier: Channel[Any] = Channel()
    with case.make() as end:
        carrier.send(end)
    del end
    collect()
    yield
    carrier.receive(timeout=PATIENCE).close()
    carrier.close()


def travelling_in_a_message_whose_sender_was_killed(case):
    carrier: Channel[Any] = Channel()

    def send_and_die(me):
        case.watcher.close()
        carrier.send(case.make())
        me.say("sent")
        signal.pause()

    with child(send_and_die) as process:
        process.hear()
        process.kill()
        yield
        carrier.receive(timeout=PATIENCE).close()
    carrier.close()


def travelling_to_a_task_that_waits_in_the_queue(case):
    gate = case.gate("go")
    busy = case.pool.submit(far.wait_for, gate)
    with case.make() as end:
        waiting = case.pool.submit(len, [end])
    del end
    collect()
    yield
    gate.open()
    assert (busy.result(PATIENCE), waiting.result(PATIENCE)) == (None, 1)


def open_in_a_worker(case):
    with case.make() as end:
        case.pool.submit(transports.keep, end).result(PATIENCE)
    del end
    yield
    case.pool.submit(transports.forget).result(PATIENCE)


def made_by_another_process(case):
    def make_and_wait(me):
        case.watcher.close()
        end = case.make()
        me.say("made")
        me.hear()
        end.close()
        me.say("closed")
        me.hear()

    with child(make_and_wait) as process:
        process.hear()
        yield
        process.say()
        process.hear()


def inherited_by_a_fork(case):
    """`os.fork` and multiprocessing's fork context: the copy counts until it is closed."""
    end = case.make()

    def close_when_told(me):
        case.watcher.close()
        me.hear()
        end.close()
        me.say("closed")
        me.hear()

    with child(close_when_told) as process:
        end.close()
        yield
        process.say()
        process.hear()


def inherited_by_a_fork_and_collected_there(case):
    box = [case.make()]

    def drop_when_told(me):
        case.watcher.close()
        me.hear()
        box.clear()
        collect()
        me.say("dropped")
        me.hear()

    with child(drop_when_told) as process:
        box.clear()
        collect()
        yield
        process.say()
        process.hear()


def copied_by_a_fork_that_closed_its_copy(case):
    """A child that closes what it inherited takes nothing from its parent."""
    end = case.make()

    def close(me):
        case.watcher.close()
        end.close()

    with child(close) as process:
        process.end_well()
    yield
    end.close()


def copied_by_a_fork_that_exited(case):
    end = case.make()
    with child(lambda me: None) as process:
        process.end_well()
    yield
    end.close()


def copied_by_a_fork_that_was_killed(case):
    end = case.make()
    with child(lambda me: signal.pause()) as process:
        process.kill()
    yield
    end.close()


LIVE = [
    made, made_twice_and_closed_once, only_its_clone_is_left, in_its_with_block,
    in_a_with_block_around_a_clone, travelling_in_a_message,
    travelling_in_a_message_whose_sender_was_killed, travelling_to_a_task_that_waits_in_the_queue,
    open_in_a_worker, made_by_another_process, inherited_by_a_fork,
    inherited_by_a_fork_and_collected_there, copied_by_a_fork_that_closed_its_copy,
    copied_by_a_fork_that_exited, copied_by_a_fork_that_was_killed,
]  # fmt: skip


@pytest.mark.parametrize("case", ROLES, indirect=True)
@pytest.mark.parametrize("state", LIVE, ids=lambda state: state.__name__)
def test_an_end_counts_while_it_is(case, state):
    """Open in this state, and gone right after it."""
    with contextmanager(state)(case):
        assert case.looks_open()

    wait_until(lambda: not case.looks_open(), "the end to be gone")


def closed(case):
    case.make().close()


def closed_twice(case):
    end = case.make()
    clone = end.clone()
    end.close()
    end.close()
    assert case.looks_open(), "closing twice took the clone's share"
    clone.close()


def dropped(case):
    case.make()


def collected_in_a_cycle(case):
    cycle = [case.make()]
    cycle.append(cycle)
    del cycle
    collect()


def left_its_with_block(case):
    with case.make():
        pass


def left_its_with_block_by_an_error(case):
    with pytest.raises(KeyError), case.make():
        raise KeyError


def its_thread_ended(case):
    def hold():
        end = case.make()
        del end

    Running(hold).result()


def its_process_exited(case):
    with child(lambda me: (case.watcher.close(), case.make())) as process:
        process.end_well()


def its_process_exited_holding_it(case):
    def hold(me):
        case.watcher.close()
        transports.keep(case.make())

    with child(hold) as process:
        process.end_well()


def its_process_was_killed(case):
    def hold(me):
        case.watcher.close()
        end = case.make()
        me.say("holds")
        signal.pause()
        end.close()

    with child(hold) as process:
        process.hear()
        assert case.looks_open()
        process.kill()


def its_worker_was_killed(case):
    with Pool(1) as pool:
        with case.make() as end:
            pool.submit(transports.keep, end).result(PATIENCE)
        del end
        pid = pool.submit(os.getpid).result(PATIENCE)
        assert case.looks_open()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not case.looks_open(), "the killed worker's end to be gone")


def taken_by_a_worker_that_died_unpickling(case):
    """Given up: it never became an end of that process."""
    with Pool(1) as pool:
        with case.make() as end:
            lost = pool.submit(len, [KillsInUnpickle(), end])
        del end
        assert lost.exception(PATIENCE) is not None
        del lost
        wait_until(lambda: not case.looks_open(), "the given up end to be gone")


def sent_to_a_task_that_was_cancelled(case):
    gate = case.gate("go")
    busy = [case.pool.submit(far.wait_for, gate) for _ in range(4)]
    with case.make() as end:
        waiting = case.pool.submit(len, [end])
    del end
    assert case.looks_open()
    assert waiting.cancel()
    del waiting
    try:
        wait_until(lambda: not case.looks_open(), "the cancelled task's end to be gone")
    finally:
        gate.open()
        for future in busy:
            future.result(PATIENCE)


def an_argument_that_its_task_dropped(case):
    with case.make() as end:
        assert case.pool.submit(len, [end]).result(PATIENCE) == 1


def in_a_message_that_was_dropped_with_its_channel(case):
    carrier: Channel[Any] = Channel()
    with case.make() as end:
        carrier.send(end)
    del end
    assert case.looks_open()
    carrier.close()
    del carrier
    collect()


def in_a_message_that_was_received_and_dropped(case):
    carrier: Channel[Any] = Channel()
    with case.make() as end:
        carrier.send([1, end, 2])
    del end
    carrier.receive(timeout=PATIENCE)
    carrier.close()


def taken_from_a_message_by_a_process_that_was_killed(case):
    carrier: Channel[Any] = Channel()
    with case.make() as end:
        carrier.send(end)
    del end

    def take(me):
        case.watcher.close()
        transports.keep(carrier.receive(timeout=PATIENCE))
        me.say("taken")
        signal.pause()

    with child(take) as process:
        process.hear()
        assert case.looks_open()
        process.kill()
    carrier.close()


GONE = [
    closed, closed_twice, dropped, collected_in_a_cycle, left_its_with_block,
    left_its_with_block_by_an_error, its_thread_ended, its_process_exited,
    its_process_exited_holding_it, its_process_was_killed, its_worker_was_killed,
    taken_by_a_worker_that_died_unpickling, sent_to_a_task_that_was_cancelled,
    an_argument_that_its_task_dropped, in_a_message_that_was_dropped_with_its_channel,
    in_a_message_that_was_received_and_dropped, taken_from_a_message_by_a_process_that_was_killed,
]  # fmt: skip


@pytest.mark.parametrize("case", ROLES, indirect=True)
@pytest.mark.parametrize("state", GONE, ids=lambda state: state.__name__)
def test_an_end_counts_no_more_when_it_is(case, state):
    state(case)

    wait_until(lambda: not case.looks_open(), "the end to be gone")
    if case.role == "sender":
        with pytest.raises(EndOfChannel):
            case.watcher.receive(timeout=PATIENCE)
    else:
        with pytest.raises(BrokenChannelError):
            case.watcher.send("y", timeout=PATIENCE)


# --- neutral channels -----------------------------------------------------------------------------


def test_a_channel_alone_counts_as_nothing():
    channel = Channel()
    receiver = channel.receiver
    channel.sender.close()

    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_before_the_first_sender_nothing_has_ended():
    channel = Channel()
    with channel.receiver as receiver, pytest.raises(ChannelEmpty):
        receiver.try_receive()


def test_a_channel_counts_as_sender_once_it_has_sent():
    channel = Channel()
    receiver = channel.receiver
    channel.send(1)
    channel.sender.close()

    assert receiver.receive(timeout=PATIENCE) == 1
    with pytest.raises(ChannelEmpty):
        receiver.try_receive()
    channel.close()
    with pytest.raises(EndOfChannel):
        receiver.try_receive()


def test_a_channel_that_has_sent_counts_until_it_is_collected():
    channel = Channel()
    receiver = channel.receiver
    channel.send(1)
    del channel
    collect()

    assert list(receiver) == [1]


def test_a_channel_counts_as_receiver_once_it_has_received():
    channel = Channel()
    with channel.sender as sender:
        sender.send(1)
        assert channel.receive(timeout=PATIENCE) == 1
        sender.send(2)
        channel.close()
        with pytest.raises(BrokenChannelError):
            sender.send(3)


def test_a_channel_that_has_received_counts_until_it_is_collected():
    channel = Channel()
    with channel.sender as sender:
        sender.send(1)
        assert channel.receive(timeout=PATIENCE) == 1
        del channel
        collect()
        with pytest.raises(BrokenChannelError):
            sender.send(2)


def test_a_channel_counts_in_each_process_for_itself():
    channel = Channel()
    receiver = channel.receiver

    def send(me):
        receiver.close()
        channel.send("theirs")
        me.say("sent")
        me.hear()

    with child(send) as process:
        process.hear()
        channel.send("ours")
        channel.close()
        assert [receiver.receive(timeout=PATIENCE) for _ in range(2)] == ["theirs", "ours"]
        with pytest.raises(ChannelEmpty):
            receiver.try_receive()
        process.kill()
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_each_sender_and_receiver_is_a_new_one():
    channel = Channel()
    senders = [channel.sender, channel.sender]
    receivers = [channel.receiver, channel.receiver]

    assert senders[0] is not senders[1]
    assert receivers[0] is not receivers[1]
    assert {type(sender) for sender in senders} == {Sender}
    assert {type(receiver) for receiver in receivers} == {Receiver}


def test_ends_go_one_way():
    channel = Channel()
    assert not hasattr(channel.sender, "receive")
    assert not hasattr(channel.receiver, "send")


def test_ends_keep_a_channel_alive_that_was_dropped():
    channel = Channel()
    sender, receiver = channel.sender, channel.receiver
    del channel
    collect()
    sender.send(1)

    assert receiver.receive(timeout=PATIENCE) == 1


# --- the end of the stream ------------------------------------------------------------------------


def test_the_end_comes_after_what_is_there():
    channel = Channel()
    receiver = channel.receiver
    with channel.sender as sender:
        sender.send_many([1, 2, 3])

    assert [receiver.receive(timeout=PATIENCE) for _ in range(3)] == [1, 2, 3]
    for _ in range(2):
        with pytest.raises(EndOfChannel):
            receiver.receive(timeout=PATIENCE)


@pytest.mark.parametrize("way", ["receive", "try_receive", "receive_many", "iteration", "channel"])
def test_the_end_is_told_by_every_operation(way):
    channel = Channel()
    receiver = channel.receiver
    channel.sender.close()

    if way == "iteration":
        assert list(receiver) == list(receiver) == []
    elif way == "channel":
        with pytest.raises(EndOfChannel):
            channel.receive(timeout=PATIENCE)
        assert list(channel) == []
    else:
        with pytest.raises(EndOfChannel) as info:
            getattr(receiver, way)(*([3] if way == "receive_many" else []))
        assert isinstance(info.value, EOFError)
        assert isinstance(info.value, ChannelError)


def test_the_end_comes_to_every_consumer():
    """In threads, in another process, to an early one, to one that comes late."""
    channel = Channel()
    sender, receiver = channel.sender, channel.receiver

    def consume(me):
        sender.close()
        receiver.close()
        me.say("ready")
        me.say(list(channel.receiver))

    with child(consume) as process:
        process.hear()
        threads = [Running(list, channel.receiver) for _ in range(3)]
        for thread in threads:
            thread.wait_until_blocked()
        process.wait_until_blocked()
        sender.send_many(range(20))
        sender.close()
        got = [item for thread in threads for item in thread.result()] + process.hear()
        process.end_well()
    assert sorted(got) == list(range(20))
    assert list(receiver) == list(channel.receiver) == []


def test_a_killed_sender_ends_the_stream_for_a_blocked_receiver():
    channel = Channel()
    receiver = channel.receiver

    def send(me):
        receiver.close()
        sender = channel.sender
        sender.send("last words")
        me.say()
        signal.pause()
        sender.close()

    with child(send) as process:
        process.hear()
        thread = Running(list, receiver)
        thread.wait_until_blocked()
        process.kill()
        assert thread.result() == ["last words"]


@pytest.mark.parametrize("ending", [lambda: os._exit(3), signal.pause], ids=["exit", "kill"])
def test_what_was_sent_survives_its_sender(ending):
    """Also when nobody has ever received yet: the neutral channel keeps it."""
    channel = Channel()

    def send(me):
        sender = channel.sender
        sender.send_many(range(10))
        sender.send(b"x" * 300_000)
        me.say()
        ending()

    with child(send) as process:
        process.hear()
        process.kill()
    *small, large = channel.receiver
    assert (small, large) == (list(range(10)), b"x" * 300_000)


def test_the_end_is_final():
    channel = Channel()
    receiver = channel.receiver
    channel.sender.close()

    with pytest.raises(ClosedChannelError, match=ENDED):
        channel.sender  # noqa: B018
    with pytest.raises(ClosedChannelError, match=ENDED):
        channel.send(1)
    with pytest.raises(EndOfChannel):
        receiver.try_receive()


def test_the_end_is_final_before_anybody_has_looked():
    """Nobody received, and nobody noticed: the late sender is still told."""
    channel = Channel()
    channel.sender.close()
    with pytest.raises(ClosedChannelError, match=ENDED):
        channel.sender  # noqa: B018


def test_the_end_is_final_in_other_processes():
    channel = Channel()

    def come_late(me):
        with pytest.raises(ClosedChannelError, match=ENDED):
            channel.sender  # noqa: B018
        with pytest.raises(ClosedChannelError, match=ENDED):
            channel.send(1)

    channel.sender.close()
    with child(come_late) as process:
        process.end_well()


def test_the_end_by_a_kill_is_final():
    channel = Channel()

    def hold(me):
        transports.keep(channel.sender)
        me.say()
        signal.pause()

    with child(hold) as process:
        process.hear()
        process.kill()
    with pytest.raises(ClosedChannelError, match=ENDED):
        channel.sender  # noqa: B018


def test_somebody_who_holds_an_end_lets_senders_come_one_by_one():
    channel = Channel()
    with channel.sender:
        for number in range(3):
            with channel.sender as sender:
                sender.send(number)

    assert list(channel) == [0, 1, 2]


def test_iteration_does_not_count_a_message_that_looks_like_an_end():
    channel = Channel()
    odd = [None, StopIteration(), EndOfChannel("x"), False, (), b"", EOFError]
    with channel.sender as sender:
        sender.send_many(odd)
    assert [repr(item) for item in channel.receiver] == [repr(item) for item in odd]


# --- Channel.close --------------------------------------------------------------------------------


def test_close_ends_the_stream_though_nothing_was_ever_sent():
    channel = Channel()
    receiver = channel.receiver
    channel.close()

    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_close_wakes_who_waits():
    channel = Channel()
    thread = Running(list, channel.receiver)
    thread.wait_until_blocked()
    channel.close()

    assert thread.result() == []


def test_after_close_sending_here_raises_and_receiving_drains():
    channel = Channel()
    channel.send(1)
    channel.send(2)
    channel.send(3)
    channel.close()
    channel.close()

    for send in (channel.send, channel.try_send, lambda item: channel.send_many([item])):
        with pytest.raises(ClosedChannelError):
            send(4)
    assert channel.receive(timeout=PATIENCE) == 1
    assert list(channel) == [2, 3]


def test_close_takes_nothing_from_others():
    channel = Channel()
    with channel.sender as sender:
        receiver = channel.receiver
        channel.send(1)
        channel.close()
        sender.send(2)

        assert [receiver.receive(timeout=PATIENCE) for _ in range(2)] == [1, 2]
        with pytest.raises(ChannelEmpty):
            receiver.try_receive()


def test_close_in_another_process_leaves_this_one_sending():
    channel = Channel()
    receiver = channel.receiver
    channel.send(1)

    def close(me):
        receiver.close()
        channel.close()
        with pytest.raises(ClosedChannelError):
            channel.send("never")

    with child(close) as process:
        process.end_well()
    channel.send(2)
    channel.close()
    assert list(receiver) == [1, 2]


def test_a_closed_end_refuses():
    channel = Channel()
    with channel.sender as hold, channel.receiver as keep:
        sender, receiver = hold.clone(), keep.clone()
        sender.close()
        receiver.close()
        sending = (sender.send, sender.try_send, lambda item: sender.send_many([item]))
        receiving = (receiver.receive, receiver.try_receive, lambda: receiver.receive_many(1))
        for send in sending:
            with pytest.raises(ClosedChannelError):
                send(1)
        for operation in (*receiving, lambda: next(iter(receiver)), receiver.fileno):
            with pytest.raises(ClosedChannelError):
                operation()
        for clone in (sender.clone, receiver.clone):
            with pytest.raises(ClosedChannelError):
                clone()


@pytest.mark.parametrize("role", ROLES)
def test_closing_an_end_wakes_the_thread_that_waits_on_it(role):
    channel = Channel(1)
    with channel.sender as sender, channel.receiver as receiver:
        if role == "sender":
            sender.send("fills it")
            end = sender.clone()
            thread = Running(end.send, "waits")
        else:
            end = receiver.clone()
            thread = Running(end.receive)
        thread.wait_until_blocked()
        end.close()

        assert isinstance(thread.error(), ClosedChannelError)


# --- when every receiver is gone ------------------------------------------------------------------


def test_items_wait_for_the_first_receiver():
    channel = Channel()
    with channel.sender as sender:
        sender.send_many([1, 2])
    collect()

    assert list(channel.receiver) == [1, 2]


@pytest.mark.parametrize("way", ["send", "try_send", "send_many"])
def test_a_send_to_nobody_gives_the_item_back(way):
    channel = Channel()
    with channel.sender as sender:
        channel.receiver.close()
        item = ["precious"]
        with pytest.raises(BrokenChannelError) as info:
            getattr(sender, way)([item] if way == "send_many" else item)
        if way != "send_many":
            assert info.value.item is item


def test_a_blocked_send_learns_that_the_last_receiver_was_closed():
    channel = Channel(1)
    with channel.sender as sender:
        receiver = channel.receiver
        sender.send("fills it")
        item = ["precious"]
        thread = Running(sender.send, item)
        thread.wait_until_blocked()
        receiver.close()

        error = thread.error()
        assert isinstance(error, BrokenChannelError)
        assert error.item is item


def test_a_blocked_send_learns_that_the_last_receiver_was_killed():
    channel = Channel(1)
    with channel.sender as sender:

        def hold(me):
            sender.close()
            transports.keep(channel.receiver)
            me.say()
            signal.pause()

        with child(hold) as process:
            process.hear()
            sender.send("fills it")
            thread = Running(sender.send, "waits")
            thread.wait_until_blocked()
            process.kill()

            assert isinstance(thread.error(), BrokenChannelError)


def test_a_full_channel_without_receivers_is_broken_rather_than_full():
    channel = Channel(1)
    with channel.sender as sender:
        receiver = channel.receiver
        sender.send(1)
        receiver.close()
        with pytest.raises(BrokenChannelError):
            sender.try_send(2)


# --- capacity, time, order ------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 64, 100, 1000])
@pytest.mark.parametrize("size", [0, 5000], ids=["small", "large"])
def test_capacity_is_exact(capacity, size):
    channel = Channel(capacity)
    with channel.sender as sender, channel.receiver as receiver:
        for lap in range(3):
            for number in range(capacity if lap == 0 else 1):
                sender.try_send((lap, number, b"x" * size))
            with pytest.raises(ChannelFull):
                sender.try_send("one too many")
            assert receiver.receive(timeout=PATIENCE)[2] == b"x" * size


def test_capacity_is_64_unless_said():
    channel = Channel()
    for number in range(64):
        channel.try_send(number)
    with pytest.raises(ChannelFull):
        channel.try_send(64)


@pytest.mark.parametrize(
    ("capacity", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (None, TypeError)],
)
def test_a_capacity_is_an_int_of_at_least_1(capacity, error):
    with pytest.raises(error):
        Channel(capacity)


def test_at_most_64_megabytes_wait():
    """A message larger than that goes alone; see test_sizes."""
    channel = Channel(64)
    with channel.sender as sender, channel.receiver as receiver:
        tenth = bytes(10 << 20)
        for _ in range(6):
            sender.try_send(tenth)
        with pytest.raises(ChannelFull):
            sender.try_send(tenth)
        assert receiver.receive(timeout=PATIENCE) == tenth
        sender.send(tenth, timeout=PATIENCE)


def test_full_and_empty_are_those_of_queue():
    channel = Channel(1)
    channel.try_send(1)
    with pytest.raises(queue.Full) as full:
        channel.try_send(2)
    channel.try_receive()
    with pytest.raises(queue.Empty) as empty:
        channel.try_receive()
    assert (type(full.value), type(empty.value)) == (ChannelFull, ChannelEmpty)


@pytest.mark.parametrize("timeout", [0, SHORT])
def test_a_receive_gives_up_in_time(timeout):
    channel = Channel()
    with channel.sender, channel.receiver as receiver:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            receiver.receive(timeout=timeout)
        assert timeout <= time.monotonic() - began < PATIENCE
        with pytest.raises(TimeoutError):
            receiver.receive(timeout)


@pytest.mark.parametrize("timeout", [0, SHORT])
def test_a_send_gives_up_in_time_and_sends_nothing(timeout):
    channel = Channel(1)
    with channel.receiver as receiver:
        with channel.sender as sender:
            sender.send(1, timeout=timeout)
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                sender.send(2, timeout=timeout)
            assert timeout <= time.monotonic() - began < PATIENCE
        assert list(receiver) == [1]


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", TypeError), (True, TypeError), (math.nan, ValueError)]
)
def test_what_is_no_timeout_is_refused_at_the_door(timeout, error):
    """Also where nothing would be waited for: and a wait until nan would never end."""
    channel = Channel[int](2)
    channel.send(1)
    for operation in (
        lambda: channel.send(2, timeout=timeout),
        lambda: channel.send_many([2], timeout=timeout),
        lambda: channel.receive(timeout=timeout),
        lambda: channel.receive_many(1, timeout=timeout),
        lambda: select(channel, timeout=timeout),
    ):
        with pytest.raises(error, match="timeout must be a number of seconds"):
            operation()
    assert channel.receive_many(10) == [1]


@pytest.mark.parametrize("timeout", [-1, math.inf])
def test_a_timeout_may_be_over_already_or_endless(timeout):
    channel = Channel[int](1)
    channel.send(1, timeout=timeout)
    assert channel.receive(timeout=timeout) == 1
    if timeout < 0:
        with pytest.raises(TimeoutError):
            channel.receive(timeout=timeout)
        assert select(channel, timeout=timeout) == []


@pytest.mark.parametrize("limit", [None, "1", 1.5, True])
def test_a_limit_is_an_int(limit):
    channel = Channel[int](1)
    channel.send(1)
    with pytest.raises(TypeError, match="limit must be an int"):
        channel.receive_many(limit)
    assert channel.receive() == 1


def test_a_timeout_that_need_not_pass_does_not():
    channel = Channel(1)
    with channel.sender as sender, channel.receiver as receiver:
        sender.send(1, timeout=0)
        assert receiver.receive(timeout=0) == 1


def test_a_blocked_send_goes_on_when_there_is_room():
    channel = Channel(1)
    with channel.sender as sender, channel.receiver as receiver:
        sender.send(1)
        thread = Running(sender.send, 2)
        thread.wait_until_blocked()
        assert receiver.receive(timeout=PATIENCE) == 1
        thread.result()
        assert receiver.receive(timeout=PATIENCE) == 2


def test_waiting_uses_no_cpu():
    channel = Channel()
    with channel.sender, channel.receiver as receiver:
        before = time.process_time()
        with pytest.raises(TimeoutError):
            receiver.receive(timeout=0.5)
        assert time.process_time() - before < 0.1


def test_each_senders_items_stay_in_order():
    channel = Channel(3)
    receiver = channel.receiver
    senders = [channel.sender for _ in range(4)]

    def send(number, sender):
        with sender:
            for item in range(100):
                sender.send((number, item))

    threads = [Running(send, number, sender) for number, sender in enumerate(senders)]
    del senders
    got = list(receiver)
    for thread in threads:
        thread.result()

    assert sorted(got) == [(number, item) for number in range(4) for item in range(100)]
    for number in range(4):
        assert [item for who, item in got if who == number] == list(range(100))


def test_one_end_serves_several_threads():
    channel = Channel(2)
    sender, receiver = channel.sender, channel.receiver
    consumers = [Running(list, receiver) for _ in range(3)]
    producers = [
        Running(lambda n=n: [sender.send(n * 100 + i) for i in range(100)]) for n in range(3)
    ]
    for thread in producers:
        thread.result()
    sender.close()

    got = [item for thread in consumers for item in thread.result()]
    assert sorted(got) == list(range(300))


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_may_be_larger_than_the_channel():
    channel = Channel(3)
    receiver = channel.receiver

    def send():
        with channel.sender as sender:
            sender.send_many(number for number in range(100))

    with channel.sender:
        thread = Running(send)
        got = []
        while len(got) < 100:
            some = receiver.receive_many(7)
            assert 1 <= len(some) <= 7
            got += some
        thread.result()
    assert got == list(range(100))
    with pytest.raises(EndOfChannel):
        receiver.receive_many(7)


def test_an_empty_batch_is_no_message():
    channel = Channel()
    with channel.sender as sender, channel.receiver as receiver:
        sender.send_many([])
        with pytest.raises(ChannelEmpty):
            receiver.try_receive()


def test_what_an_iterable_gave_before_it_failed_is_sent():
    def failing(count):
        yield from range(count)
        raise ZeroDivisionError

    channel = Channel[int](1000)
    for count in (0, 1, 2, 255, 256, 600):
        with pytest.raises(ZeroDivisionError):
            channel.send_many(failing(count))
        assert [channel.try_receive() for _ in range(count)] == list(range(count))
        with pytest.raises(ChannelEmpty):
            channel.try_receive()


def test_the_first_of_many_does_not_wait_for_the_others():
    """Not even for a second one: this source gives it only when the first has been received."""
    channel = Channel[int]()
    received = threading.Event()

    def source():
        yield 1
        assert received.wait(PATIENCE)
        yield 2

    sending = Running(channel.send_many, source())
    assert channel.receive(timeout=PATIENCE) == 1
    received.set()
    assert channel.receive(timeout=PATIENCE) == 2
    sending.result()


def test_receive_many_takes_what_is_there_up_to_its_limit():
    channel = Channel()
    with channel.sender as sender, channel.receiver as receiver:
        sender.send_many(range(10))
        assert receiver.receive_many(4) == [0, 1, 2, 3]
        assert receiver.receive_many(100) == [4, 5, 6, 7, 8, 9]


def test_receive_many_waits_for_the_first():
    channel = Channel()
    with channel.sender as sender, channel.receiver as receiver:
        thread = Running(receiver.receive_many, 5)
        thread.wait_until_blocked()
        sender.send("only one")
        assert thread.result() == ["only one"]


def test_receive_many_wakes_a_sender_for_every_place_it_made():
    channel = Channel(4)
    with channel.sender as sender, channel.receiver as receiver:
        sender.send_many(range(4))
        threads = [Running(sender.send, number) for number in range(4, 8)]
        for thread in threads:
            thread.wait_until_blocked()
        assert receiver.receive_many(4) == [0, 1, 2, 3]
        for thread in threads:
            thread.result()


def test_send_many_wakes_a_receiver_for_every_item():
    channel = Channel(8)
    with channel.sender as sender, channel.receiver as receiver:
        threads = [Running(receiver.receive) for _ in range(5)]
        for thread in threads:
            thread.wait_until_blocked()
        sender.send_many(range(5))
        assert sorted(thread.result() for thread in threads) == [0, 1, 2, 3, 4]


def test_a_batch_mixes_with_single_items_in_order():
    channel = Channel()
    with channel.sender as sender:
        sender.send(0)
        sender.send_many([1, b"x" * 100_000, 3])
        sender.send(4)
    got = list(channel)
    assert got == [0, 1, b"x" * 100_000, 3, 4]


# --- what cannot be sent, what cannot be received -------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [threading.Lock(), [1, threading.Lock()], BreaksInPickle(), (i for i in ()), Pool],
    ids=["a lock", "a lock inside", "an object that raises", "a generator", "a pool"],
)
@pytest.mark.parametrize("way", ["send", "try_send", "send_many"])
def test_what_cannot_be_pickled_raises_in_send_and_is_not_sent(item, way):
    channel = Channel()
    item = item(1) if item is Pool else item
    with channel.sender as sender, channel.receiver as receiver:
        with pytest.raises(SerializationError):
            getattr(sender, way)([item] if way == "send_many" else item)
        with pytest.raises(ChannelEmpty):
            receiver.try_receive()
        sender.send("next")
        assert receiver.receive(timeout=PATIENCE) == "next"
    if isinstance(item, Pool):
        item.shutdown()


def test_the_original_error_of_pickling_is_the_cause():
    channel = Channel()
    with pytest.raises(SerializationError) as info:
        channel.send(BreaksInPickle())
    assert repr(info.value.__cause__) == "RuntimeError('I do not travel')"


def test_what_cannot_be_pickled_raises_even_when_the_channel_is_full():
    channel = Channel(1)
    with channel.sender as sender, channel.receiver:
        sender.send(1)
        with pytest.raises(SerializationError):
            sender.send(threading.Lock(), timeout=SHORT)


def test_an_item_that_cannot_be_unpickled_fails_alone():
    channel = Channel(2)
    with channel.sender as sender, channel.receiver as receiver:
        for _ in range(5):
            sender.send(BreaksInUnpickle(RuntimeError("I do not arrive")))
            sender.send("next")
            with pytest.raises((RuntimeError, SerializationError), match="I do not arrive"):
                receiver.receive(timeout=PATIENCE)
            assert receiver.receive(timeout=PATIENCE) == "next"


def test_a_message_is_a_copy_as_it_was_when_sent():
    channel = Channel()
    item = [1, [2]]
    channel.send(item)
    item[1].append(3)
    channel.send(item)

    first, second = channel.receive(), channel.receive()
    assert (first, second) == ([1, [2]], [1, [2, 3]])
    assert first[1] is not second[1]


# --- Duplex ---------------------------------------------------------------------------------------


def test_a_pair_talks_both_ways():
    left, right = Channel.pair()
    assert isinstance(left, Duplex)
    with left, right:
        left.send("to the right")
        right.send("to the left")
        assert right.receive(timeout=PATIENCE) == "to the right"
        assert left.receive(timeout=PATIENCE) == "to the left"
        with pytest.raises(ChannelEmpty):
            left.try_receive()
        with pytest.raises(TimeoutError):
            left.receive(timeout=0)
        left.try_send(1)
        left.send_many([2, 3])
        assert right.receive_many(10) == [1, 2, 3]


def test_a_pair_ends_both_ways():
    left, right = Channel.pair()
    left.send("last words")
    left.close()

    assert right.receive(timeout=PATIENCE) == "last words"
    with pytest.raises(EndOfChannel):
        right.receive(timeout=PATIENCE)
    with pytest.raises(BrokenChannelError) as info:
        right.send("too late")
    assert info.value.item == "too late"
    assert list(right) == []
    right.close()
    with pytest.raises(ClosedChannelError):
        left.send(1)
    with pytest.raises(ClosedChannelError):
        left.receive()


def test_a_dropped_side_of_a_pair_is_gone():
    left, right = Channel.pair()
    del left
    collect()
    with right, pytest.raises(EndOfChannel):
        right.receive(timeout=PATIENCE)


def test_a_killed_side_of_a_pair_is_gone():
    left, right = Channel.pair()

    def echo(me):
        left.close()
        for item in right:
            right.send(item + 1)

    with child(echo) as process:
        right.close()
        for number in range(20):
            left.send(number)
            assert left.receive(timeout=PATIENCE) == number + 1
        process.kill()
        with pytest.raises(EndOfChannel):
            left.receive(timeout=PATIENCE)
        with pytest.raises(BrokenChannelError):
            left.send(0)
    left.close()


# --- select, fileno, asyncio ----------------------------------------------------------------------


def test_select_gives_those_that_are_ready():
    channels = [Channel() for _ in range(3)]
    receivers = [channel.receiver for channel in channels]
    holds = [channel.sender for channel in channels]
    assert select(*receivers, timeout=0) == []
    holds[1].send("x")

    assert select(*receivers, timeout=PATIENCE) == [receivers[1]]
    holds[2].send("y")
    assert select(*receivers, timeout=PATIENCE) == receivers[1:]
    for receiver in receivers[1:]:
        receiver.receive()
    assert drained(lambda: select(*receivers, timeout=0), receivers)


def drained(look: Callable[[], list[Any]], receivers: list[Any]) -> bool:
    """Nothing is ready: perhaps a look in vain was needed, since readiness is only probable."""
    if look():
        for receiver in receivers:
            with pytest.raises(ChannelEmpty):
                receiver.try_receive()
    return look() == []


def test_select_gives_up_in_time():
    channel = Channel()
    with channel.sender, channel.receiver as receiver:
        began = time.monotonic()
        assert select(receiver, timeout=SHORT) == []
        assert SHORT <= time.monotonic() - began < PATIENCE


def test_select_wakes_for_an_item_and_for_the_end():
    one, other = Channel(), Channel()
    with one.sender as sender, one.receiver as a, other.receiver as b:
        last = other.sender
        thread = Running(select, a, b)
        thread.wait_until_blocked()
        sender.send(1)
        assert thread.result() == [a]
        assert a.receive() == 1
        drained(lambda: select(a, b, timeout=0), [a, b])
        thread = Running(select, a, b)
        thread.wait_until_blocked()
        last.close()
        assert thread.result() == [b]
        with pytest.raises(EndOfChannel):
            b.try_receive()


def test_select_wakes_for_a_killed_sender():
    channel = Channel()
    receiver = channel.receiver

    def hold(me):
        receiver.close()
        transports.keep(channel.sender)
        me.say()
        signal.pause()

    with child(hold) as process:
        process.hear()
        thread = Running(select, receiver)
        thread.wait_until_blocked()
        process.kill()
        assert thread.result() == [receiver]
    with pytest.raises(EndOfChannel):
        receiver.try_receive()


def test_select_serves_pairs_too():
    left, right = Channel.pair()
    with left, right:
        right.send(1)
        assert select(left, right, timeout=PATIENCE) == [left]


def test_a_receiver_is_ready_for_connection_wait_while_something_is_there():
    channel = Channel()
    with channel.sender as sender, channel.receiver as receiver:

        def ready():
            return connection.wait([receiver], timeout=0)

        assert ready() == []
        sender.send_many([1, 2])
        assert connection.wait([receiver], timeout=PATIENCE) == [receiver]
        assert receiver.receive() == 1
        assert connection.wait([receiver], timeout=PATIENCE) == [receiver]
        assert receiver.receive() == 2
        assert drained(ready, [receiver])
        sender.send(3)
        assert connection.wait([receiver], timeout=PATIENCE) == [receiver]
        sender.close()
        assert receiver.receive() == 3
        assert connection.wait([receiver], timeout=PATIENCE) == [receiver]


def test_what_was_there_before_the_first_fileno_is_seen():
    channel = Channel()
    with channel.sender as sender, channel.receiver as receiver:
        sender.send(1)
        assert connection.wait([receiver], timeout=PATIENCE) == [receiver]
        assert receiver.fileno() == receiver.fileno()


def test_connection_wait_hears_other_processes():
    """A process that was sending before anybody waited; then its death."""
    channel = Channel()
    receiver = channel.receiver

    def send(me):
        receiver.close()
        with channel.sender as sender:
            sender.send(0)
            for number in range(1, 6):
                me.say()
                me.hear()
                sender.send(number)
            me.say()
            signal.pause()

    with child(send) as process:
        for number in range(6):
            process.hear()
            assert connection.wait([receiver], timeout=PATIENCE) == [receiver]
            assert receiver.try_receive() == number
            assert drained(lambda: connection.wait([receiver], timeout=0), [receiver])
            if number < 5:
                process.say()
        process.kill()
        assert connection.wait([receiver], timeout=PATIENCE) == [receiver]
    with pytest.raises(EndOfChannel):
        receiver.try_receive()


def test_two_processes_wait_with_connection_wait():
    """Readiness is only probable: what one takes the other does not get."""
    channel = Channel(4)
    sender, receiver = channel.sender, channel.receiver

    def consume(me):
        sender.close()
        me.say()
        me.say(wait_and_take(receiver))

    def wait_and_take(receiver):
        got = []
        while True:
            if not connection.wait([receiver], timeout=PATIENCE):
                raise AssertionError("not woken")
            try:
                got.append(receiver.try_receive())
            except ChannelEmpty:
                continue
            except EndOfChannel:
                return got

    with child(consume) as process:
        process.hear()
        thread = Running(wait_and_take, receiver)
        for number in range(300):
            sender.send(number)
        sender.close()
        got = thread.result() + process.hear()
        process.end_well()
    assert sorted(got) == list(range(300))


def test_an_event_loop_reads_to_the_end():
    channel = Channel(2)
    receiver = channel.receiver

    def send():
        with channel.sender as sender:
            for number in range(50):
                sender.send(number)

    async def read():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        got = []

        def on_ready():
            try:
                while True:
                    got.append(receiver.try_receive())
            except ChannelEmpty:
                return
            except EndOfChannel:
                loop.remove_reader(receiver.fileno())
                done.set_result(got)

        loop.add_reader(receiver.fileno(), on_ready)
        return await asyncio.wait_for(done, PATIENCE)

    with channel.sender:
        thread = Running(send)
        wait_until(lambda: select(receiver, timeout=0), "the first item")
    assert asyncio.run(read()) == list(range(50))
    thread.result()


# --- signals --------------------------------------------------------------------------------------


@pytest.fixture
def interrupts():
    """SIGINT raises KeyboardInterrupt here, whatever the test run had it do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("role", ROLES)
def test_ctrl_c_ends_a_wait_and_nothing_else(role, interrupts):
    channel = Channel(1)
    main = threading.main_thread()
    with channel.sender as sender, channel.receiver as receiver:
        if role == "sender":
            sender.send("fills it")

        def interrupt():
            wait_until_blocked(os.getpid(), main.native_id)
            signal.pthread_kill(main.ident, signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            thread = Running(interrupt)
            _ = sender.send("waits") if role == "sender" else receiver.receive()
        thread.result()
        if role == "sender":
            assert receiver.receive(timeout=PATIENCE) == "fills it"
            with pytest.raises(ChannelEmpty):
                receiver.try_receive()
        sender.send("afterwards", timeout=PATIENCE)
        assert receiver.receive(timeout=PATIENCE) == "afterwards"


def test_a_signal_handler_does_not_end_a_wait():
    """PEP 475: a handler that returns lets the wait go on."""
    channel = Channel(1)
    calls = []
    before = signal.signal(signal.SIGUSR2, lambda *_: calls.append(1))
    main = threading.main_thread()
    try:
        with channel.sender as sender, channel.receiver as receiver:

            def poke():
                for _ in range(3):
                    count = len(calls)
                    signal.pthread_kill(main.ident, signal.SIGUSR2)
                    wait_until(lambda n=count: len(calls) > n, "the handler")
                sender.send("at last")

            thread = Running(poke)
            assert receiver.receive(timeout=PATIENCE) == "at last"
            thread.result()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_interrupted_anywhere_a_channel_stays_usable(rng, interrupts):
    """Timers strike at random moments of a busy loop: no lock stays held, nothing comes twice."""
    channel = Channel(3)
    got, struck, sent = [], 0, 0
    with channel.sender as sender, channel.receiver as receiver:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            while struck < 150:
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00002, 0.001))
                    for _ in range(5000):
                        sent += 1
                        sender.send(sent, timeout=PATIENCE)
                        got.append(receiver.receive(timeout=PATIENCE))
                except KeyboardInterrupt:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    struck += 1
                    # What was sent and not received when the timer struck.
                    gc.disable()
                    try:
                        while True:
                            got.append(receiver.try_receive())
                    except ChannelEmpty:
                        gc.enable()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()
        assert got == sorted(set(got)), "twice, or out of order"
        assert sent - len(got) <= struck
        for number in range(3):
            sender.try_send(number)
        with pytest.raises(ChannelFull):
            sender.try_send(3)
        assert receiver.receive_many(10) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_midst_of_opening_an_end_inherits_none_that_it_does_not_know(monkeypatch):
    channel = Channel[Any]()
    core, stay, left = channel._neutral.core, os.pipe(), os.pipe()
    sender = local.End(core, SENDER).use()
    presence = core.presences[SENDER]
    children: list[int] = []

    def fork():
        if (pid := os.fork()) == 0:
            local.leave_all_to_parent()
            os.write(left[1], b"x")
            os.close(stay[1])
            os.read(stay[0], 1)
            os._exit(0)
        children.append(pid)

    forking = threading.Thread(target=fork)

    def join():
        fd = real()
        forking.start()
        forking.join(0.3)  # it has the time to fork, and must not
        return fd

    real = presence.join
    monkeypatch.setattr(type(presence), "join", lambda self: join())
    second = sender.clone()
    monkeypatch.undo()
    forking.join()
    os.read(left[0], 1)
    sender.close()
    second.close()
    try:
        assert not presence.anyone()
    finally:
        os.close(stay[1])
        os.waitpid(children[0], 0)
        for fd in (stay[0], *left):
            os.close(fd)
