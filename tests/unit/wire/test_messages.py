"""Items of a channel: as cheap as they can be, and whole in every form."""

from __future__ import annotations

import mmap
import os
import threading

import numpy as np
import pytest

from parmap._memory.fdpass import MAX_FDS
from parmap._memory.transit import export_fd, import_fd
from parmap._wire.messages import AS_BYTEARRAY, AS_BYTES, AS_MARSHAL, AS_PICKLE, Messages, Parcel
from parmap.errors import SerializationError

LIMIT = 200


@pytest.fixture
def messages():
    return Messages(LIMIT)


def through(messages, parcel):
    """What arrives of a parcel that goes through a block of shared memory."""
    with mmap.mmap(-1, parcel.nbytes + 64) as memory:
        if parcel.form == AS_PICKLE:
            parcel.write(memory, 0)
        else:
            memory[: parcel.nbytes] = bytes(parcel.segments[0])
        fds, parcel.fds = parcel.fds, ()
        return messages.decode_parcel(parcel.form, memory, 0, parcel.nbytes, fds)


@pytest.mark.parametrize(
    "item",
    [None, 5, "text", b"bytes", (1, "a"), [2.5], {3}, frozenset({4}), {"a": 1}, [[1]]],
    ids=repr,
)
def test_a_small_item_is_one_record(messages, item):
    record = messages.encode(item)

    assert type(record) is bytes
    back = messages.decode(record)
    assert (back, type(back)) == (item, type(item))


@pytest.mark.parametrize(
    ("item", "form"),
    [
        (b"x" * LIMIT, AS_BYTES),
        (b"x" * (LIMIT - 5), AS_BYTES),
        ("x" * LIMIT, AS_MARSHAL),
        (bytearray(b"x"), AS_BYTEARRAY),
        ({"a": "x" * LIMIT}, AS_PICKLE),
    ],
)
def test_a_large_item_is_a_parcel_in_the_form_that_copies_least(messages, item, form):
    parcel = messages.encode(item)

    assert isinstance(parcel, Parcel)
    assert parcel.form == form
    back = through(messages, parcel)
    assert (back, type(back)) == (item, type(item))


def test_large_arrays_stay_beside_the_pickle_and_arrive_writable(messages):
    arrays = [np.arange(20_000.0), np.ones(70_000, dtype="u1")]

    parcel = messages.encode(arrays)

    assert len(parcel.segments) == 4  # table, pickle, and both arrays
    back = through(messages, parcel)
    assert all(map(np.array_equal, back, arrays))
    back[0][0] = 7.0


def test_a_lambda_goes_by_value(messages):
    assert Messages(LIMIT).decode_parcel(*_in_bytes(messages.encode(lambda x: x + 1)))(2) == 3


def _in_bytes(parcel):
    with mmap.mmap(-1, parcel.nbytes + 64) as memory:
        parcel.write(memory, 0)
        return parcel.form, memory[: parcel.nbytes], 0, parcel.nbytes, ()


@pytest.mark.parametrize("item", [threading.Lock(), memoryview(b"x"), [threading.Lock()]])
def test_what_cannot_be_pickled_is_refused_without_a_direction(messages, item):
    """A channel leads anywhere."""
    with pytest.raises(SerializationError, match="item") as info:
        messages.encode(item)
    assert info.value.direction is None


class Holder:
    """An object with descriptors, as the ends of channels are."""

    def __init__(self, *fds):
        self.fds = fds

    def __reduce__(self):
        return rebuilt, tuple([export_fd(fd, "pipe") for fd in self.fds])


def rebuilt(*tickets):
    return [import_fd(ticket) for ticket in tickets]


def test_descriptors_go_along_and_those_of_a_parcel_that_is_given_up_are_closed(messages):
    here, there = os.pipe()
    try:
        before = len(os.listdir("/proc/self/fd"))
        messages.encode(Holder(there)).close()
        assert len(os.listdir("/proc/self/fd")) == before
        (arrived,) = through(messages, messages.encode(Holder(there)))
        os.write(arrived, b"hello")
        os.close(arrived)
        assert os.read(here, 5) == b"hello"
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(here)
        os.close(there)


def test_more_descriptors_than_one_message_can_carry_are_refused_and_closed(messages):
    before = len(os.listdir("/proc/self/fd"))
    pipes = [os.pipe() for _ in range(MAX_FDS // 2 + 1)]
    try:
        with pytest.raises(SerializationError, match=f"can carry {MAX_FDS} descriptors"):
            messages.encode([Holder(*ends) for ends in pipes])
    finally:
        for fd in sum(pipes, ()):
            os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_ctrl_c_while_an_item_is_pickled_is_no_refusal(messages):
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        messages.encode(Interrupting())


def test_closing_a_parcel_again_leaves_alone_what_others_have_opened_meanwhile(messages):
    """The numbers of descriptors are given away again."""
    here, there = os.pipe()
    parcel = messages.encode(Holder(there))
    parcel.close()
    later = [os.dup(there) for _ in range(4)]
    try:
        parcel.close()
        for fd in later:
            os.fstat(fd)
    finally:
        for fd in (here, there, *later):
            os.close(fd)
