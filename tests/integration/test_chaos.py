"""`parmap.testing.chaos`: the same items are lost in each run, and recovery can be tested with it."""

from __future__ import annotations

import os
import sys

import pytest

from parmap import (
    Channel,
    Pool,
    Restart,
    Retry,
    TaskFailure,
    WorkerGroup,
    WorkerLostError,
    parallel_imap,
    parallel_map,
)
from parmap.testing import chaos
from support.gates import Diary
from support.tasks import double

ITEMS = range(20)
# With kill=0.1: by seed, what the first call in the block loses.  A change of these numbers is a
# change that users see.
LOST = {3: [2, 8, 14], 9: [10, 15], 11: [1, 8, 15]}


def lost_in(outcomes):
    return [outcome.index for outcome in outcomes if isinstance(outcome, TaskFailure)]


def test_the_same_items_are_lost_whatever_the_workers_and_the_chunks():
    with chaos(kill=0.1, delay=0.001, seed=3):
        first = parallel_map(double, ITEMS, max_workers=2, on_error="return")
    with chaos(kill=0.1, delay=0, seed=3), Pool(1) as pool:
        again = parallel_map(double, ITEMS, chunksize=7, pool=pool, on_error="return")

    assert lost_in(first) == lost_in(again) == LOST[3]
    assert all(type(first[index].error) is WorkerLostError for index in LOST[3])
    kept = [index for index in ITEMS if index not in LOST[3]]
    assert [first[index] for index in kept] == [double(index) for index in kept]


def test_another_seed_and_another_call_lose_other_items():
    with chaos(kill=0.1, delay=0, seed=11):
        calls = [parallel_map(double, ITEMS, max_workers=2, on_error="return") for _ in range(2)]

    assert list(map(lost_in, calls)) == [LOST[11], [6, 16]]


def test_retries_bring_every_result_in_the_order_of_the_items():
    with chaos(kill=0.1, delay=0, seed=9):
        assert parallel_map(double, ITEMS, max_workers=2, retry=20) == [2 * x for x in ITEMS]
        with parallel_imap(double, iter(ITEMS), max_workers=2, retry=Retry(20)) as results:
            assert list(results) == [2 * x for x in ITEMS]


def test_attempts_are_counted_as_without_chaos():
    with chaos(kill=1, delay=0):
        (outcome,) = parallel_map(double, [1], max_workers=1, retry=3, on_error="return")

    assert (outcome.attempts, type(outcome.error)) == (3, WorkerLostError)


def test_some_die_before_the_function_and_some_after_it(tmp_path):
    diary = Diary(tmp_path / "ran")
    with chaos(kill=0.1, delay=0, seed=3):
        outcomes = parallel_map(diary.write, ITEMS, max_workers=2, on_error="return")

    ran = set(diary.numbers())
    lost = set(lost_in(outcomes))
    assert lost - ran == {14}
    assert lost & ran == {2, 8}
    assert ran - lost == set(ITEMS) - lost


def test_submitted_calls_are_numbered_in_their_order():
    with Pool(2) as pool, chaos(kill=0.4, delay=0, seed=4):
        futures = [pool.submit(double, number) for number in range(6)]
        lives = [future.exception() is None for future in futures]

    assert lives == [True, False, False, True, False, True]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.stress)])
def test_it_reaches_workers_of_every_start_method(method):
    with chaos(kill=0.1, delay=0, seed=9), Pool(1, start_method=method) as pool:
        outcomes = parallel_map(double, ITEMS, pool=pool, on_error="return")

    assert lost_in(outcomes) == LOST[9]


def test_a_process_of_a_group_dies_where_it_uses_a_channel_and_is_started_again():
    channel = Channel[int](100)
    receiver = channel.receiver

    def produce(out):
        for number in range(3):
            out.send(number)
        return "done"

    with chaos(kill=0.3, delay=0.001, seed=2), WorkerGroup() as group:
        worker = group.start(produce, channel.sender, restart=Restart(max_restarts=1000))

    assert worker.result() == "done"
    assert list(receiver) == [0, 0, 1, 0, 1, 2]  # the first died after one, the second after two


def test_a_process_of_a_group_without_restarts_is_lost():
    with (
        pytest.raises(ExceptionGroup) as caught,
        chaos(kill=1, delay=0),
        WorkerGroup() as group,
    ):
        group.start(double, 1)

    assert isinstance(caught.value.exceptions[0], WorkerLostError)


def test_outside_the_block_nothing_happens_and_the_error_of_a_block_is_no_matter():
    with Pool(2) as pool:
        with pytest.raises(LookupError), chaos(kill=1):
            raise LookupError
        assert parallel_map(double, ITEMS, pool=pool) == [2 * x for x in ITEMS]
        with chaos(kill=1, delay=0):
            with chaos(kill=0, delay=0):
                assert parallel_map(double, [1, 2, 3], pool=pool) == [2, 4, 6]
            assert lost_in(parallel_map(double, [1], pool=pool, on_error="return")) == [0]
        assert parallel_map(double, [1, 2, 3], pool=pool) == [2, 4, 6]


def test_a_traceback_has_no_frame_of_it():
    def broken(number):
        raise ValueError(number)

    with chaos(kill=0, delay=0), pytest.raises(ValueError, match="1") as caught:
        parallel_map(broken, [1], max_workers=1)

    files = []
    trace = caught.value.__traceback__
    while trace is not None:
        files.append(os.path.basename(trace.tb_frame.f_code.co_filename))
        trace = trace.tb_next
    assert "trouble.py" not in files


def test_a_worker_without_chaos_never_loads_it():
    with Pool(1) as pool:
        assert pool.submit(lambda: "parmap._worker.trouble" in sys.modules).result() is False


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"kill": 1.5}, ValueError, "kill"),
        ({"kill": -1}, ValueError, "kill"),
        ({"kill": "often"}, TypeError, "kill"),
        ({"delay": -1}, ValueError, "delay"),
        ({"seed": "x"}, TypeError, "seed"),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(wrong, error, words):
    with pytest.raises(error, match=words):
        chaos(**wrong)
