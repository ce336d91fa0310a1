"""Properties of links and arenas, against plain models."""

from __future__ import annotations

import gc
import os
import pickle
from functools import partial
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from parmap._memory.arena import Arena, Block
from parmap._memory.fdpass import Link
from parmap._memory.keeper import Keeper
from parmap._memory.lockfile import _runs
from parmap._memory.outbox import Outbox
from parmap._memory.transit import FdSink, FdSource, exporting, importing

messages = st.lists(
    st.tuples(
        st.lists(st.binary(max_size=300), min_size=1, max_size=5).filter(
            lambda b: sum(map(len, b)) > 3
        ),
        st.integers(0, 600),
    ),
    max_size=8,
)


@given(messages, st.lists(st.integers(1, 2000), min_size=1, max_size=20), st.randoms())
def test_any_messages_in_any_portions_arrive_whole_and_in_order(sent, portions, random):
    """Descriptors come with or before the last byte of their message, and in order."""
    one, other = Link.pair()
    marks = [os.memfd_create("mark") for _ in range(3)]
    try:
        talk(one, other, sent, marks, portions, random)
    finally:
        for fd in marks:
            os.close(fd)
        one.close()
        other.close()


def talk(one, other, sent, marks, portions, random):
    one.setblocking(False)
    other.setblocking(False)
    outbox, expected_fds = Outbox(one), []
    done: list[int] = []
    for number, (buffers, count) in enumerate(sent):
        outbox.post(buffers, [marks[number % 3]] * count, partial(done.append, number))
        expected_fds += [os.fstat(marks[number % 3]).st_ino] * count
    expected = b"".join(b"".join(buffers) for buffers, _ in sent)
    data, inodes = bytearray(), []
    while len(data) < len(expected):
        if random.random() < 0.7:
            outbox.flush()
        try:
            size, fds = other.receive_into(buffer := bytearray(random.choice(portions)))
        except BlockingIOError:
            continue
        data += buffer[:size]
        for fd in fds:
            inodes.append(os.fstat(fd).st_ino)
            os.close(fd)
    outbox.flush()

    assert bytes(data) == expected
    assert inodes == expected_fds
    assert done == list(range(len(sent)))


@given(st.sets(st.integers(0, 60)))
def test_runs_are_the_numbers(numbers):
    runs = _runs(sorted(numbers))
    assert [n for first, count in runs for n in range(first, first + count)] == sorted(numbers)
    assert all(first + count < after for (first, count), (after, _) in pairwise(runs))


class ArenaMachine(RuleBasedStateMachine):
    """Blocks are allocated, sent, received, dropped; a dict says what must be in them."""

    blocks: Bundle[Block] = Bundle("blocks")
    letters: Bundle[tuple[bytes, list[int], int]] = Bundle("letters")

    def __init__(self):
        super().__init__()
        self.arena = Arena.create()
        self.model = {}  # number: what is in the block
        self.users = {}  # number: how many objects and letters there are
        self.serial = 0

    @rule(target=blocks, size=st.sampled_from([1, 64, 65, 200]))
    def allocate(self, size):
        block = self.arena.allocate(size)
        assert not self.users.get(block.number), "given to two"
        assert not any(block.words()), "not clean"
        self.serial += 1
        block.words()[0] = self.model[block.number] = self.serial
        self.users[block.number] = 1
        return [block]

    @rule(box=blocks)
    def write(self, box):
        if box:
            self.serial += 1
            box[0].words()[-1] = self.serial

    @rule(target=letters, box=blocks)
    def send(self, box):
        if not box:
            return (b"", [], -1)
        sink = FdSink()
        with exporting(sink):
            data = pickle.dumps(box[0])
        self.users[box[0].number] += 1
        return (data, sink.take(), box[0].number)

    @rule(target=blocks, letter=consumes(letters))
    def receive(self, letter):
        data, fds, number = letter
        if number < 0:
            return []
        source = FdSource(fds)
        with importing(source):
            block = pickle.loads(data)
        source.close_unclaimed()
        fds.clear()
        assert block.words()[0] == self.model[number]
        return [block]

    @rule(letter=consumes(letters))
    def lose(self, letter):
        _, fds, number = letter
        for fd in fds:
            os.close(fd)
        fds.clear()
        if number >= 0:
            self.users[number] -= 1

    @rule(box=consumes(blocks))
    def drop(self, box):
        if box:
            self.users[box.pop().number] -= 1

    @invariant()
    def contents(self):
        gc.collect(0)
        for number, users in self.users.items():
            assert self.arena._file.in_use(number) == (users > 0)
            if users:
                start, _ = self.arena._place(number)
                word = bytes(self.arena.segment.buf[start : start + 8])
                assert int.from_bytes(word, "little") in {self.model[number], self.serial}

    def teardown(self):
        self.model.clear()


ArenaMachine.TestCase.settings = settings(stateful_step_count=40)
TestArena = ArenaMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from(["put", "copy", "drop"]), st.integers(0, 5))))
def test_a_keeper_is_a_dict_of_descriptors(steps):
    keeper, model = Keeper.create(), {}
    for action, tag in steps:
        if action == "put":
            if tag not in model:
                fd = os.memfd_create("kept")
                assert keeper.put(tag, [fd])
                model[tag] = os.fstat(fd).st_ino
                os.close(fd)
        elif action == "copy":
            fds = keeper.copy(tag)
            assert (fds and os.fstat(fds[0]).st_ino) == model.get(tag)
            for fd in fds or ():
                os.close(fd)
        else:
            assert keeper.drop(tag) == (model.pop(tag, None) is not None)
    keeper.close()
