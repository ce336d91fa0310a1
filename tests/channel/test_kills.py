"""SIGKILL at any moment: nobody hangs, nothing comes twice, at most what a killed receiver held is
missing, and the end comes. Random moments (PARMAP_TEST_SEED repeats them), then chosen ones.
"""

from __future__ import annotations

import json
import os
import select as system_select
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from parmap.channel import Channel
from parmap.errors import (
    BrokenChannelError,
    ChannelEmpty,
    ChannelFull,
    EndOfChannel,
)
from support.channel_peers import Child, Running, child, collect
from support.gates import PATIENCE
from support.scripts import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = {"1 to 1": (1, 1), "2 to 2": (2, 2), "1 to 4": (1, 4), "4 to 1": (4, 1)}
KILLS = int(os.environ.get("PARMAP_TEST_KILLS", "30"))
MANY = 400
# A timeout is kept although a process is stopped inside the channel; far above any timeout here.
LATE = 5.0


def storm(timeout: float, **plan: Any) -> dict[str, Any]:
    """Run a storm in an interpreter of its own; its account, or its story."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.channel_storm", json.dumps(plan)],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGABRT)  # faulthandler shows where
        out, err = process.communicate(timeout=10)
        raise AssertionError(f"{plan} took more than {timeout} s:\n{err[-10_000:]}") from None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    assert process.returncode == 0, f"{plan}\n{err[-10_000:]}"
    assert err == "", f"noise on stderr: {err}"
    figures: dict[str, Any] = json.loads(out)
    print(json.dumps({**plan, **figures}))
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_random_kills(shape, large, rng):
    producers, consumers = SHAPES[shape]
    figures = storm(
        50, producers=producers, consumers=consumers, kills=KILLS, large=large,
        seed=rng.randrange(2**32), capacity=rng.choice([1, 3, 16, 64]),
    )  # fmt: skip
    assert figures["messages"] > KILLS
    assert figures["memory_mb"] < 100  # 64 MB, and what is being written and read


@pytest.mark.stress
@pytest.mark.parametrize("lap", range(4))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_400_random_kills(shape, large, lap, rng):
    producers, consumers = SHAPES[shape]
    figures = storm(
        600, producers=producers, consumers=consumers, kills=MANY, large=large,
        seed=rng.randrange(2**32), capacity=(16, 1, 64, 3)[lap], pause=(0.008, 0.02)[lap % 2],
    )  # fmt: skip
    assert figures["worst_stall_ms"] < 5000
    assert figures["memory_mb"] < 100  # 64 MB, and what is being written and read


# --- chosen moments -------------------------------------------------------------------------------


def let_run(seconds: float) -> None:
    """Let the others run for a random while: chance is the purpose, nothing is waited for."""
    system_select.select([], [], [], seconds)


class Crowd:
    """Children that each send or receive one item after another, and say so."""

    def __init__(self, capacity: int) -> None:
        self.channel: Channel[Any] = Channel(capacity)
        self.hold, self.keep = self.channel.sender, self.channel.receiver

    def become(self, role: str) -> Any:
        """In a child: an end of one's own, and nothing inherited."""
        end = getattr(self.channel, role)
        self.hold.close()
        self.keep.close()
        return end

    def receive_one(self, me: Child) -> None:
        with self.become("receiver") as receiver:
            me.say("ready")
            me.say(receiver.receive())
            me.hear()

    def send_one(self, me: Child, item: Any) -> None:
        with self.become("sender") as sender:
            me.say("ready")
            sender.send(item)
            me.say("sent")
            me.hear()


@pytest.fixture(params=[1, 4])
def crowd(request) -> Iterator[Crowd]:
    crowd = Crowd(request.param)
    yield crowd
    crowd.hold.close()
    crowd.keep.close()
    del crowd.hold, crowd.keep, crowd.channel  # pytest keeps a fixture's value for too long


@contextmanager
def children(*bodies: tuple[Any, ...]) -> Iterator[list[Child]]:
    """Start children; each has said that it is ready, and then it blocked."""
    with ExitStack() as stack:
        processes = [stack.enter_context(child(*body)) for body in bodies]
        for process in processes:
            assert process.hear() == "ready"
            process.wait_until_blocked()
        yield processes


