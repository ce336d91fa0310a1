"""What ends a wait that would never end: the group's failure, or that nobody is left who sends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from typing import Any

import pytest

from parmap import (
    Channel,
    ChannelError,
    Restart,
    TaskErrorGroup,
    WorkerGroup,
    WorkerLostError,
    parallel_imap,
    parallel_map,
    run_workers,
    select,
)
from parmap._group.stuck import deadlock
from support import group_tasks as tasks
from support.gates import Gate, wait_until
from support.tasks import START_METHODS, hang, identity

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


def here():
    """The line that calls this, as an error names it."""
    import sys

    frame = sys._getframe(1)
    return f"{__file__}:{frame.f_lineno}"


# ---------------------------------------------------------------------- the failure


def hang_in_turn(number, gate):
    time.sleep(600)


def wait_on_a_map(gate):
    parallel_map(hang_in_turn, [1, 2, 3], [gate] * 3)


def wait_on_a_stream(gate):
    next(parallel_imap(hang_in_turn, [1, 2, 3], [gate] * 3))


def wait_on_run_workers(gate):
    run_workers(hang_in_turn, 2, gate)


def wait_for_room(gate):
    channel = Channel[Any](1)
    channel.send(1)
    channel.send(2)


WAITS = {
    "receive": lambda gate: Channel().receive(),
    "receive in a while": lambda gate: Channel().receive(timeout=600),
    "receive_many": lambda gate: Channel().receive_many(5),
    "iteration": lambda gate: list(Channel()),
    "send": wait_for_room,
    "select": lambda gate: select(Channel(), Channel[Any]()),
    "parallel_map": wait_on_a_map,
    "parallel_imap": wait_on_a_stream,
    "run_workers": wait_on_run_workers,
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_in_the_block_ends_with_the_failure_which_is_told_once(gate, wait):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        hanging = group.start(hang, gate)
        group.start(tasks.fail_behind, gate)
        with pytest.raises(ValueError, match="failed") as heard:
            WAITS[wait](gate)
        WAITS[wait](gate)  # and again: nothing is waited for any more

    assert info.value.exceptions == (heard.value,)
    with pytest.raises(WorkerLostError, match="stopped with its group"):
        hanging.result()


def test_what_can_be_received_without_waiting_is_received_after_the_failure(gate):
    channel = Channel[Any]()
    with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
        failing = group.start(tasks.fail_behind, gate)
        gate.open()
        failing.join()
        channel.send_many([1, 2])
        assert [channel.receive(), channel.try_receive()] == [1, 2]
        with pytest.raises(ValueError, match="failed"):
            channel.receive()


def test_a_failure_ends_the_inner_group_of_its_block_and_is_told_once(gate):
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as outer:
        outer.start(tasks.fail_behind, gate)
        with WorkerGroup() as inner:
            hanging = inner.start(hang, gate)
            late = inner.start(time.sleep, 600)

    assert [repr(error) for error in info.value.exceptions] == ["ValueError('failed')"]
    assert not hanging.is_alive()
    assert not late.is_alive()


def test_another_thread_than_the_block_s_waits_on(gate):
    channel = Channel[Any]()
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(channel))
    with channel.sender as sender:
        thread.start()
        with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
            failing = group.start(tasks.fail_behind, gate)
            gate.open()
            failing.join()
        sender.send("late")
    thread.join()

    assert seen == ["late"]


def test_behind_the_block_waits_are_waits_again(gate):
    with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
        group.start(tasks.fail_behind, gate)
        gate.open()

    with pytest.raises(TimeoutError):
        Channel().receive(timeout=0)


def test_a_fork_of_the_block_does_not_hear_of_the_group(gate):
    with pytest.raises(TaskErrorGroup), WorkerGroup() as group:
        failing = group.start(tasks.fail_behind, gate)
        gate.open()
        failing.join()
        with pytest.raises(ValueError, match="failed"):
            Channel().receive()
        child = os.fork()
        if child == 0:
            try:
                Channel().receive(timeout=0)
            except TimeoutError:
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 7


# ---------------------------------------------------------------------- nobody is left who sends


def consume(channel):
    return list(channel)


def consume_as_one_of_several(rank, channel):
    return list(channel)


def consume_by_select(*channels):
    while True:
        for channel in select(*channels):
            channel.receive()


def pass_on(source, target):
    for item in source:
        target.send(item)
    target.close()


@pytest.mark.parametrize("method", START_METHODS)
def test_a_block_that_forgot_to_close_raises_and_names_the_channel(method):
    channel, line = Channel[Any](), here()
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup(start_method=method) as group:
        workers = [group.start(consume, channel) for _ in range(2)]
        channel.send_many(range(5))

    (error,) = info.value.exceptions
    assert type(error) is ChannelError
    assert f"(made at {line})" in str(error)
    assert "this process is the only sender left" in str(error)
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("method", ["result", "ready"])
def test_so_does_a_wait_for_a_worker_and_join_says_that_it_has_not_ended(method):
    channel = Channel[Any]()
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        worker = group.start(consume, channel)
        channel.send(1)
        assert worker.join() is False
        with pytest.raises(ChannelError, match="only sender left") as heard:
            worker.result() if method == "result" else group.ready(worker)
        channel.close()  # what the error said
        assert worker.result() == [1]
        raise heard.value

    assert info.value.exceptions == (heard.value,)


def test_run_workers_raises_it_itself():
    channel = Channel[Any]()
    channel.send(1)

    with pytest.raises(ChannelError, match="only sender left"):
        run_workers(consume_as_one_of_several, 2, channel)


def test_an_open_end_is_a_sender_as_well_as_the_channel():
    channel = Channel[Any]()
    sender = channel.sender

    with pytest.raises(TaskErrorGroup, match="block raised"), WorkerGroup() as group:
        group.start(consume, channel.receiver)
    sender.close()


def test_a_channel_through_which_nobody_ever_sends():
    one, other = Channel[Any](), Channel[Any]()
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(consume, one)
        group.start(consume_by_select, one, other)

    assert "nobody sends" in str(info.value.exceptions[0])


def test_a_chain_of_workers_is_stuck_at_its_head():
    first, second, line = Channel[Any](), Channel[Any](), here()
    with pytest.raises(TaskErrorGroup) as info, WorkerGroup() as group:
        group.start(pass_on, first, second.sender)
        group.start(consume, second)
        first.send(1)

    assert f"(made at {line})" in str(info.value.exceptions[0])


def test_a_wait_with_a_timeout_is_not_for_ever():
    channel = Channel[Any]()
    with WorkerGroup() as group:
        worker = group.start(consume, channel)
        channel.send(1)
        assert not worker.join(timeout=1)
        with pytest.raises(TimeoutError):
            worker.result(timeout=0)
        channel.close()

    assert worker.result() == [1]


def test_a_group_that_ends_by_itself_raises_nothing():
    """The sender is dropped while all wait; and once more in time."""
    channel = Channel[Any]()
    with WorkerGroup() as group:
        worker = group.start(consume, channel)
        channel.send(1)
        wait_until_parked(worker)
        channel.close()

    assert worker.result() == [1]


def wait_until_parked(worker):
    wait_until(lambda: worker._seat.parked, f"{worker.name} to wait for long")


def parked_group(group, *channels):
    """Workers that wait, and have said so."""
    workers = [group.start(consume, channel) for channel in channels]
    for worker in workers:
        wait_until_parked(worker)
    return workers


def test_in_doubt_there_is_no_verdict(gate):
    """As long as somebody else runs who may send something later."""
    channel, other = Channel[Any](), Channel[Any]()
    channel.send(1)
    other.send(1)
    with WorkerGroup() as group:
        parked_group(group, channel, other)
        assert "made at" in str(deadlock("group"))

        thread = threading.Thread(target=gate.wait)
        thread.start()
        assert deadlock("group") is None
        gate.open()
        thread.join()
        assert deadlock("group") is not None

        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
        process.start()
        assert deadlock("group") is None
        process.kill()
        process.join()
        assert deadlock("group") is not None

        busy = group.start(time.sleep, 600)
        assert deadlock("group") is None
        busy.kill()
        busy.join()
        assert deadlock("group") is not None

        with WorkerGroup() as inner:
            inner.start(time.sleep, 0)
            assert deadlock("group") is None
        assert deadlock("group") is not None

        channel.send(2)  # one of them goes on
        assert deadlock("group") is None
        channel.close()
        other.close()


def test_a_group_whose_workers_have_ended_is_not_the_one_that_waits():
    """It takes a moment to end, and that is no reason to raise in it what is true of another."""
    channel = Channel[Any]()
    channel.send(1)
    with WorkerGroup() as group:
        parked_group(group, channel)
        with WorkerGroup() as inner:
            inner.start(int).join()
            assert deadlock(inner._name) is None
            assert deadlock(group._name) is not None
        channel.close()


def test_an_idle_pool_is_no_doubt(gate):
    parallel_map(identity, [1, 2])
    channel = Channel[Any]()
    channel.send(1)
    with WorkerGroup() as group:
        parked_group(group, channel)
        assert deadlock("group") is not None
        channel.close()


def consume_beside_a_thread(channel, gate):
    thread = threading.Thread(target=hang, args=(gate,), daemon=True)
    thread.start()
    return list(channel)


def test_a_worker_with_another_thread_does_not_claim_to_wait(gate):
    """Its own sender may be in that thread."""
    channel = Channel[Any]()
    with WorkerGroup() as group:
        worker = group.start(consume_beside_a_thread, channel, gate)
        channel.send(1)
        assert not worker.join(timeout=1)
        assert worker._seat.parked is None
        channel.close()


def fail_once_then_consume(channel, gate):
    if gate.is_open:
        return list(channel)
    gate.open()
    for item in channel:
        raise ValueError(item)
    return None


def test_after_a_restart_only_what_the_new_process_waits_for_counts(gate):
    channel = Channel[Any]()
    with WorkerGroup() as group:
        worker = group.start(fail_once_then_consume, channel, gate, restart=Restart())
        wait_until_parked(worker)
        first = worker.pid
        channel.send(1)
        wait_until(lambda: worker.pid != first, "the next process")
        wait_until_parked(worker)
        channel.close()

    assert worker.result() == []
