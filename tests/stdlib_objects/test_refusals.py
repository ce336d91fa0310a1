"""What cannot travel says which object it is, and what to write instead."""

from __future__ import annotations

import functools
import multiprocessing
import re
import socket
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Channel, Pool, SerializationError, WorkerGroup, parallel_map, run_workers
from support.scripts import output_of
from support.stdlib_kinds import KINDS, LOCKED, OPEN

if TYPE_CHECKING:
    from pathlib import Path

FORK = multiprocessing.get_context("fork")
CURES = {
    "Queue": ("Queue()", "parmap.Channel()"),
    "SimpleQueue": ("SimpleQueue()", "parmap.Channel()"),
    "JoinableQueue": ("JoinableQueue()", "parmap.Channel()"),
    "Lock": ("Lock()", "parmap.Lock()"),
    "RLock": ("RLock()", "parmap.RLock()"),
    "Semaphore": ("Semaphore()", "parmap.Semaphore()"),
    "BoundedSemaphore": ("BoundedSemaphore()", "parmap.Semaphore()"),
    "Event": ("Event()", "parmap.Event()"),
    "Condition": ("Condition()", "parmap.Condition()"),
    "Barrier": ("Barrier(...)", "parmap.Barrier(...)"),
    "Value": ("Value(...)", "parmap.SharedValue(...)"),
    "Array": ("Array(...)", "parmap.SharedArray(...)"),
    "Array of bytes": ("Array(...)", "parmap.SharedArray(...)"),
}


class Holder:
    def __init__(self, lock: Any) -> None:
        self.lock = lock


@pytest.mark.parametrize("name", LOCKED)
def test_what_a_fork_context_made_names_its_path_and_the_cure(name: str) -> None:
    made = Holder(KINDS[name].make(FORK))

    with pytest.raises(SerializationError) as caught:
        parallel_map(lambda holder, other: None, [0], [made])

    stdlib, ours = CURES[name]
    assert caught.value.path == "args[1].lock"
    assert caught.value.direction == "to worker"
    assert f'multiprocessing.get_context("spawn").{stdlib}' in str(caught.value)
    assert ours in str(caught.value)


@pytest.mark.parametrize("name", sorted(OPEN - {"SharedMemory", "ShareableList"}))
def test_what_has_no_semaphore_travels_whoever_made_it(name: str) -> None:
    made = KINDS[name].make(FORK)

    parallel_map(KINDS[name].use, [made])

    assert KINDS[name].look(made) == KINDS[name].expected


def test_the_path_is_found_wherever_the_object_is() -> None:
    lock = FORK.Lock()

    def path_of(call: Any) -> str | None:
        with pytest.raises(SerializationError) as caught:
            call()
        return caught.value.path

    def use() -> Any:
        return lock

    group = WorkerGroup()
    with group:
        assert path_of(lambda: group.start(len, [lock])) == "args[0][0]"
    with Pool(1) as pool:
        assert path_of(lambda: pool.submit(len, [lock]).result()) == "args[0][0]"
        assert path_of(lambda: pool.submit(use).result()) == "fn.__closure__['lock']"
        assert path_of(lambda: pool.submit(dict, file=lock).result()) == "kwargs['file']"
        partial = functools.partial(max, key=lock)
        assert path_of(lambda: pool.submit(partial, 1).result()) == "fn.keywords['key']"
    assert path_of(lambda: Pool(1, None, print, (1, lock))) == "initargs[1]"
    assert path_of(lambda: Pool(1, None, use)) == "initializer.__closure__['lock']"
    assert path_of(lambda: run_workers(lambda rank, key: 0, 1, {"k": lock})) == "args[1]['k']"
    assert path_of(lambda: Channel[Any]().send({"k": lock})) == "item['k']"


def test_an_innocent_neighbour_is_not_blamed() -> None:
    """A channel needs a place for its descriptors: so it does while the guilty one is looked for."""
    with pytest.raises(SerializationError) as caught:
        parallel_map(len, [[Channel[int](), FORK.Pipe()[0], FORK.Lock()]])

    assert caught.value.path == "args[0][2]"


@pytest.mark.parametrize("name", [*LOCKED])
def test_locks_and_queues_are_no_results(name: str) -> None:
    """As in multiprocessing: they end with the worker that made them."""
    make = KINDS[name].make

    with pytest.raises(SerializationError, match="make it in the parent") as caught:
        parallel_map(lambda _: make(multiprocessing.get_context("spawn")), [0])

    assert caught.value.direction == "to caller"


def test_one_that_was_dropped_on_its_way_through_a_channel_says_so() -> None:
    channel = Channel[Any]()
    channel.send(multiprocessing.get_context("spawn").Lock())  # nobody keeps it

    with pytest.raises(SerializationError, match="Lock of multiprocessing was gone"):
        channel.receive()


def test_closed_ones_say_so() -> None:
    one, other = multiprocessing.Pipe()
    one.close()
    other.close()
    memory = shared_memory.SharedMemory(create=True, size=1)
    memory.close()
    memory.unlink()
    left, right = socket.socketpair()
    left.close()
    right.close()

    for dead in (one, left, memory):
        with pytest.raises(SerializationError, match=re.compile("args.0. .*closed", re.DOTALL)):
            parallel_map(str, [dead])


def test_where_no_descriptor_can_be_passed_the_one_that_needs_it_is_named(tmp_path: Path) -> None:
    """As on Windows; what has a name travels there, too."""
    script = """
        import multiprocessing, socket
        import parmap

        spawn = multiprocessing.get_context("spawn")
        print(parmap.parallel_map(lambda lock: lock.acquire(), [spawn.Lock()]))
        for obj in (spawn.Pipe()[0], socket.socket(), parmap.Lock()):
            try:
                parmap.parallel_map(str, [obj])
            except parmap.SerializationError as error:
                print(error.path, "cannot pass file descriptors" in str(error))
    """

    printed = output_of(script, tmp_path, PARMAP_PORTABLE="2")

    assert printed == "[True]\n" + "args[0] True\n" * 3