@pytest.mark.parametrize("stopped", [False, True], ids=["asleep", "stopped"])
@pytest.mark.parametrize("first", [0, 1, 2], ids=["first", "second", "third"])
def test_killed_while_blocked_in_receive(crowd, stopped, first):
    """Whoever is killed, the next item comes to one of those who are left."""
    with children(*[(crowd.receive_one,)] * 3) as receivers:
        victim = receivers.pop(first)
        if stopped:
            victim.stop()
        victim.kill()
        crowd.hold.send("a", timeout=PATIENCE)
        crowd.hold.send("b", timeout=PATIENCE)
        assert sorted(process.hear() for process in receivers) == ["a", "b"]


@pytest.mark.parametrize("first", [0, 1, 2], ids=["first", "second", "third"])
def test_killed_with_the_doorbell_pending(crowd, first):
    """One sleeper is stopped; an item comes, and may have woken just that one; it is killed."""
    with children(*[(crowd.receive_one,)] * 3) as receivers:
        victim = receivers.pop(first)
        victim.stop()
        crowd.hold.send("a", timeout=PATIENCE)
        victim.kill()
        assert crowd.hold.send("b", timeout=PATIENCE) is None
        assert sorted(process.hear() for process in receivers) == ["a", "b"]


@pytest.mark.parametrize("first", [0, 1], ids=["first", "second"])
def test_killed_with_the_only_doorbell_pending(crowd, first):
    """No later item comes to wake the other one: it must get what the victim was woken for."""
    with children(*[(crowd.receive_one,)] * 2) as receivers:
        victim = receivers.pop(first)
        victim.stop()
        crowd.hold.send("a", timeout=PATIENCE)
        victim.kill()
        assert receivers[0].hear() == "a"


def test_killed_with_the_end_pending(crowd):
    """The stream has ended while a sleeper was stopped: the others hear of it all the same."""
    outcomes = []

    def receive_to_the_end(me):
        with crowd.become("receiver") as receiver:
            me.say("ready")
            me.say(list(receiver))

    with children(*[(receive_to_the_end,)] * 3) as receivers:
        victim = receivers.pop(1)
        victim.stop()
        crowd.hold.close()
        outcomes += [process.hear() for process in receivers]
        victim.kill()
        assert list(crowd.keep) == []
    assert outcomes == [[], []]


@pytest.mark.parametrize("stopped", [False, True], ids=["asleep", "stopped"])
@pytest.mark.parametrize("first", [0, 1, 2], ids=["first", "second", "third"])
def test_killed_while_blocked_in_send(crowd, stopped, first):
    capacity = fill(crowd)
    with children(*[(crowd.send_one, number) for number in range(3)]) as senders:
        victim = senders.pop(first)
        if stopped:
            victim.stop()
        victim.kill()
        for _ in range(capacity):
            assert crowd.keep.receive(timeout=PATIENCE) == "filler"
        got = {crowd.keep.receive(timeout=PATIENCE) for _ in range(2)}
        assert got == {0, 1, 2} - {first}
        assert [process.hear() for process in senders] == ["sent", "sent"]
        with pytest.raises(ChannelEmpty):
            crowd.keep.try_receive()


@pytest.mark.parametrize("first", [0, 1], ids=["first", "second"])
def test_killed_with_the_news_of_room_pending(crowd, first):
    """Full, two wait; one is stopped, one place becomes free; the stopped one is killed."""
    fill(crowd)
    with children(*[(crowd.send_one, number) for number in range(2)]) as senders:
        victim = senders.pop(first)
        victim.stop()
        assert crowd.keep.receive(timeout=PATIENCE) == "filler"
        victim.kill()
        assert senders[0].hear() == "sent"


def fill(crowd: Crowd) -> int:
    count = 0
    try:
        while True:
            crowd.hold.try_send("filler")
            count += 1
    except ChannelFull:
        return count


def test_killed_while_blocked_before_a_large_message_has_room():
    """It waits for bytes rather than for a place; what it had reserved is free again."""
    crowd = Crowd(10)
    big = bytes(40 << 20)
    crowd.hold.send(big)
    for _ in range(3):
        with children((crowd.send_one, big)) as (victim,):
            victim.kill()
    assert len(crowd.keep.receive(timeout=PATIENCE)) == len(big)
    crowd.hold.send(big, timeout=PATIENCE)
    assert len(crowd.keep.receive(timeout=PATIENCE)) == len(big)
    with pytest.raises(ChannelEmpty):
        crowd.keep.try_receive()


