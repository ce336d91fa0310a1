"""Counters, values and arrays through every transport, under every start method."""

from __future__ import annotations

import io
import multiprocessing
import pickle
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Channel, Pool, parallel_map
from parmap.errors import SerializationError
from support import shared_far as far
from support.channel_peers import child, collect
from support.gates import PATIENCE
from support.transports import METHOD_TRANSPORTS, METHODS, TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = list(far.MAKERS)


@pytest.fixture(params=KINDS)
def near(request) -> Iterator[far.NearShared]:
    near = far.NearShared(request.param)
    yield near
    near.close()


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda transport: transport.__name__)
def test_shared_state_works_where_it_arrives(near, transport, road):
    near.check(transport(near, road))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("transport", METHOD_TRANSPORTS, ids=lambda transport: transport.__name__)
def test_shared_state_works_under_every_start_method(transport, method, tmp_path):
    """All kinds go together, since each process takes its time to start."""
    nears = [far.NearShared(kind) for kind in KINDS]
    uses, handles = [near.use for near in nears], [near.give() for near in nears]
    answers = transport(uses, handles, str(tmp_path / "answer"), method)
    for near, answer in zip(nears, answers, strict=True):
        near.check(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_it_outlives_its_creator(kind, tmp_path):
    """Made in a worker that is gone before anybody uses it."""
    with Pool(1) as pool:
        handle = parallel_map(far.make, [kind], pool=pool)[0]
    assert far.USES[kind](handle) == (15 if kind == "SharedCounter" else 10)
    with Pool(1) as pool:
        assert parallel_map(far.USES[kind], [handle], pool=pool) == [
            20 if kind == "SharedCounter" else 15
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_it_outlives_a_creator_that_is_killed(kind):
    carrier: Channel[Any] = Channel()

    def create(me):
        made = far.make(kind)
        far.USES[kind](made)
        carrier.send(made)
        me.say()
        me.hear()

    with child(create) as creator:
        creator.hear()
        creator.kill()
    handle = carrier.receive(timeout=PATIENCE)

    assert far.USES[kind](handle) == (20 if kind == "SharedCounter" else 15)


def test_the_same_counter_twice_in_one_message_is_one_object(pool):
    assert parallel_map(
        lambda pair: pair[0] is pair[1], [[far.make("SharedCounter")] * 2], pool=pool
    )


# --- doors ----------------------------------------------------------------------------------------


def pickled_into_bytes(handle):
    pickle.dumps(handle)


def pickled_into_a_file(handle):
    pickle.dump([1, handle], io.BytesIO(), protocol=5)


def put_into_a_simple_queue(handle):
    queue: Any = multiprocessing.SimpleQueue()
    with closing(queue):
        queue.put(handle)


@pytest.mark.parametrize(
    "door", [pickled_into_bytes, pickled_into_a_file, put_into_a_simple_queue],
    ids=lambda door: door.__name__,
)  # fmt: skip
def test_where_it_cannot_go_the_door_says_so(near, door):
    with pytest.raises(SerializationError, match=near.kind.rpartition(" ")[2]):
        door(near.mine)
    collect()

    near.check(far.USES[near.kind](near.mine))
