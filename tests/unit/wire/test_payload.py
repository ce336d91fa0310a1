"""Payloads: items stand alone, plain values share one pickle, failures hurt only themselves."""

import gc
import os
import threading

import numpy as np
import pytest

from parmap._memory.transit import export_fd, import_fd
from parmap._wire.blocks import is_plain
from parmap._wire.payload import (
    ERROR,
    VALUE,
    PayloadBuilder,
    error_positions,
    pack_values,
    unpack,
)
from parmap.errors import SerializationError
from support.handles import Handle

name = "args[{}]".format


def received(payload):
    return payload.whole()


def there(values, parent, worker):
    payload = pack_values(values, parent, name)
    items = unpack(received(payload), payload.fds, payload.block, worker)
    return list(items) if payload.block else [item.load() for item in items]


@pytest.mark.parametrize(
    "values",
    [
        [], [1, 2.5, 3j, True, None, "s", b"b"], range(3, 30, 4), (1, 2), [(1, "a"), (), (None,)],
        [1 << 5000, float("inf"), "\ud800"],
    ],
)  # fmt: skip
def test_plain_values_share_one_pickle(values, parent, worker):
    payload = pack_values(values, parent, name)

    assert payload.block
    assert len(payload.segments) == 1
    assert there(values, parent, worker) == list(values)


@pytest.mark.parametrize(
    "values", [[[1]], [1, {}], [((1,),)], [(1, [])], [np.float64(1)], [type("I", (int,), {})(1)]]
)
def test_anything_mutable_or_with_a_class_of_its_own_stands_alone(values):
    assert not is_plain(values)


def test_items_share_nothing(parent, worker):
    shared = [1]
    first, second = there([shared, shared], parent, worker)

    assert first == second == [1]
    assert first is not second


def test_what_cannot_be_pickled_becomes_an_error_in_its_place(parent, worker):
    payload = pack_values([[1], {"k": threading.Lock()}, [3]], parent, name)
    items = unpack(received(payload), [], payload.block, worker)

    assert payload.failures
    assert error_positions(payload.whole()) == [1]
    assert [item.kind for item in items] == [VALUE, ERROR, VALUE]
    assert [items[0].load(), items[2].load()] == [[1], [3]]
    error = items[1].load()
    assert type(error) is SerializationError
    assert (error.direction, error.path) == ("to worker", "args[1]['k']")
    assert type(error.__cause__) is TypeError


class FailsToLoad:
    def __reduce__(self):
        return int, ("no number",)


class RaisesSystemExit:
    def __reduce__(self):
        raise SystemExit(3)


def test_what_cannot_be_unpickled_fails_alone(parent, worker):
    payload = pack_values([[1], FailsToLoad(), [3]], parent, name)
    first, second, third = unpack(received(payload), [], payload.block, worker)

    with pytest.raises(ValueError, match="no number"):
        second.load()
    assert [first.load(), third.load()] == [[1], [3]]


def test_a_class_that_fails_half_way_is_not_used_by_the_next_item(parent, worker):
    class Half:
        bad = FailsToLoad()

    payload = pack_values([Half(), Half()], parent, name)

    for item in unpack(received(payload), [], payload.block, worker):
        with pytest.raises(ValueError, match="no number"):
            item.load()


def test_an_exit_while_pickling_is_that_items_failure(parent):
    payload = pack_values([[1], RaisesSystemExit()], parent, name)

    assert error_positions(payload.whole()) == [1]


def test_a_keyboard_interrupt_of_user_code_fails_its_item(parent):
    """Neither the driver's thread nor a worker gets a real one: it may end no loop of ours."""

    class Interrupted:
        def __reduce__(self):
            raise KeyboardInterrupt

    payload = pack_values([Interrupted(), 1], parent, name)
    assert payload.failures
    assert error_positions(payload.whole()) == [0]


def test_a_failed_item_leaves_no_buffers_behind(parent, worker):
    big = np.ones(20_000)
    payload = pack_values([[big, threading.Lock()], big * 2], parent, name)

    assert len(payload.segments) == 3
    _, item = unpack(received(payload), [], payload.block, worker)
    assert np.array_equal(item.load(), big * 2)


def test_a_large_array_is_not_copied_into_the_payload(parent):
    array = np.zeros(1_000_000)
    payload = pack_values([array], parent, name)

    assert any(
        isinstance(s, memoryview) and np.shares_memory(np.frombuffer(s), array)
        for s in payload.segments
    )
    assert payload.nbytes > array.nbytes


@pytest.mark.parametrize("size", [10, 100_000])
def test_arrays_arrive_private_and_writable(size, parent, worker):
    array = np.arange(size)
    one, other = there([array, array], parent, worker)

    one[0] = -1
    assert other[0] == array[0] == 0


def test_many_exceptions_of_one_payload(parent, worker):
    builder = PayloadBuilder(worker)
    builder.add_value(1, name, 0)
    builder.add_error(ValueError("bad"))
    payload = builder.build()

    one, error = unpack(received(payload), [], payload.block, parent)

    assert len(builder) == 2
    assert one.load() == 1
    assert repr(error.load()) == "ValueError('bad')"


def open_fds():
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def test_handles_in_items_bring_their_descriptors(pipe, parent, worker):
    before = open_fds()
    payload = pack_values([Handle(pipe[0]), [Handle(pipe[1])], "plain"], parent, name)
    assert len(payload.fds) == 2
    items = unpack(received(payload), payload.fds, payload.block, worker)

    reader, (writer,), _ = [item.load() for item in items]
    os.write(writer.fd, b"hello")
    assert os.read(reader.fd, 5) == b"hello"

    os.close(reader.fd)
    os.close(writer.fd)
    del items
    gc.collect()
    assert open_fds() == before


def test_descriptors_of_items_that_nobody_loads_are_closed(pipe, parent, worker):
    before = open_fds()
    payload = pack_values([Handle(pipe[0])], parent, name)
    items = unpack(received(payload), payload.fds, payload.block, worker)
    del items
    gc.collect()

    assert open_fds() == before


def test_a_payload_that_is_never_sent_can_be_closed(pipe, parent):
    before = open_fds()
    payload = pack_values([Handle(pipe[0])], parent, name)
    payload.close()
    payload.close()

    assert open_fds() == before


def test_reprs_tell_what_there_is(parent, worker):
    payload = pack_values([[1]], parent, name)
    (item,) = unpack(received(payload), [], payload.block, worker)

    assert repr(payload).startswith("<Payload items ")
    assert repr(item).startswith("<Item value ")


def test_a_builder_says_how_much_and_how_many_it_has(parent):
    builder = PayloadBuilder(parent)
    assert (len(builder), builder.nbytes) == (0, 0)
    builder.add_values([np.zeros(100_000), {"a": 1}], name)

    assert len(builder) == 2
    assert builder.nbytes > 800_000
    builder.close()


def test_a_builder_that_is_given_up_closes_the_descriptors_that_it_holds(parent):
    read, write = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    builder = PayloadBuilder(parent)
    builder.add_values([Sent(read)], name)
    assert len(os.listdir("/proc/self/fd")) > before

    builder.close()

    assert len(os.listdir("/proc/self/fd")) == before
    os.close(read)
    os.close(write)


class Sent:
    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):
        return import_fd, (export_fd(self.fd, "pipe"),)
