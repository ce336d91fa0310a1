"""Small blocks for a family of processes."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest

from parmap._memory import arena as arena_module
from parmap._memory.arena import LARGEST, Arena, default_arena
from parmap._memory.transit import FdSink, FdSource, exporting, importing


def pack(obj):
    sink = FdSink()
    with exporting(sink):
        return pickle.dumps(obj), sink.take()


def unpack(data, fds):
    source = FdSource(fds)
    try:
        with importing(source):
            return pickle.loads(data)
    finally:
        source.close_unclaimed()


@pytest.fixture
def arena(platform):
    return Arena.create()


@pytest.mark.parametrize(
    ("asked", "got"), [(0, 64), (1, 64), (64, 64), (65, 128), (1000, 1024), (LARGEST, LARGEST)]
)
def test_a_block_is_zeros_at_a_cache_line(arena, asked, got):
    block = arena.allocate(asked)
    assert block.nbytes == got
    assert block.offset % 64 == 0
    assert bytes(block.bytes()) == bytes(got)
    assert "bytes" in repr(block)


def test_what_it_cannot_give(arena):
    for size in (-1, LARGEST + 1):
        with pytest.raises(ValueError, match="at most"):
            arena.allocate(size)


def test_blocks_do_not_overlap_while_the_file_grows(arena):
    blocks = [arena.allocate(size) for size in (64, 4096, 100, LARGEST, 64, LARGEST, 300)]
    for number, block in enumerate(blocks):
        block.bytes()[:] = bytes([number + 1]) * block.nbytes
    for number, block in enumerate(blocks):
        assert set(block.bytes()) == {number + 1}


def test_a_dropped_block_is_used_again_and_clean(platform, arena):
    block = arena.allocate(64)
    block.words()[0] = 5
    number = block.number
    del block
    gc.collect()

    again = arena.allocate(64)

    assert (again.number == number) == (platform == "native"), "portable arenas never use one again"
    assert again.words()[0] == 0


def test_sizes_do_not_mix(arena):
    small = arena.allocate(64).number
    gc.collect()
    large = arena.allocate(128)
    assert large.number != small


def test_it_travels_and_is_the_same_memory(arena):
    block = arena.allocate(64)
    twin = unpack(*pack(block))
    assert twin.arena is arena
    twin.words()[0] = 9
    assert block.words()[0] == 9


def test_a_pickle_on_its_way_counts_as_a_user():
    """The sender may be gone before the receiver has looked."""
    arena = Arena.create()
    block = arena.allocate(64)
    block.words()[0] = 11
    number = block.number
    data, fds = pack(block)
    del block
    gc.collect()
    others = [arena.allocate(64) for _ in range(5)]
    assert number not in [other.number for other in others]

    arrived = unpack(data, fds)

    assert (arrived.number, arrived.words()[0]) == (number, 11)
    del arrived
    gc.collect()
    assert arena.allocate(64).number == number


def test_several_blocks_in_one_pickle_all_count():
    """Their descriptors are of one file, and were made under one number one after the other."""
    arena = Arena.create()
    blocks = [arena.allocate(64) for _ in range(4)]
    data, fds = pack(blocks)
    del blocks
    gc.collect()
    assert arena.statistics()["used"] == 4
    assert len(unpack(data, fds)) == 4


def test_a_pickle_nobody_opens_is_let_go():
    arena = Arena.create()
    _, fds = pack(arena.allocate(64))
    gc.collect()
    assert arena.statistics()["used"] == 1
    for fd in fds:
        os.close(fd)
    assert arena.statistics()["used"] == 0


def test_two_objects_of_one_block_count_once_each():
    arena = Arena.create()
    block = arena.allocate(64)
    twin = unpack(*pack(block))
    del block
    gc.collect()
    assert arena.statistics()["used"] == 1
    del twin
    gc.collect()
    assert arena.statistics()["used"] == 0


def test_a_forked_child_uses_what_its_parent_lets_go(in_child):
    arena = Arena.create()
    blocks = [arena.allocate(64) for _ in range(10)]
    go, ready = os.pipe(), os.pipe()
    blocks[3].words()[0] = 33
    pid = os.fork()
    if pid == 0:
        try:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0 if blocks[3].words()[0] == 33 else 1)
        finally:
            os._exit(2)
    os.read(ready[0], 1)
    del blocks
    gc.collect()
    assert arena.statistics()["used"] == 10, "the child has them"
    new = [arena.allocate(64) for _ in range(10)]
    assert {block.number for block in new} == set(range(10, 20))
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    del new
    gc.collect()
    assert arena.statistics()["used"] == 0
    for fd in go + ready:
        os.close(fd)


def test_a_child_that_lets_go_takes_nothing_from_its_parent(in_child):
    arena = Arena.create()
    blocks = [arena.allocate(64) for _ in range(3)]

    def let_go():
        blocks.clear()
        gc.collect()
        return arena.statistics()["used"] == 3

    assert in_child(let_go) == 0
    assert arena.statistics()["used"] == 3


def test_a_killed_process_loses_its_blocks_to_the_sweep(in_child):
    """What is lost by kills is bounded: the sweep comes before the arena doubles."""
    arena = Arena.create()

    def take_and_die():
        blocks = [arena.allocate(64) for _ in range(40)]
        assert blocks
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(20):
        assert in_child(take_and_die) == -signal.SIGKILL
    statistics = arena.statistics()
    assert statistics["used"] == 0
    assert statistics["blocks"] <= 64 + 64 + 40


def test_a_hint_that_lies_is_found_out():
    arena = Arena.create()
    block = arena.allocate(64)
    arena.segment.buf[arena_module._STATES + block.number] = arena_module._FREE
    assert arena.allocate(64).number != block.number
    assert arena.segment.buf[arena_module._STATES + block.number] == arena_module._USED


def test_the_default_arena_is_the_first_one_known():
    assert default_arena() is default_arena()


def test_a_receiver_shares_the_family_of_what_it_gets_and_no_private_arena():
    code = """if True:
        import os, pickle, sys
        from parmap._memory.arena import default_arena
        from parmap._memory.transit import FdSource, importing
        blocks = []
        for fd, data in zip(map(int, sys.argv[1:3]), sys.stdin.buffer.read().split(b"||")):
            with importing(FdSource([fd])):
                blocks.append(pickle.loads(data))
        private, shared = blocks
        print(default_arena() is shared.arena, default_arena() is private.arena)
    """
    pickles = [pack(arena.allocate(1)) for arena in (Arena.create(), default_arena())]
    numbers = [fds[0] for _, fds in pickles]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, numbers)],
        input=b"||".join(data for data, _ in pickles),
        pass_fds=numbers,
        capture_output=True,
        check=False,
    )
    for fd in numbers:
        os.close(fd)
    assert (done.stdout, done.stderr) == (b"True False\n", b"")


def test_threads_allocate_and_drop(platform, arena):
    errors = []

    def work(value):
        try:
            for _ in range(100):
                block = arena.allocate(64)
                view = block.words()
                if any(view):
                    errors.append("not clean")
                view[:] = memoryview((value).to_bytes(8, "little") * 8).cast("q")
                if set(view) != {value}:
                    errors.append("shared")
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=work, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert errors == []


def test_numbers_run_out(monkeypatch, arena):
    monkeypatch.setattr(arena_module, "MOST_BLOCKS", 3)
    blocks = [arena.allocate(1) for _ in range(3)]
    with pytest.raises(MemoryError, match="3 blocks"):
        arena.allocate(1)
    assert len(blocks) == 3


def test_a_block_that_does_not_exist(arena):
    with pytest.raises(LookupError, match="does not exist"):
        arena._join(5)
