"""Bytes and descriptors over a link."""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from functools import partial

import pytest

from parmap._memory.fdpass import Link, flatten
from parmap._memory.outbox import Outbox
from parmap.errors import InternalError, SerializationError


@pytest.fixture
def links():
    one, other = Link.pair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def null():
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def receive(link, size, chunk=1 << 16):
    """Receive exactly `size` bytes; return them and all descriptors."""
    data, fds = bytearray(), []
    buffer = bytearray(chunk)
    while len(data) < size:
        count, more = link.receive_into(memoryview(buffer)[: min(chunk, size - len(data))])
        assert count, f"the stream ended after {len(data)} of {size} bytes"
        data += buffer[:count]
        fds += more
    return bytes(data), fds


def close_all(fds):
    for fd in fds:
        os.close(fd)


def shrink(link, size=1):
    with socket.socket(fileno=os.dup(link.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def test_bytes_and_descriptors_arrive(links, null):
    links[0].send_all([b"hello ", b"", memoryview(array.array("q", [1]))], [null])

    data, fds = receive(links[1], 14)

    assert data == b"hello " + (1).to_bytes(8, sys.byteorder)
    assert len(fds) == 1
    assert os.path.samestat(os.fstat(fds[0]), os.fstat(null))
    assert not os.get_inheritable(fds[0])
    close_all(fds)


@pytest.mark.parametrize("count", [1, 250, 251, 253, 254, 1000, 2501])
def test_masses_of_descriptors(links, null, count):
    """More than the kernel's 253 travel as several messages, in order and each once."""
    files = [os.dup(null) for _ in range(count)]
    sender = threading.Thread(target=links[0].send_all, args=([b"x" * 5000], files))
    sender.start()

    data, fds = receive(links[1], 5000)

    sender.join()
    assert data == b"x" * 5000
    assert len(fds) == count
    close_all(fds + files)


def test_descriptors_keep_their_order(links):
    pipes = [os.pipe() for _ in range(300)]
    links[0].send_all([b"x" * 100], [write for _, write in pipes])

    _, fds = receive(links[1], 100)

    for (read, _), fd in zip(pipes, fds, strict=True):
        assert os.fstat(read).st_ino == os.fstat(fd).st_ino
    close_all([fd for ends in pipes for fd in ends] + fds)


def test_descriptors_need_bytes_to_ride_on(links, null):
    with pytest.raises(ValueError, match="byte to ride on"):
        links[0].send_some(deque(), deque([null]))
    with pytest.raises(ValueError, match="byte"):
        links[0].send_some(flatten([b"x"]), deque([null] * 501))
    close_all(receive(links[1], 1)[1])


@pytest.mark.parametrize("size", [0, 1, 100, 2_000_000])
def test_partial_sends_send_descriptors_exactly_once(links, null, size):
    """With the smallest send buffer nearly every send is cut short, or refused."""
    shrink(links[0])
    links[0].setblocking(False)
    outbox = Outbox(links[0])
    done: list[int] = []
    buffers = [b"h" * 40, b"p" * size, b"t"]
    for number in range(5):
        outbox.post(buffers, [null] * (number * 150), partial(done.append, number))
    expected = b"".join(buffers) * 5

    data, fds, stalls = bytearray(), [], 0
    buffer = bytearray(1 << 16)
    while len(data) < len(expected):
        outbox.flush()
        stalls += bool(outbox)
        count, more = links[1].receive_into(buffer)
        data += buffer[:count]
        fds += more

    assert bytes(data) == expected
    assert len(fds) == 1500
    outbox.flush()
    assert done == [0, 1, 2, 3, 4]
    assert not outbox
    assert stalls or size < 100
    close_all(fds)


def test_a_message_of_thousands_of_buffers(links):
    """IOV_MAX is 1024; a memoryview for each byte is more."""
    buffers = [bytes([number % 256]) for number in range(5000)]
    links[0].send_all(buffers)
    assert receive(links[1], 5000)[0] == b"".join(buffers)


def test_a_full_socket_takes_nothing_and_loses_nothing(links, null):
    links[0].setblocking(False)
    total = 0
    while sent := links[0].send_some(flatten([b"x" * 4096]), deque()):
        total += sent
    fds, views = deque([null]), flatten([b"end"])

    assert links[0].send_some(views, fds) == 0
    assert (len(views), len(fds)) == (1, 1)

    receive(links[1], total)
    assert links[0].send_some(views, fds) == 3
    assert (len(views), len(fds)) == (0, 0)
    close_all(receive(links[1], 3)[1])


def test_nothing_to_read_on_a_link_that_does_not_wait(links):
    links[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        links[0].receive_into(bytearray(1))


def test_send_all_needs_a_blocking_link(links):
    links[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        links[0].send_all([bytes(10_000_000)])
    with pytest.raises(InternalError, match="cut short"):
        links[0].send_all([b"never mixed into the message before"])


def test_the_end_of_the_stream(links):
    links[0].send_all([b"last"])
    links[0].close()
    links[0].close()

    assert receive(links[1], 4)[0] == b"last"
    assert links[1].receive_into(bytearray(1)) == (0, [])
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        links[1].send_all([b"x"])
    assert links[0].closed
    assert "closed" in repr(links[0])


def test_shutdown_ends_the_stream_although_others_hold_the_socket(links):
    copy = os.dup(links[0].fileno())
    links[0].shutdown()
    assert links[1].receive_into(bytearray(1)) == (0, [])
    links[0].shutdown()
    os.close(copy)


def test_a_killed_peer_with_unread_data_is_the_end_and_not_an_error(links, in_child):
    """The kernel says ECONNRESET then; only the first read would show it."""

    def die_unread():
        select.select([links[1]], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    links[0].send_all([b"never read"])
    assert in_child(lambda: links[0].close() or die_unread()) == -signal.SIGKILL
    links[1].close()
    assert links[0].receive_into(bytearray(10)) == (0, [])


def test_descriptors_nobody_received_are_closed_with_the_link(links, null):
    read, write = os.pipe()
    links[0].send_all([b"x"], [write])
    os.close(write)
    links[0].close()
    links[1].close()
    assert os.read(read, 1) == b""
    os.close(read)


@pytest.mark.parametrize("waiting", [0, 1])
@pytest.mark.parametrize("size", [1, 300_000])
def test_a_message_that_is_sent_at_once_keeps_its_turn(links, size, waiting):
    """What does not go at once goes later, and behind what waited before."""
    shrink(links[0])
    links[0].setblocking(False)
    outbox = Outbox(links[0])
    before = [b"b" * 100_000] * waiting
    if before:
        outbox.post(before)
    outbox.send(b"m" * size)
    outbox.send(b"last")

    expected = b"".join(before) + b"m" * size + b"last"
    data, buffer = bytearray(), bytearray(1 << 16)
    while len(data) < len(expected):
        outbox.flush()
        count, _ = links[1].receive_into(buffer)
        data += buffer[:count]
    assert bytes(data) == expected
    assert not outbox


def test_a_dropped_message_tells_its_owner(links, null):
    links[0].setblocking(False)
    outbox = Outbox(links[0])
    told = []
    outbox.post([bytes(10_000_000)], [null], lambda: told.append(1))
    outbox.post([b"x"], done=lambda: told.append(2))
    outbox.flush()
    assert outbox

    outbox.clear()

    assert told == [1, 2]
    assert not outbox
    close_all(links[1].receive_into(bytearray(1))[1])


def test_a_dead_peer_raises_from_flush(links):
    links[1].close()
    outbox = Outbox(links[0])
    outbox.post([b"x"])
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        outbox.flush()
    outbox.clear()


def test_odd_buffers_are_flattened():
    numpy = pytest.importorskip("numpy")
    views = flatten(
        [numpy.arange(6, dtype="i2").reshape(2, 3), numpy.empty((0, 3)), bytearray(b"ab")]
    )
    assert [view.nbytes for view in views] == [12, 2]
    assert all(view.format == "B" for view in views)


def test_a_system_that_passes_no_descriptors_says_so(monkeypatch, null):
    monkeypatch.setenv("PARMAP_PORTABLE", "2")
    one, other = Link.pair()
    one.send_all([b"plain bytes do work"])
    assert receive(other, 19) == (b"plain bytes do work", [])
    with pytest.raises(SerializationError, match="cannot pass"):
        one.send_all([b"x"], [null])
    one.close()
    other.close()


def test_a_receiver_without_room_gets_an_error_and_keeps_nothing():
    code = """if True:
        import os, resource
        from parmap._memory.fdpass import Link
        one, other = Link.pair()
        r, w = os.pipe()
        one.send_all([b"x"], [r] * 100)
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        try:
            other.receive_into(bytearray(9))
        except OSError as error:
            assert "ulimit -n" in str(error), error
        else:
            raise SystemExit("no error")
        assert len(os.listdir("/proc/self/fd")) == before
        print("fine")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_closed_standard_streams_are_never_replaced_by_descriptors():
    """Else the next print goes into somebody's memory."""
    code = """if True:
        import os
        for fd in (0, 1, 2):
            os.close(fd)
        from parmap._memory.arena import Arena
        from parmap._memory.fdpass import Link
        from parmap._memory.keeper import Keeper
        from parmap._memory.segment import Segment
        one, other = Link.pair()
        segment, arena, keeper = Segment.create(1), Arena.create(), Keeper.create()
        block = arena.allocate(1)
        one.send_all([b"x"], [segment.fileno()] * 5)
        os.closerange(0, 3)
        fds = other.receive_into(bytearray(1))[1]
        keeper.put(1, fds)
        fds += keeper.take(1)
        report = os.environ["REPORT"]
        taken = [fd for fd in os.listdir("/proc/self/fd") if int(fd) < 3]
        # listdir itself uses one
        assert len(fds) == 10 and min(fds) > 2
        with open(report, "w") as file:
            file.write(repr([name for fd in taken
                             if "parmap" in (name := os.path.realpath(f"/proc/self/fd/{fd}"))]))
        os._exit(0)
    """
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        env = {**os.environ, "REPORT": str(report)}
        subprocess.run([sys.executable, "-c", code], env=env, check=False)
        assert report.read_text() == "[]"


def test_too_many_descriptors_on_their_way_is_said_before_the_first_byte():
    """An unprivileged user may have only so many in flight."""
    if os.getuid() != 0:
        pytest.skip("needs a user to become")
    code = """if True:
        import errno, os, resource
        from collections import deque
        from parmap._memory.fdpass import Link, flatten
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        one, other = Link.pair()
        fds, sent = deque([0] * 10), 0
        try:
            for _ in range(100):
                sent += one.send_some(flatten([b"x"]), deque(fds))
        except OSError as error:
            assert error.errno == errno.ETOOMANYREFS and "ulimit -n" in str(error), error
        for _ in range(sent):
            received = other.receive_into(bytearray(1))
            assert received[0] == 1 and len(received[1]) == 10
            os.closerange(min(received[1]), max(received[1]) + 1)
        assert one.send_some(flatten([b"x"]), deque(fds)) == 1
        os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
