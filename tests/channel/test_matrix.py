"""Every handle, through every transport: what arrives works, and what cannot travel says so.

`test_portable.py` runs this file again for the portable implementation.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import queues
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Pool, parallel_map
from parmap.channel import Channel
from parmap.errors import EndOfChannel, SerializationError
from support import channel_far as far
from support.channel_peers import collect
from support.gates import PATIENCE, Gate, warm_pool
from support.tasks import KillsInUnpickle
from support.transports import (
    METHOD_TRANSPORTS,
    METHODS,
    TRANSPORTS,
    Road,
    keep,
    use_kept,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[Pool]:
    """A worker that runs already."""
    with warm_pool(tmp_path_factory.mktemp("pool"), 1) as pool:
        yield pool


@pytest.fixture
def road(pool, tmp_path) -> Road:
    return Road(pool, tmp_path)


@pytest.fixture(params=far.KINDS)
def near(request) -> Iterator[far.Near]:
    near = far.Near(request.param)
    yield near
    near.close()


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda transport: transport.__name__)
def test_a_handle_works_where_it_arrives(near, transport, road):
    """And it is gone with what carried it: neither a transport nor a worker keeps an end."""
    near.check(transport(near, road))
    assert_over(near)


def assert_over(near: far.Near) -> None:
    if near.kind == "Sender":
        with pytest.raises(EndOfChannel):
            near.rest[1].receive(timeout=PATIENCE)
    elif near.kind == "Duplex":
        with pytest.raises(EndOfChannel):
            near.rest[0].receive(timeout=PATIENCE)


# --- the start methods, of Pool and of plain multiprocessing --------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("transport", METHOD_TRANSPORTS, ids=lambda transport: transport.__name__)
def test_handles_work_under_every_start_method(transport, method, tmp_path):
    """All kinds go together, since each process takes its time to start."""
    nears = [far.Near(kind) for kind in far.KINDS]
    uses, path = [near.use for near in nears], str(tmp_path / "answer")
    answers = transport(uses, [near.give() for near in nears], path, method)
    for near, answer in zip(nears, answers, strict=True):
        near.check(answer)
        assert_over(near)
        near.close()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_takes_a_channel_twice_and_all_its_ends(method, tmp_path):
    """What was lent to a process that starts is given back once it has started."""
    context: Any = multiprocessing.get_context(method)
    channel: Channel[Any] = Channel()
    receiver, path = channel.receiver, str(tmp_path / "answer")
    several = [channel, channel, channel.sender, channel.sender, channel.receiver]
    process = context.Process(target=far.name_kinds, args=(several, path))
    process.start()
    del several
    assert written(process, path) == ["Channel", "Channel", "Sender", "Sender", "Receiver"]
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_initargs_of_other_pools_carry_handles(method):
    """They are arguments of the processes, unlike the arguments of the tasks."""
    context: Any = multiprocessing.get_context(method)
    channel: Channel[Any] = Channel()
    with channel.receiver as receiver:
        with ProcessPoolExecutor(1, context, keep, (channel,)) as executor:
            assert executor.submit(use_kept, far.use).result(PATIENCE) is None
        assert receiver.receive(timeout=PATIENCE) == far.THERE
        channel.close()


@pytest.mark.parametrize("kind", far.KINDS)
def test_a_handle_made_in_a_task_works_here(kind, pool):
    handle, counterpart = parallel_map(far.make, [kind], pool=pool)[0]
    answer = far.use(handle)
    assert answer == (None if kind in ("Channel", "Sender") else far.HERE)
    if kind != "Receiver":
        assert counterpart.receive(timeout=PATIENCE) == far.THERE
    handle.close()
    counterpart.close()


def test_what_waits_in_a_channel_comes_along_with_it(pool):
    """Its maker is gone, and nobody but the handle keeps it."""
    with Pool(1) as other:
        channel = parallel_map(make_full, [0], pool=other)[0]
    assert parallel_map(far.drain, [channel], pool=pool) == [[0, 1, b"x" * 100_000]]


def make_full(_):
    channel: Channel[Any] = Channel()
    with channel.sender as sender:
        sender.send_many([0, 1, b"x" * 100_000])
    return channel


def test_the_same_channel_twice_in_one_message_is_one_channel():
    carrier: Channel[Any] = Channel()
    channel: Channel[Any] = Channel()
    carrier.send([channel, channel, channel.sender])
    first, second, sender = carrier.receive(timeout=PATIENCE)
    sender.send(1)
    assert first.receive(timeout=PATIENCE) == 1
    sender.send(2)
    assert second.receive(timeout=PATIENCE) == 2
    sender.close()
    with pytest.raises(EndOfChannel):
        channel.receive(timeout=PATIENCE)


def test_a_channel_travels_through_itself():
    channel: Channel[Any] = Channel()
    channel.send(channel)
    copy = channel.receive(timeout=PATIENCE)
    copy.send(1)
    assert channel.receive(timeout=PATIENCE) == 1


def test_many_handles_in_one_message_and_in_many():
    carrier: Channel[Any] = Channel(100)
    channel: Channel[Any] = Channel(1000)
    with channel.sender as sender, channel.receiver as receiver:
        carrier.send([sender.clone() for _ in range(50)])
        for _ in range(60):
            carrier.send(sender.clone())
        sender.close()
        got = carrier.receive(timeout=PATIENCE)
        got += [carrier.receive(timeout=PATIENCE) for _ in range(60)]
        for number, end in enumerate(got):
            end.send(number)
            end.close()
        assert list(receiver) == list(range(110))


def test_several_workers_share_a_channel(tmp_path):
    """The pattern that everybody writes: producers in one call, consumers in another."""
    channel: Channel[int] = Channel(8)
    with warm_pool(tmp_path, 4) as pool:
        with channel.sender as hold:
            consumers = [pool.submit(far.drain, channel.receiver) for _ in range(2)]
            producers = [
                pool.submit(far.send_all, range(n, 300, 2), channel.sender) for n in range(2)
            ]
            del hold
        for future in producers:
            future.result(PATIENCE)
        got = [item for future in consumers for item in future.result(PATIENCE)]
    assert sorted(got) == list(range(300))


# --- on the way, and given up ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_argument_of_a_process_that_died_unpickling_is_given_up(method):
    context: Any = multiprocessing.get_context(method)
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    process = context.Process(target=print, args=(KillsInUnpickle(), channel.sender))
    process.start()
    process.join(PATIENCE)
    process.close()
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_an_argument_of_a_process_that_never_started_is_given_up():
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    process = multiprocessing.get_context("spawn").Process(target=print, args=(channel.sender,))
    del process
    collect()
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_items_that_never_ran_are_given_up(tmp_path):
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    with Pool(1) as pool, pytest.raises(ZeroDivisionError):
        parallel_map(divide_by, [0, *(channel.sender for _ in range(20))], pool=pool, chunksize=1)
    collect()  # the traceback had the items
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def divide_by(x):
    return 1 / x if x == 0 else None


def test_a_pool_that_is_shut_down_gives_up_what_it_cancels(tmp_path):
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    began, gate = Gate(tmp_path / "began"), Gate(tmp_path / "gate")
    pool = Pool(1)
    busy = pool.submit(far.say_and_wait, began, gate)
    began.wait()
    waiting = [pool.submit(len, [channel.sender]) for _ in range(10)]
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    busy.result(PATIENCE)
    pool.shutdown()
    del waiting
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_an_item_that_runs_again_finds_its_sender_open(tmp_path):
    """A worker died under another item: this one had not begun, and its end was never gone."""
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    gate = Gate(tmp_path / "gate")
    with Pool(1) as pool:
        lost = pool.submit(wait_and_die, gate)
        waiting = pool.submit(far.send_all, ["here"], channel.sender)
        gate.open()
        assert lost.exception(PATIENCE) is not None
        assert receiver.receive(timeout=PATIENCE) == "here"
        waiting.result(PATIENCE)
        with pytest.raises(EndOfChannel):
            receiver.receive(timeout=PATIENCE)


def wait_and_die(gate):
    gate.wait()
    os._exit(9)


# --- doors ----------------------------------------------------------------------------------------


def pickled_into_bytes(handle):
    pickle.dumps(handle)


def pickled_into_a_file(handle):
    pickle.dump([1, handle], io.BytesIO(), protocol=5)


def put_into_a_simple_queue(handle):
    queue = multiprocessing.SimpleQueue()
    with closing(queue):
        queue.put(handle)


def sent_through_a_connection(handle):
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        ours.send(handle)


def put_into_a_queue(handle):
    """The queue's own thread pickles, so its door is the hook that reports errors."""
    errors: list[Exception] = []

    class Queue(queues.Queue):  # type: ignore[type-arg]
        @staticmethod
        def _on_queue_feeder_error(e, obj):
            errors.append(e)

    queue = Queue(ctx=multiprocessing.get_context())
    queue.put(handle)
    queue.close()
    queue.join_thread()
    raise errors[0]


def given_to_a_task_of_an_executor(handle):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        executor.submit(len, [handle]).result(PATIENCE)


def given_to_a_task_of_a_multiprocessing_pool(handle):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            pool.apply_async(len, ([handle],)).get(PATIENCE)
        finally:
            pool.close()
            pool.join()


DOORS = [
    pickled_into_bytes, pickled_into_a_file, put_into_a_simple_queue, sent_through_a_connection,
    put_into_a_queue, given_to_a_task_of_an_executor, given_to_a_task_of_a_multiprocessing_pool,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_where_a_handle_cannot_go_the_door_says_so(near, door):
    """With a sentence that names the handle; and the handle is none the worse for it."""
    with pytest.raises(SerializationError) as info:
        door(near.handle)
    assert near.kind.lower() in str(info.value).lower()
    assert len(str(info.value)) > 40
    del info

    near.check(far.use(near.handle))