def test_receivers_killed_with_large_messages_in_their_hands_leave_the_room():
    """80 of them held 1 MB each: more than the channel has room for."""
    crowd = Crowd(4)
    message = os.urandom(1 << 20)

    def take_and_wait(me):
        receiver = crowd.become("receiver")
        taken = receiver.receive()
        me.say(len(taken))
        signal.pause()

    for _ in range(80):
        crowd.hold.send(message, timeout=PATIENCE)
        with child(take_and_wait) as victim:
            assert victim.hear() == len(message)
            victim.kill()
    for _ in range(4):
        crowd.hold.try_send(message)
    assert crowd.keep.receive_many(4) == [message] * 4


@pytest.mark.parametrize("role", ["sender", "receiver"])
@pytest.mark.parametrize("size", [0, 300_000], ids=["small", "large"])
def test_stopped_anywhere_then_killed(role, size, rng):
    """A holder of whatever there is to hold is stopped for a while: SIGKILL frees it all."""
    crowd = Crowd(3)
    payload = bytes(size)

    def work(me):
        end = crowd.become(role)
        me.say("ready")
        while True:
            _ = end.send(payload) if role == "sender" else end.receive()

    for _ in range(12):
        with child(work) as victim:
            victim.hear()
            over = threading.Event()
            partner = Running(keep_going, crowd, role, payload, over)
            let_run(rng.uniform(0.0005, 0.004))
            os.kill(victim.pid, signal.SIGSTOP)
            let_run(rng.uniform(0.0, 0.003))
            victim.kill()
            over.set()
            unblock(crowd, role, payload, partner)
    pass_one(crowd)


def pass_one(crowd: Crowd) -> None:
    """The channel works: what is sent now arrives, after what was left in it."""
    while True:
        try:
            crowd.keep.try_receive()
        except ChannelEmpty:
            break
    crowd.hold.send("at last", timeout=PATIENCE)
    assert crowd.keep.receive(timeout=PATIENCE) == "at last"


def keep_going(crowd: Crowd, role: str, payload: bytes, over: threading.Event) -> None:
    """Do the opposite of the victim in this process, until told to stop."""
    while not over.is_set():
        try:
            if role == "sender":
                crowd.keep.receive(timeout=PATIENCE)
            else:
                crowd.hold.send(payload, timeout=PATIENCE)
        except TimeoutError:
            raise AssertionError("hung with a killed process") from None


def unblock(crowd: Crowd, role: str, payload: bytes, partner: Running) -> None:
    """Give the partner, who waits for the victim, something to end with."""
    while partner.is_alive():
        try:
            if role == "sender":
                crowd.hold.try_send(payload)
            else:
                crowd.keep.try_receive()
        except (ChannelFull, ChannelEmpty):
            partner.join(0.001)
    partner.result()


def test_a_stopped_process_makes_no_timeout_late(rng):
    """It may be stopped inside the channel's innermost; who gave a timeout gets an answer."""
    crowd = Crowd(2)

    def work(me):
        sender, receiver = crowd.channel.sender, crowd.channel.receiver
        crowd.hold.close()
        crowd.keep.close()
        me.say("ready")
        while True:
            for operation in (lambda: sender.try_send(1), receiver.try_receive):
                try:
                    operation()
                except (ChannelFull, ChannelEmpty):
                    continue

    with child(work) as victim:
        victim.hear()
        for _ in range(40):
            let_run(rng.uniform(0.0002, 0.002))
            victim.stop()
            watchdog = threading.Timer(2 * LATE, victim.resume)
            watchdog.start()
            began = time.monotonic()
            for operation in (
                lambda: crowd.keep.receive(timeout=0.01),
                lambda: crowd.hold.send("x", timeout=0.01),
            ):
                try:
                    operation()
                except TimeoutError:
                    continue
            took = time.monotonic() - began
            watchdog.cancel()
            watchdog.join()
            assert took < LATE, "a timeout waited for a stopped process"
            victim.resume()


