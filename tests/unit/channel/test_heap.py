"""Blocks: sizes, use again, and what the dead have left."""

from __future__ import annotations

import os
import traceback

import pytest

from parmap._channel.heap import _class_of, _size_of, identity, is_alive
from parmap.channel import Channel


@pytest.mark.parametrize("nbytes", [1, 255, 256, 257, 320, 321, 4096, 4097, 10**6, 10**9])
def test_a_size_class_is_the_smallest_that_holds_it(nbytes):
    size_class = _class_of(nbytes)

    assert _size_of(size_class) >= nbytes
    assert size_class == 0 or _size_of(size_class - 1) < nbytes


def test_this_process_lives_and_a_reaped_child_does_not():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)

    assert is_alive(identity())
    assert not is_alive(pid | identity() >> 22 << 22)
    assert not is_alive(0)


def test_a_block_is_used_again():
    channel = Channel()
    for _ in range(20):
        channel.send(b"x" * 10_000)
        channel.receive()

    assert channel._neutral.core.ring._heap.statistics()["blocks"] == 1


def test_the_blocks_of_a_dead_sender_are_found():
    """It died with a block in hand; the next who needs room gets it back."""
    channel = Channel(4)
    ring = channel._neutral.core.ring
    pid = os.fork()
    if not pid:
        try:
            for _ in range(16):
                ring.locked(ring._heap.allocate, 10_000, ring._queued_blocks)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    channel.send(b"x" * 10_000)

    assert ring._heap.statistics() == {
        "blocks": 16, "used": 1, "bytes": ring._heap.statistics()["bytes"],
    }  # fmt: skip
    assert channel.receive() == b"x" * 10_000
