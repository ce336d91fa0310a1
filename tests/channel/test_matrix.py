"""Every handle, through every transport: what arrives works, and what cannot travel says so.

`test_portable.py` runs this file again for the portable implementation.
"""

from __future__ import annotations

import functools
import io
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import queues
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Pool, parallel_imap, parallel_map
from parmap.channel import Channel
from parmap.errors import EndOfChannel, SerializationError
from support import channel_far as far
from support.channel_peers import child, collect
from support.gates import PATIENCE, Gate, warm_pool
from support.tasks import KillsInUnpickle, identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[Pool]:
    """A worker that runs already."""
    with warm_pool(tmp_path_factory.mktemp("pool"), 1) as pool:
        yield pool


class Road:
    """What a transport may need besides the handle."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder


@pytest.fixture
def road(pool, tmp_path) -> Road:
    return Road(pool, tmp_path)


@pytest.fixture(params=far.KINDS)
def near(request) -> Iterator[far.Near]:
    near = far.Near(request.param)
    yield near
    near.close()


# --- transports: each brings the handle to `far.use`, and returns what that returned --------------


def argument_to_a_fresh_worker(near, road):
    with Pool(1) as pool:
        return parallel_map(far.use, [near.give()], pool=pool)[0]


def argument_to_a_running_worker(near, road):
    return parallel_map(far.use, [near.give()], pool=road.pool)[0]


def argument_to_the_shared_pool(near, road):
    return parallel_map(far.use, [near.give()], max_workers=1)[0]


def argument_of_submit(near, road):
    return road.pool.submit(far.use_second, "first", handle=near.give()).result(PATIENCE)


def item_of_a_lazy_map(near, road):
    (answer,) = parallel_imap(far.use, (near.give() for _ in range(1)), pool=road.pool)
    return answer


def inside_other_data(near, road):
    item = {"deep": [1, (near.give(),)]}
    return parallel_map(lambda x: far.use(x["deep"][1][0]), [item], pool=road.pool)[0]


def closure(near, road):
    handle = near.give()
    return parallel_map(lambda _: far.use(handle), [0], pool=road.pool)[0]


def partial(near, road):
    fn = functools.partial(far.use_second, handle=near.give())
    return parallel_map(fn, [0], pool=road.pool)[0]


def closure_in_a_fresh_worker(near, road):
    handle = near.give()
    with Pool(1) as pool:
        return parallel_map(lambda _: far.use(handle), [0], pool=pool)[0]


def result_of_a_task(near, road):
    (handle,) = parallel_map(identity, [near.give()], pool=road.pool)
    answer = far.use(handle)
    handle.close()
    return answer


def kept_by_one_task_for_the_next(near, road):
    road.pool.submit(far.keep, near.give()).result(PATIENCE)
    answer = road.pool.submit(far.use_kept).result(PATIENCE)
    road.pool.submit(far.forget).result(PATIENCE)
    return answer


def from_worker_to_worker(near, road):
    """Forwarded by a worker to a worker of its own."""
    return parallel_map(forward, [near.give()], pool=road.pool)[0]


def forward(handle):
    with Pool(1) as pool:
        return parallel_map(far.use, [handle], pool=pool)[0]


def initargs(near, road):
    with Pool(1, initializer=far.keep, initargs=(near.give(),)) as pool:
        return parallel_map(far.use_kept, [0], pool=pool)[0]


def through_a_channel(near, road):
    carrier: Channel[Any] = Channel()
    carrier.send(near.give())
    handle = carrier.receive(timeout=PATIENCE)
    carrier.close()
    answer = far.use(handle)
    handle.close()
    return answer


def through_a_channel_inside_data(near, road):
    carrier: Channel[Any] = Channel()
    carrier.send(["x", {"handle": near.give()}, b"y" * 200_000])
    with carrier.receive(timeout=PATIENCE)[1]["handle"] as handle:
        return far.use(handle)


def through_a_channel_to_a_worker(near, road):
    carrier: Channel[Any] = Channel()
    carrier.send(near.give())
    return road.pool.submit(far.relay, carrier).result(PATIENCE)


def through_a_channel_that_travelled_through_a_channel(near, road):
    outer: Channel[Any] = Channel()
    inner: Channel[Any] = Channel()
    inner.send(near.give())
    outer.send(inner)
    inner.close()
    del inner
    collect()
    return road.pool.submit(far.relay, outer.receive(timeout=PATIENCE)).result(PATIENCE)


def through_a_channel_while_the_receiver_waits(near, road):
    carrier: Channel[Any] = Channel()
    future = road.pool.submit(far.relay, carrier)
    carrier.send(near.give())
    return future.result(PATIENCE)


def inherited_by_os_fork(near, road):
    handle = near.give()
    with child(lambda me: me.say(far.use(handle))) as process:
        if near.kind != "Channel":
            handle.close()
        answer = process.hear()
        process.end_well()
    return answer


TRANSPORTS = [
    argument_to_a_fresh_worker, argument_to_a_running_worker, argument_to_the_shared_pool,
    argument_of_submit, item_of_a_lazy_map, inside_other_data, closure, partial,
    closure_in_a_fresh_worker, result_of_a_task, kept_by_one_task_for_the_next,
    from_worker_to_worker, initargs, through_a_channel, through_a_channel_inside_data,
    through_a_channel_to_a_worker, through_a_channel_that_travelled_through_a_channel,
    through_a_channel_while_the_receiver_waits, inherited_by_os_fork,
]  # fmt: skip


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


def argument_of_a_pool(handles, path, method):
    with Pool(1, start_method=method) as pool:
        return parallel_map(far.use_all, [handles], pool=pool)[0]


def initargs_of_a_pool(handles, path, method):
    with Pool(1, start_method=method, initializer=far.keep, initargs=tuple(handles)) as pool:
        handles.clear()
        return parallel_map(far.use_all_kept, [0], pool=pool)[0]


def arguments_of_a_process(handles, path, method):
    """The parent drops its own as soon as `start` has returned."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=far.use_all_and_write, args=(handles, path))
    process.start()
    handles.clear()
    return written(process, path)


def through_a_channel_to_a_process(handles, path, method):
    context: Any = multiprocessing.get_context(method)
    carrier: Channel[Any] = Channel()
    process = context.Process(target=far.relay_all_and_write, args=(carrier, path))
    process.start()
    carrier.send(handles)
    handles.clear()
    return written(process, path)


def written(process, path):
    """What a process that returns nothing has written."""
    process.join(PATIENCE)
    assert process.exitcode == 0
    process.close()
    with open(path, encoding="utf-8") as file:
        return eval(file.read())


METHOD_TRANSPORTS = [
    argument_of_a_pool, initargs_of_a_pool, arguments_of_a_process, through_a_channel_to_a_process,
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("transport", METHOD_TRANSPORTS, ids=lambda transport: transport.__name__)
def test_handles_work_under_every_start_method(transport, method, tmp_path):
    """All kinds go together, since each process takes its time to start."""
    nears = [far.Near(kind) for kind in far.KINDS]
    answers = transport([near.give() for near in nears], str(tmp_path / "answer"), method)
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
        with ProcessPoolExecutor(1, context, far.keep, (channel,)) as executor:
            assert executor.submit(far.use_kept).result(PATIENCE) is None
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