def test_ends_in_messages_die_with_their_takers(rng):
    """Killed while they take ends out of messages, they leave none open for ever."""
    carrier: Channel[Any] = Channel(64)
    data: Channel[Any] = Channel(1000)
    data_receiver = data.receiver

    def take(me):
        data_receiver.close()
        hold.close()
        receiver = carrier.receiver
        me.say("ready")
        ends = []
        while True:
            end = receiver.receive()
            end.send(os.getpid())
            ends.append(end)

    with carrier.receiver as keep:
        with data.sender as hold:
            for _ in range(10):
                for _ in range(8):
                    carrier.send(hold.clone(), timeout=PATIENCE)
                with child(take) as one, child(take) as other:
                    for victim in (one, other):
                        victim.hear()
                        let_run(rng.uniform(0.0, 0.002))
                        victim.kill()
                drop_all(keep)
        got = list(data_receiver)  # to the end: nobody holds a sender any more
    assert len(got) <= 80


def drop_all(receiver: Any) -> None:
    try:
        while True:
            receiver.try_receive()
    except ChannelEmpty:
        collect()


@pytest.mark.parametrize("size", [0, 300_000], ids=["small", "large"])
def test_the_end_comes_soon_after_the_last_sender_is_killed(size):
    """Asleep, polling, and in another process: everybody hears of it."""
    crowd = Crowd(4)
    payload = bytes(size)

    def produce(me):
        sender = crowd.become("sender")
        me.say("ready")
        while True:
            sender.send(payload)

    def consume(me):
        receiver = crowd.become("receiver")
        me.say("ready")
        for _ in receiver:
            pass
        me.say("over")

    with child(produce) as one, child(produce) as other, child(consume) as consumer:
        for process in (one, other, consumer):
            process.hear()
        crowd.hold.close()
        one.kill()
        assert crowd.keep.receive(timeout=PATIENCE) == payload
        began = time.monotonic()
        other.kill()
        assert consumer.hear(LATE) == "over"
        with pytest.raises(EndOfChannel):
            while True:
                crowd.keep.receive(timeout=PATIENCE)
        assert time.monotonic() - began < LATE
        consumer.end_well()
    crowd.keep.close()


def test_senders_hear_that_the_last_receiver_was_killed():
    crowd = Crowd(2)

    def produce(me):
        sender = crowd.become("sender")
        me.say("ready")
        try:
            while True:
                sender.send("x")
        except BrokenChannelError as error:
            me.say(error.item)

    def consume(me):
        receiver = crowd.become("receiver")
        me.say("ready")
        for _ in receiver:
            pass

    with child(consume) as consumer:
        consumer.hear()
        with child(produce) as one, child(produce) as other:
            for process in (one, other):
                process.hear()
            crowd.keep.close()
            let_run(0.003)
            consumer.kill()
            assert [process.hear(LATE) for process in (one, other)] == ["x", "x"]
            one.end_well()
            other.end_well()
    crowd.hold.close()


def test_a_killed_peer_of_a_pair_costs_nobody_else(rng):
    """Requests and replies, with the server killed in the middle, again and again."""
    for _ in range(10):
        left, right = Channel.pair()

        def echo(me, left=left, right=right):
            left.close()
            me.say("ready")
            for item in right:
                right.send(item)

        with child(echo) as server:
            server.hear()
            right.close()
            killer = threading.Timer(rng.uniform(0.0005, 0.005), server.kill)
            killer.start()
            with pytest.raises((EndOfChannel, BrokenChannelError)):
                while True:
                    left.send(b"x" * 1000, timeout=PATIENCE)
                    left.receive(timeout=PATIENCE)
            killer.join()
        left.close()


def test_makers_killed_with_their_channels_leave_nothing(rng):
    """Neither here nor in /dev/shm: the check at the end of each test looks there."""

    def make_and_die(me):
        channel = Channel()
        channel.send(b"x" * 200_000)
        channel.send(Channel().sender)
        me.say()
        while True:
            channel.send(channel.receive())

    for _ in range(10):
        with child(make_and_die) as victim:
            victim.hear()
            let_run(rng.uniform(0, 0.002))
            victim.kill()
