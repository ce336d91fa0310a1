"""Messages of every size and kind arrive whole, equal and independent."""

from __future__ import annotations

import array as array_module
import hashlib
import random
import signal

import numpy as np
import pytest

from parmap.channel import Channel
from parmap.errors import ChannelFull
from support.channel_peers import Running, child
from support.gates import PATIENCE
from support.scripts import output_of

K, M = 1 << 10, 1 << 20
# Where a buffer, a page, a slot of an arena or the limit of the channel may end; and around it.
EDGES = [128, 256, 512, K, 4 * K, 16 * K, 64 * K, 128 * K, 256 * K, 512 * K, M, 2 * M, 8 * M]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def there_and_back(item, channel=None):
    channel = channel or Channel()
    channel.send(item, timeout=PATIENCE)
    return channel.receive(timeout=PATIENCE)


def test_every_small_size_arrives():
    channel = Channel(1)
    for size in range(700):
        item = noise(size)
        assert there_and_back(item, channel) == item


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("kind", [bytes, bytearray, "text"], ids=["bytes", "bytearray", "text"])
def test_sizes_around_an_edge_arrive(edge, kind):
    channel = Channel(2)
    for size in (edge - 100, edge - 64, edge - 1, edge, edge + 1, edge + 64):
        item = noise(size)
        item = item.decode("latin-1") if kind == "text" else kind(item)
        assert there_and_back(item, channel) == item


def test_a_message_beyond_the_limit_goes_alone():
    """70 MB do not fit into the 64 MB that may wait; the message still goes when nothing waits."""
    channel = Channel()
    large = noise(70 * M)
    with channel.sender as sender, channel.receiver as receiver:
        for _ in range(2):
            sender.try_send(large)
            with pytest.raises(ChannelFull):
                sender.try_send(b"x" * M)
            assert receiver.receive(timeout=PATIENCE) == large
        sender.send("small")
        with pytest.raises(ChannelFull):
            sender.try_send(large)
        assert receiver.receive(timeout=PATIENCE) == "small"
        assert there_and_back(M * b"y", channel) == M * b"y"


def test_a_large_message_waits_for_its_turn():
    channel = Channel()
    large = noise(66 * M)
    with channel.sender as sender, channel.receiver as receiver:
        sender.send("first")
        thread = Running(sender.send, large)
        thread.wait_until_blocked()
        assert receiver.receive(timeout=PATIENCE) == "first"
        thread.result()
        assert receiver.receive(timeout=PATIENCE) == large


def test_large_messages_between_processes():
    """Both ways, and what was sent last survives the sender."""
    left, right = Channel.pair()
    sizes = [0, 1, 200, 70 * K, 3 * M, 100, 30 * M, 5]

    def echo(me):
        left.close()
        for item in right:
            right.send((hashlib.sha256(item).digest(), item[::-1]))

    with child(echo) as process:
        right.close()
        for size in sizes:
            item = noise(size)
            left.send(item)
            assert left.receive(timeout=PATIENCE) == (hashlib.sha256(item).digest(), item[::-1])
        left.close()
        process.end_well()


def test_random_sizes_in_a_stream(rng):
    """Slots of many sizes are freed and used again, while others are still full."""
    channel = Channel(5)
    seeds = [(rng.randrange(2**32), int(10 ** rng.uniform(0, 6.2))) for _ in range(150)]

    def send(me):
        with channel.sender as sender:
            me.say()
            for number, (seed, size) in enumerate(seeds):
                sender.send((number, random.Random(seed).randbytes(size)))
            me.say()
            signal.pause()

    with child(send) as process:
        process.hear()
        receiver = channel.receiver
        got = []
        for number, (seed, size) in enumerate(seeds):
            got.append(receiver.receive(timeout=PATIENCE))
            assert got[-1] == (number, random.Random(seed).randbytes(size))
            if len(got) == 20:
                got.clear()
        process.hear()


def test_a_received_message_does_not_change_when_others_follow():
    """Its memory is its own: what is used again for the next message is not under it."""
    channel = Channel(2)
    got = []
    for number in range(30):
        channel.send(bytearray([number]) * (200 * K))
        channel.send(np.full(40 * K, number))
        got += [channel.receive(timeout=PATIENCE), channel.receive(timeout=PATIENCE)]
    for number in range(30):
        assert set(got[2 * number]) == {number}
        assert (got[2 * number + 1] == number).all()


@pytest.mark.stress
def test_one_gigabyte():
    channel = Channel()
    item = np.arange(1 << 27)
    for _ in range(2):
        channel.send(item)
        assert np.array_equal(channel.receive(timeout=PATIENCE), item)
    text = b"x" * (1 << 30)
    assert there_and_back(text, channel) == text


# --- arrays ---------------------------------------------------------------------------------------

SHAPES = [(), (0,), (3, 0, 2), (7,), (300, 200), (60, 50, 40), (1 << 18,)]
DTYPES = [
    "?",
    "i1",
    "<i4",
    ">i4",
    "<u8",
    "<f2",
    "<f8",
    ">f8",
    "<c16",
    "S5",
    "<U3",
    "M8[ns]",
    "m8[D]",
]


def array(shape, dtype):
    size = int(np.prod(shape)) if shape else 1
    return np.frombuffer(noise(8 * size)[:size], "u1").astype("i2").astype(dtype).reshape(shape)


