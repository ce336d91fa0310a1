"""Both containers, through every transport: what arrives is the container that was sent."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Channel, Pool, SharedDict, SharedList, parallel_map, run_workers
from parmap.errors import EndOfChannel, SerializationError
from support.channel_peers import child, collect
from support.container_tools import KINDS, Near, let_run, use
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


def inside_a_container(near, road):
    outer: Any = SharedDict()
    outer["inner"] = [near.give()]
    return parallel_map(lambda d: use(d["inner"][0]), [outer], pool=road.pool)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "transport", [*TRANSPORTS, inside_a_container], ids=lambda transport: transport.__name__
)
def test_a_container_works_where_it_arrives(kind, transport, road):
    near = Near(kind)
    near.check(transport(near, road))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("transport", METHOD_TRANSPORTS, ids=lambda transport: transport.__name__)
def test_containers_work_under_every_start_method(transport, method, tmp_path):
    """All kinds go together, since each process takes its time to start."""
    nears = [Near(kind) for kind in KINDS]
    uses, path = [near.use for near in nears], str(tmp_path / "answer")
    answers = transport(uses, [near.give() for near in nears], path, method)
    for near, answer in zip(nears, answers, strict=True):
        near.check(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_container_cannot_go_the_door_says_so(kind):
    handle = KINDS[kind]()
    for pickled in (pickle.dumps, lambda x: pickle.dump([x], io.BytesIO())):
        with pytest.raises(SerializationError, match=f"{kind} travels with its memory"):
            pickled(handle)


def make(kind):
    near = Near(kind)
    return near.give()


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_outlives_its_creator(kind, pool):
    with Pool(1) as other:
        handle = other.submit(make, kind).result(PATIENCE)
    assert pool.submit(use, handle).result(PATIENCE) is True


# --- handles inside -------------------------------------------------------------------------------


def store_channel(container, key):
    """Store what nobody else has; the process then ends."""
    channel: Channel[Any] = Channel()
    channel.send("from the dead")
    container[key] = {"deep": [channel]}


@pytest.mark.parametrize("end", ["well", "killed"])
def test_a_handle_inside_outlives_the_process_that_stored_it(end):
    d: SharedDict[str, Any] = SharedDict()

    def body(me):
        store_channel(d, "c")
        me.say("stored")
        if end == "killed":
            me.hear()

    with child(body) as process:
        assert process.hear() == "stored"
        if end == "killed":
            process.kill()
        else:
            process.end_well()
    channel = d["c"]["deep"][0]
    assert channel.receive(timeout=PATIENCE) == "from the dead"


def test_a_sender_inside_counts_as_open_until_it_is_removed():
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    holder = SharedList([channel.sender])
    holder[0].send(1)
    collect()
    assert receiver.receive(timeout=PATIENCE) == 1
    with pytest.raises(TimeoutError):
        receiver.receive(timeout=0.05)
    holder.clear()
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


def test_containers_nest_and_hold_themselves():
    d: SharedDict[str, Any] = SharedDict()
    d["list"] = SharedList([SharedDict(x=1)])
    d["self"] = d
    d["list"][0]["x"] += 1
    d["self"]["self"]["y"] = 2
    assert d["list"][0]["x"] == 2
    assert (d["y"], list(d)) == (2, ["list", "self", "y"])
    assert "SharedDict(...)" in repr(d)
    del d["self"]  # else the kernel's own collector of sockets has to find it


def test_more_handles_than_can_be_kept_are_refused_at_the_door():
    d: SharedDict[int, Any] = SharedDict()
    shared: SharedList[int] = SharedList()
    with pytest.raises(SerializationError, match="cannot keep more handles"):
        for number in range(100_000):
            d[number] = shared
    kept = len(d)
    assert kept >= 50
    assert number == kept
    d[0][:] = [1]
    assert d[kept - 1] == [1]  # what is there is whole
    d.popitem()
    d["again"] = shared
    assert d["again"] == [1]


def test_handles_of_the_killed_are_let_go(rng):
    """Killed again and again while they store and overwrite senders, they leave none open."""
    channel: Channel[Any] = Channel()
    receiver = channel.receiver
    d: SharedDict[int, Any] = SharedDict()

    def work(me):
        receiver.close()
        me.say("ready")
        while True:
            with channel.sender as sender:
                d[rng.randrange(3)] = sender

    for _ in range(12):
        with child(work) as victim:
            victim.hear()
            let_run(rng.uniform(0.001, 0.01))
            victim.kill()
    d.clear()
    d["news"] = channel  # takes over the mutex, should somebody have died with it
    del d["news"]
    with pytest.raises(EndOfChannel):
        receiver.receive(timeout=PATIENCE)


# --- in use by several ----------------------------------------------------------------------------


def count(rank, d, times):
    for _ in range(times):
        d.update_item("n", lambda n: n + 1, 0)
        d.update_item(rank, lambda seen: [*seen, len(seen)], [])
    return d["n"] >= times


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_no_update_is_lost_between_processes(method):
    d: SharedDict[Any, Any] = SharedDict()
    with Pool(3, start_method=method) as pool:
        futures = [pool.submit(count, rank, d, 100) for rank in range(3)]
        assert [future.result(PATIENCE) for future in futures] == [True] * 3
    assert d == {"n": 300, **{rank: list(range(100)) for rank in range(3)}}


def test_workers_of_a_group_share_a_list():
    found: SharedList[int] = SharedList()
    run_workers(lambda rank: found.extend([rank] * 50), 3)
    assert found == [x for _, x in sorted((found.index(r), r) for r in range(3)) for _ in range(50)]


def test_a_forked_child_goes_on_with_the_same_container():
    d: SharedDict[str, Any] = SharedDict(a=1)
    assert d["a"] == 1

    def body(me):
        me.hear()
        d["child"] = d["a"]
        me.say(d.copy())

    with child(body) as process:
        d["a"] = 2
        process.say()
        assert process.hear() == {"a": 2, "child": 2}
        process.end_well()
    assert d == {"a": 2, "child": 2}
