"""Descriptors that outlive their sender."""

from __future__ import annotations

import gc
import os
import pickle
import signal

import pytest

from parmap._memory.keeper import Keeper
from parmap._memory.transit import FdSink, FdSource, exporting, importing
from parmap.errors import SerializationError

pytestmark = pytest.mark.usefixtures("platform")


@pytest.fixture
def keeper(platform):
    keeper = Keeper.create()
    yield keeper
    keeper.close()
    keeper.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def close_all(fds):
    for fd in fds:
        os.close(fd)


def inode(fd):
    return os.fstat(fd).st_ino


def test_what_was_put_is_taken_once(keeper, pipe):
    assert keeper.put(1, pipe)
    fds = keeper.take(1)
    assert list(map(inode, fds)) == list(map(inode, pipe))
    assert keeper.take(1) is None
    close_all(fds)


def test_it_outlives_its_sender(keeper, in_child):
    def put_and_die():
        read, write = os.pipe()
        os.write(write, b"still here")
        keeper.put(7, [read])
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(put_and_die) == -signal.SIGKILL
    fds = keeper.take(7)
    assert os.read(fds[0], 100) == b"still here"
    close_all(fds)


def test_taking_drops_what_a_killed_one_left_and_keeps_what_comes(keeper, pipe):
    for tag in (1, 2, 3, 5):
        keeper.put(tag, pipe[:1])
    close_all(keeper.take(3))
    assert keeper.take(1) is None
    assert keeper.take(4) is None, "5 must not be lost by asking for 4"
    close_all(keeper.take(5))


def test_a_shelf_gives_copies_in_any_order(keeper):
    pipes = [os.pipe() for _ in range(20)]
    for tag, ends in enumerate(pipes):
        assert keeper.put(tag, ends[:1])
    for tag in (7, 0, 19, 7):
        fds = keeper.copy(tag)
        assert inode(fds[0]) == inode(pipes[tag][0])
        close_all(fds)
    assert keeper.copy(20) is None
    assert keeper.drop(7)
    assert not keeper.drop(7)
    assert keeper.copy(7) is None
    for tag in range(20):
        fds = keeper.copy(tag)
        assert (fds is None) == (tag == 7)
        close_all(fds or ())
    for ends in pipes:
        close_all(ends)


def test_an_entry_left_twice_by_a_kill_is_dropped_twice(keeper, pipe):
    for tag in (1, 2, 2, 3):
        keeper.put(tag, pipe[:1])
    assert keeper.drop(2)
    assert keeper.copy(2) is None
    for tag in (1, 3):
        close_all(keeper.copy(tag))


def test_a_full_one_says_so_and_still_gives_everything(keeper, pipe):
    count = 0
    while keeper.put(count, pipe[:1]):
        count += 1
    assert count >= 50
    assert keeper.copy(count) is None
    for tag in range(0, count, 7):
        close_all(keeper.copy(tag))
        assert keeper.drop(tag)
    for tag in range(count):
        fds = keeper.copy(tag)
        assert (fds is None) == (tag % 7 == 0)
        close_all(fds or ())


def test_it_travels(keeper, pipe):
    keeper.put(1, pipe)
    sink = FdSink()
    with exporting(sink):
        data = pickle.dumps(keeper)
    source = FdSource(sink.take())
    with importing(source):
        twin = pickle.loads(data)
    source.close_unclaimed()
    close_all(twin.take(1))
    assert keeper.take(1) is None
    assert "Keeper" in repr(twin)
    twin.close()


def test_misuse(keeper, pipe, monkeypatch):
    for tag, fds in [(-1, pipe), (1 << 63, pipe), (1, []), (1, [pipe[0]] * 251)]:
        with pytest.raises(ValueError, match=r"tag|descriptors"):
            keeper.put(tag, fds)
    monkeypatch.setenv("PARMAP_PORTABLE", "2")
    with pytest.raises(SerializationError, match="cannot pass"):
        Keeper.create()


def test_one_that_is_dropped_in_a_cycle_closes_without_a_word(platform, recwarn):
    """Python chooses whom of a cycle it finalises first; from 3.13 on sockets are in it."""
    keeper = Keeper.create()
    fds = [keeper._in.fileno(), keeper._out.fileno()]
    cycle = [keeper, keeper._in, keeper._out]
    cycle.append(cycle)
    del keeper, cycle
    gc.collect()

    assert [str(warning.message) for warning in recwarn] == []
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