def assert_private_copy(copy, original):
    assert (copy.dtype, copy.shape) == (original.dtype, original.shape)
    assert np.array_equal(copy, original)
    assert copy.flags.writeable
    assert not np.shares_memory(copy, original)
    if copy.size and copy.dtype != object:
        before = original.copy()
        copy[...] = copy.ravel()[0]
        assert np.array_equal(original, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_arrive_equal_private_and_writable(dtype):
    for shape in SHAPES:
        original = array(shape, dtype)
        assert_private_copy(there_and_back(original), original)


ARRANGEMENTS = {
    "Fortran order": lambda a: np.asfortranarray(a),
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2, ::3],
    "reversed": lambda a: a[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[0], (5, a.shape[1])),
    "a view": lambda a: a[10:, 5:],
    "a field of a record": lambda a: np.rec.fromarrays([a, a * 2], names="p,q")["q"],
    "records": lambda a: np.rec.fromarrays([a, a * 2], names="p,q").view(np.ndarray),
    "objects": lambda a: np.array([[1, "two"], [None, [3]]], dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("how", ARRANGEMENTS)
def test_arrays_in_any_order_arrive_equal_private_and_writable(how):
    original = ARRANGEMENTS[how](array((300, 200), "<f8"))
    copy = there_and_back(original)
    assert_private_copy(copy, original)


def test_a_readonly_array_arrives_writable():
    original = array((50_000,), "<f8")
    original.flags.writeable = False
    assert_private_copy(there_and_back(original), original)


def test_arrays_in_one_message_stay_apart_and_the_same_one_stays_one():
    one, other = np.zeros(50_000), np.ones(50_000)
    a, b, c, [d] = there_and_back((one, other, one, [one[:10]]))
    assert a is c
    assert not np.shares_memory(a, b)
    assert not np.shares_memory(a, d)
    assert (b == 1).all()


def test_two_receivers_never_share_an_array():
    channel = Channel()
    original = np.arange(100_000)
    for _ in range(6):
        channel.send(original)
    copies = [channel.receive() for _ in range(6)]
    for number, copy in enumerate(copies):
        copy[:] = number
    for number, copy in enumerate(copies):
        assert (copy == number).all()


def test_arrays_between_processes():
    left, right = Channel.pair()

    def double(me):
        left.close()
        for item in right:
            np.multiply(item, 2, out=item)
            right.send(item)

    with child(double) as process:
        right.close()
        for size in (0, 10, 10_000, 1_000_000):
            left.send(np.arange(size))
            assert np.array_equal(left.receive(timeout=PATIENCE), 2 * np.arange(size))
        left.close()
        process.end_well()


def test_other_buffers_arrive_too():
    item = array_module.array("d", range(30_000))
    copy = there_and_back(item)
    assert copy == item
    copy[0] = 7.0
    assert item[0] == 0.0


# --- what is by value -----------------------------------------------------------------------------

BY_VALUE = """
    import enum
    from parmap import Pool
    from parmap.channel import Channel

    class Point:
        def __init__(self, x):
            self.x = x
        def twice(self):
            return Point(2 * self.x)

    class Color(enum.Enum):
        RED = 1

    def relay(inbox, outbox):
        with outbox:
            for item in inbox:
                if isinstance(item, list):
                    fn, argument = item
                    item = fn(argument)
                outbox.send(item)

    there, back = Channel(), Channel()
    with Pool(1) as pool:
        with there.sender as sender:
            done = pool.submit(relay, there.receiver, back.sender)
            factor = 3
            sender.send([lambda x: x * factor, 14])
            sender.send(Point(5))
            sender.send([Point.twice, Point(21)])
            sender.send(Color.RED)
            sender.send(Point)
            sender.send([lambda p: type(p) is Point, Point(1)])
            sender.send([lambda c: c is Color.RED, Color.RED])
        done.result()
    number, point, doubled, red, cls, same, member = back
    print(number, type(point) is Point, point.x, type(doubled) is Point, doubled.x)
    print(red is Color.RED, cls is Point, same, member)
"""


def test_functions_and_classes_of_main_are_messages(tmp_path):
    assert output_of(BY_VALUE, tmp_path) == "42 True 5 True 42\nTrue True True True\n"


def test_functions_and_classes_of_main_go_through_a_channel_in_one_process(tmp_path):
    source = """
        from parmap.channel import Channel
        class Point: pass
        channel = Channel()
        channel.send(Point())
        channel.send(lambda: Point)
        print(type(channel.receive()) is Point, channel.receive()() is Point)
    """
    assert output_of(source, tmp_path).split()[0] == "True"


def test_local_functions_are_messages_between_processes():
    channel = Channel()
    base = [40]

    def send(me):
        channel.send(lambda x: x + base[0])
        channel.send({"f": lambda: np.ones(20_000)})

    with child(send) as process:
        process.end_well()
    assert channel.receive(timeout=PATIENCE)(2) == 42
    assert channel.receive(timeout=PATIENCE)["f"]().sum() == 20_000


# --- handles inside -------------------------------------------------------------------------------


def test_replies_go_through_the_channel_that_came_with_the_request():
    """Also between large arrays, and many times: descriptors and memory are given back."""
    requests = Channel()

    def serve(me):
        for array, answer in requests.receiver:
            with answer:
                answer.send(array.sum())

    hold = requests.sender
    with child(serve_without(hold, serve)) as process:
        for number in range(60):
            reply = Channel()
            receiver = reply.receiver
            hold.send((np.full(20_000, number), reply.sender))
            assert list(receiver) == [number * 20_000]
        hold.close()
        process.end_well()


def serve_without(inherited, serve):
    def body(me):
        inherited.close()
        serve(me)

    return body
