"""Groups and channels together: ends as arguments, through restarts, kills and plain processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import nullcontext
from typing import Any

import pytest

from parmap import (
    Channel,
    EndOfChannel,
    Restart,
    TaskErrorGroup,
    WorkerGroup,
    report_ready,
    run_workers,
    select,
)
from support.gates import PATIENCE, Gate
from support.tasks import START_METHODS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def produce(numbers, sender):
    sender.send_many(numbers)


def consume(receiver, results):
    count = 0
    for number in receiver:
        results.send(-number)
        count += 1
    return count


@pytest.mark.parametrize("method", START_METHODS)
def test_two_producers_and_three_consumers_need_no_closing_in_the_parent(method):
    items, results = Channel[int](3), Channel[int]()
    with WorkerGroup(start_method=method) as group:
        with items.sender, results.sender:
            for first in (0, 10):
                group.start(produce, range(first, first + 10), items.sender)
            consumers = [group.start(consume, items.receiver, results.sender) for _ in range(3)]
        assert sorted(results) == list(range(-19, 1))

    assert sum(consumer.result() for consumer in consumers) == 20


def send_rank_at_once_or_last(rank, sender, gate):
    """The first one is done, and its process gone, before the others begin to send."""
    if rank:
        gate.wait()
    with sender:
        sender.send(rank)
    if rank == 0:
        gate.open()


def test_run_workers_holds_the_ends_that_it_was_given_until_all_have_them(tmp_path):
    channel = Channel[int]()
    run_workers(send_rank_at_once_or_last, 3, channel.sender, Gate(tmp_path / "gate"))

    assert sorted(channel) == [0, 1, 2]


def send_and_die_the_first_time(sender, gate):
    if gate.is_open:
        sender.send("second")
        return
    gate.open()
    sender.send("first")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_sender_stays_open_for_as_long_as_its_worker_may_be_restarted(tmp_path, restarts):
    """Between two processes of a worker nobody holds it, and the stream goes on."""
    channel = Channel[str]()
    budget = Restart(max_restarts=restarts, delay=0.3)
    gate = Gate(tmp_path / "gate")
    ending: Any = nullcontext() if restarts else pytest.raises(TaskErrorGroup, match="1 of its")
    with ending, WorkerGroup() as group:
        group.start(send_and_die_the_first_time, channel.sender, gate, restart=budget)

    assert list(channel) == ["first", "second"][: restarts + 1]


def send_then_hang(sender, gate):
    sender.send(1)
    gate.wait(600)


def test_the_stream_ends_when_the_worker_that_sends_is_killed(tmp_path):
    channel = Channel[int]()
    with WorkerGroup() as group:
        worker = group.start(send_then_hang, channel.sender, Gate(tmp_path / "gate"))
        assert channel.receive(timeout=PATIENCE) == 1
        worker.kill()
        with pytest.raises(EndOfChannel):
            channel.receive(timeout=PATIENCE)


def serve(requests):
    """Say where to ask, by an end of a channel of its own."""
    own = Channel[Any]()
    report_ready(own.sender)
    for number, reply in own:
        with reply:
            reply.send(number * 2)
    return own.receiver


def test_ends_go_up_in_readiness_and_results_and_along_in_messages():
    with WorkerGroup() as group:
        server = group.start(serve, None)
        sender = group.ready(server, timeout=PATIENCE)
        replies = Channel[int]()
        with sender:
            sender.send((21, replies.sender))
            assert list(replies) == [42]

    with pytest.raises(EndOfChannel):
        server.result().receive(timeout=PATIENCE)


def relay_by_select(receivers, results, inherited):
    """Take from all that are ready, until all have ended."""
    for end in inherited:  # by a fork; else they are copies
        end.close()
    open_ones = list(receivers)
    while open_ones:
        for receiver in select(*open_ones, timeout=PATIENCE):
            try:
                results.send(receiver.receive())
            except EndOfChannel:
                open_ones.remove(receiver)
    results.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_select_works_in_processes_that_plain_multiprocessing_started(method):
    one, other, results = Channel[int](), Channel[int](), Channel[int]()
    context: Any = multiprocessing.get_context(method)
    with one.sender as to_one, other.sender as to_other, results.sender as sender:
        arguments = [one.receiver, other.receiver], sender, [to_one, to_other]
        process = context.Process(target=relay_by_select, args=arguments)
        process.start()
        sender.close()
        for number in range(1, 4):
            to_one.send(number)
            to_other.send(-number)
            assert {results.receive(PATIENCE), results.receive(PATIENCE)} == {number, -number}
    process.join(PATIENCE)

    assert process.exitcode == 0
    with pytest.raises(EndOfChannel):
        results.receive(PATIENCE)
