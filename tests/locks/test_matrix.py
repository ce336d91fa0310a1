"""Every kind of lock, through every transport: what arrives is the lock that was sent."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Channel, Condition, Lock, Pool, RLock, Semaphore, parallel_map
from parmap.errors import SerializationError
from support import lock_far as far
from support.channel_peers import collect
from support.gates import PATIENCE, warm_pool
from support.transports import METHOD_TRANSPORTS, METHODS, TRANSPORTS, Road

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[Pool]:
    with warm_pool(tmp_path_factory.mktemp("pool"), 1) as pool:
        yield pool


@pytest.fixture
def road(pool, tmp_path) -> Road:
    return Road(pool, tmp_path)


@pytest.mark.parametrize("kind", far.KINDS)
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda transport: transport.__name__)
def test_a_lock_works_where_it_arrives(kind, transport, road):
    near = far.Near(kind)
    near.check(transport(near, road))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("transport", METHOD_TRANSPORTS, ids=lambda transport: transport.__name__)
def test_locks_work_under_every_start_method(transport, method, tmp_path):
    """All kinds go together, since each process takes its time to start."""
    nears = [far.Near(kind) for kind in far.KINDS]
    uses, path = [near.use for near in nears], str(tmp_path / "answer")
    answers = transport(uses, [near.give() for near in nears], path, method)
    for near, answer in zip(nears, answers, strict=True):
        near.check(answer)


@pytest.mark.parametrize("kind", far.KINDS)
def test_where_a_lock_cannot_go_the_door_says_so(kind):
    handle = far.KINDS[kind]()
    for pickled in (pickle.dumps, lambda x: pickle.dump([x], io.BytesIO())):
        with pytest.raises(SerializationError, match=f"(?i){kind}.*travels with its memory"):
            pickled(handle)


def make(kind: str) -> Any:
    return far.KINDS[kind]()


@pytest.mark.parametrize("kind", far.KINDS)
def test_a_lock_outlives_its_creator(kind, pool):
    with Pool(1) as other:
        handle = other.submit(make, kind).result(PATIENCE)
    near = far.Near(kind)
    near.mine = handle
    near.check(pool.submit(far.use, handle).result(PATIENCE))


@pytest.mark.parametrize("kind", far.KINDS)
def test_what_comes_back_is_the_very_object(kind):
    """So what a thread holds it holds, whichever copy it asks."""
    handle = far.KINDS[kind]()
    carrier: Channel[Any] = Channel()
    carrier.send([handle, handle])
    assert [copy is handle for copy in carrier.receive(timeout=PATIENCE)] == [True, True]
    del handle
    collect()


def test_a_condition_brings_its_lock():
    lock = RLock()
    condition = Condition(lock)
    carrier: Channel[Any] = Channel()
    carrier.send([lock, condition])
    with lock:
        del lock
        twin, copy = carrier.receive(timeout=PATIENCE)
        assert copy is condition
        assert twin.locked()
        copy.notify()


def hold(lock: Any, channel: Any) -> None:
    with lock:
        channel.send("held")
        channel.receive(timeout=PATIENCE)


def test_a_worker_and_this_process_exclude_each_other(pool):
    lock = Lock()
    here, there = Channel.pair()
    future = pool.submit(hold, lock, there)
    assert here.receive(timeout=PATIENCE) == "held"
    assert lock.locked()
    assert not lock.acquire(block=False)
    assert not lock.acquire(timeout=0.01)
    here.send("go")
    assert lock.acquire(timeout=PATIENCE)
    lock.release()
    future.result(PATIENCE)
    here.close()


def test_a_closure_of_a_map_takes_a_semaphore_along(pool):
    two = Semaphore(2)

    def careful(x: int) -> bool:
        with two:
            return two.value < 2

    assert all(parallel_map(careful, range(20), pool=pool))
    assert two.value == 2
