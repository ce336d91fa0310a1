"""Large constants lie in a file, which each worker maps for itself."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import random

import pytest

from parmap._wire import mapped
from parmap._wire.mapped import SHARED_FROM, Mapped, from_file, in_file
from parmap._wire.pickling import Encoded

needs_files = pytest.mark.skipif(
    bool(os.environ.get("PARMAP_PORTABLE")), reason="without memory files it is sent"
)


def encoded(*buffers, fds=()):
    return Encoded(b"the pickle", buffers, fds)


def arrived(sent):
    """As it comes to a worker: in pieces, the descriptors as copies."""
    return from_file([bytes(s) for s in sent.segments], [os.dup(fd) for fd in sent.fds])


@needs_files
@pytest.mark.parametrize(
    "sizes", [[SHARED_FROM], [1, SHARED_FROM, 0, 17], [mmap.PAGESIZE] * 300, [SHARED_FROM + 1] * 2]
)
def test_what_arrives_equals_what_was_sent_and_is_aligned(sizes):
    buffers = [random.Random(size).randbytes(size) for size in sizes]
    sent = in_file(encoded(*buffers), 2)
    try:
        assert isinstance(sent, Mapped)
        assert sent.nbytes == len(b"the pickle") + sum(sizes)
        came = arrived(sent)
    finally:
        sent.close()
    assert came.data == b"the pickle"
    assert [bytes(buffer) for buffer in came.buffers] == buffers
    assert not came.fds


@needs_files
def test_each_may_write_into_its_own():
    data = bytearray(b"a" * SHARED_FROM)
    sent = in_file(encoded(data), 2)
    data[:1] = b"z"  # too late
    one, other = arrived(sent).buffers[0], arrived(sent).buffers[0]
    memoryview(one)[:1] = b"b"
    assert (bytes(one[:2]), bytes(other[:2]), bytes(arrived(sent).buffers[0][:2])) == (
        b"ba",
        b"aa",
        b"aa",
    )
    sent.close()


@needs_files
def test_other_descriptors_keep_their_places():
    read_end, write_end = os.pipe()
    sent = in_file(encoded(bytes(SHARED_FROM), fds=[read_end, write_end]), 2)
    came = arrived(sent)
    os.write(came.fds[1], b"x")
    assert os.read(read_end, 1) == b"x"
    for fd in came.fds:
        os.close(fd)
    sent.close()
    for fd in (read_end, write_end):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


@pytest.mark.parametrize("buffers", [(), (bytes(SHARED_FROM - 1),), (bytes(SHARED_FROM // 3),) * 2])
def test_what_is_small_is_sent(buffers):
    made = encoded(*buffers)
    assert in_file(made, 2) is made


def test_to_one_worker_it_is_sent():
    made = encoded(bytes(SHARED_FROM))
    assert in_file(made, 1) is made


def test_without_memory_files_it_is_sent(monkeypatch):
    monkeypatch.setenv("PARMAP_PORTABLE", "1")
    made = encoded(bytes(SHARED_FROM))
    assert in_file(made, 2) is made


@needs_files
@pytest.mark.parametrize("step", ["anonymous_file", "pwrite"])
def test_without_room_it_is_sent(monkeypatch, step):
    def refuse(*args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(mapped if step == "anonymous_file" else os, step, refuse)
    before = os.listdir("/proc/self/fd")
    made = encoded(bytes(SHARED_FROM))
    assert in_file(made, 2) is made
    assert os.listdir("/proc/self/fd") == before


@needs_files
def test_one_write_may_not_be_enough(monkeypatch):
    pwrite, data = os.pwrite, random.Random(1).randbytes(SHARED_FROM)
    monkeypatch.setattr(os, "pwrite", lambda fd, view, at: pwrite(fd, view[:100_000], at))
    sent = in_file(encoded(data), 2)
    assert bytes(arrived(sent).buffers[0]) == data
    sent.close()


@needs_files
def test_a_file_that_cannot_be_mapped_leaves_nothing_open(monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.ENOMEM, "no room")

    sent = in_file(encoded(bytes(SHARED_FROM), fds=[os.dup(0)]), 2)
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OSError, match="no room"):
        arrived(sent)
    assert os.listdir("/proc/self/fd") == before
    sent.close()


@needs_files
def test_arrays_of_any_shape_come_back():
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.arange(SHARED_FROM // 8 + 3), numpy.ones((3, 5), order="F"), numpy.empty(0)]
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(arrays, 5, buffer_callback=buffers.append)
    sent = in_file(Encoded(data, [buffer.raw() for buffer in buffers]), 2)
    came = arrived(sent)
    for one, other in zip(pickle.loads(came.data, buffers=came.buffers), arrays, strict=True):
        assert (one == other).all()
        assert one.flags.writeable
    sent.close()
