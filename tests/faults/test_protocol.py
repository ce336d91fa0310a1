"""A worker is dealt a blow at each step of the protocol; each blow, each start method.

After each: exactly the guilty item is in error, every other result is there, the pool works, nobody
is left (the check around each test), and nothing was printed on stderr.
"""

from __future__ import annotations

import os
from functools import partial

import pytest

from parmap import Pool, TaskFailure, WorkerLostError, parallel_imap, parallel_map
from support.faults import (
    BLOWS,
    LARGE,
    HaltsWhenPickled,
    HaltsWhenUnpickled,
    Meanwhile,
    Stage,
    exit_on_request,
    kill,
    resume,
    stop,
    wait_until_it_receives,
    wait_until_it_sends,
)
from support.gates import Diary, Gate, all_workers
from support.tasks import START_METHODS, double, identity

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/syscall"), reason="Linux only")

# The whole matrix under `make nightly`; the usual run has the default way, and a little of the others.
METHODS = [
    pytest.param(method, marks=[] if method is None else [pytest.mark.stress], id=str(method))
    for method in START_METHODS
]
STRIKES = [
    pytest.param(*blow, marks=[pytest.mark.stress] if "STOP" in name else [], id=name)
    for name, blow in BLOWS.items()
]


@pytest.fixture(autouse=True)
def _nothing_is_printed(capfd):
    yield
    assert capfd.readouterr().err == ""


@pytest.fixture(params=METHODS)
def pool(request, tmp_path):
    """Two warm workers; afterwards they, or their successors, must work."""
    with Pool(2, start_method=request.param, initializer=exit_on_request) as pool:
        all_workers(pool, 2, tmp_path)
        yield pool
        assert parallel_map(double, range(20), pool=pool) == [2 * x for x in range(20)]


def outcomes_of(fn, items, pool):
    return parallel_map(fn, items, pool=pool, chunksize=1, on_error="return")


def assert_lost(outcome, exitcode, index=0):
    assert type(outcome) is TaskFailure, outcome
    assert type(outcome.error) is WorkerLostError
    assert (outcome.index, outcome.error.exitcode, outcome.attempts) == (index, exitcode, 1)


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_while_idle(pool, blow, exitcode, tmp_path):
    for pid in set(all_workers(pool, 2, tmp_path)):
        wait_until_it_receives(pid)
        blow(pid)

    assert outcomes_of(identity, range(6), pool) == list(range(6))


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_while_reading_the_task(pool, blow, exitcode, tmp_path):
    """Half of the task is in the socket; the parent's loop is busy elsewhere."""
    one, other = all_workers(pool, 2, tmp_path)
    stop(one)
    stop(other)

    def strike():  # the first of the large tasks is on its way, to one of the two
        blow(one)
        blow(other)

    large = b"x" * LARGE
    results = outcomes_of(len_or_number, [large, Meanwhile(strike, 1), large, 3], pool)

    assert results == [LARGE, 1, LARGE, 3]


def len_or_number(item):
    return len(item) if isinstance(item, bytes) else item


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_while_unpickling(pool, blow, exitcode, tmp_path):
    stage = Stage(tmp_path)
    with stage.strikes(blow):
        guilty, *others = outcomes_of(identity, [HaltsWhenUnpickled(stage), *range(1, 6)], pool)

    assert_lost(guilty, exitcode)
    assert others == list(range(1, 6))


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_while_running(pool, blow, exitcode, tmp_path):
    stage = Stage(tmp_path)

    def task(number):
        if number == 2:
            stage.halt()
        return number

    with stage.strikes(blow):
        results = outcomes_of(task, range(6), pool)

    assert_lost(results[2], exitcode, 2)
    assert results[:2] + results[3:] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_while_pickling_the_result(pool, blow, exitcode, tmp_path):
    stage = Stage(tmp_path)
    with stage.strikes(blow):
        guilty, *others = outcomes_of(
            lambda number: number or HaltsWhenPickled(stage), range(6), pool
        )

    assert_lost(guilty, exitcode)
    assert others == list(range(1, 6))


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_while_writing_a_large_result(pool, blow, exitcode, tmp_path):
    """The item is done: what is lost is the result, nobody is guilty, and it is run again."""
    victims = Diary(tmp_path / "victims")

    def task(number):
        if number == 0:
            victims.write(os.getpid())
            return bytes(LARGE)
        return number

    def strike():  # in the parent's loop, which reads nothing meanwhile
        pid = int(victims.wait_for(1)[0])
        wait_until_it_sends(pid)
        blow(pid)

    large, *others = outcomes_of(task, [0, Meanwhile(strike, 1), *range(2, 6)], pool)

    assert large == bytes(LARGE)
    assert others == list(range(1, 6))
    assert len(victims.lines()) == 2


@pytest.mark.parametrize(("blow", "exitcode"), STRIKES)
def test_just_after_a_small_result(pool, blow, exitcode, tmp_path):
    """What a dead worker had written to its end is heard: the item does not run twice."""
    victims = Diary(tmp_path / "victims")

    def task(number):
        if number == 0:
            victims.write(os.getpid())
        return number

    def strike():
        pid = int(victims.wait_for(1)[0])
        wait_until_it_receives(pid)
        blow(pid)

    assert outcomes_of(task, [0, Meanwhile(strike, 1), *range(2, 6)], pool) == list(range(6))
    assert len(victims.lines()) == 1


def test_all_workers_at_once_while_they_run(pool, tmp_path):
    meeting, gate = Diary(tmp_path / "meeting"), Gate(tmp_path / "never")

    def task(number):
        if number < 2:
            meeting.write(os.getpid())
            gate.wait()
        return number

    def kill_both(_):
        for pid in meeting.wait_for(2):
            kill(int(pid))

    with parallel_imap(
        task, range(6), pool=pool, chunksize=1, on_error="return", ordered=False
    ) as results:
        first = Stage(tmp_path)
        first.victim = meeting
        with first.strikes(kill_both):
            outcomes = list(results)

    lost = sorted(each.index for each in outcomes if isinstance(each, TaskFailure))
    assert lost == [0, 1]
    assert sorted(each for each in outcomes if isinstance(each, int)) == [2, 3, 4, 5]


def test_a_submitted_call_at_each_step(pool, tmp_path):
    """As the items of a map: unpickling, running, pickling are the call's; the rest nobody's."""
    folders = [tmp_path / name for name in ("unpickling", "running", "pickling")]
    for folder in folders:
        folder.mkdir()
    arriving, running, leaving = map(Stage, folders)
    for stage, args in (
        (arriving, (identity, HaltsWhenUnpickled(arriving))),
        (running, (running.halt,)),
        (leaving, (partial(HaltsWhenPickled, leaving),)),
    ):
        with stage.strikes(kill):
            future = pool.submit(*args)
            assert isinstance(future.exception(), WorkerLostError)
        assert pool.submit(double, 2).result() == 4


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_sample_for_the_other_start_methods(method, tmp_path):
    stage, victims = Stage(tmp_path), Diary(tmp_path / "victims")

    def task(number):
        if number == 0:
            victims.write(os.getpid())
            return bytes(LARGE)
        if number == 2:
            stage.halt()
        return number

    def strike():
        pid = int(victims.wait_for(1)[0])
        wait_until_it_sends(pid)
        kill(pid)

    with Pool(2, start_method=method) as pool:
        all_workers(pool, 2, tmp_path)
        with stage.strikes(kill):
            results = outcomes_of(task, [0, Meanwhile(strike, 1), 2, 3], pool)
        assert outcomes_of(double, [1, 2], pool) == [2, 4]

    assert_lost(results[2], -9, 2)
    assert results[:2] + results[3:] == [bytes(LARGE), 1, 3]


def test_a_stopped_worker_that_goes_on_has_lost_nothing(pool, tmp_path):
    one, other = all_workers(pool, 2, tmp_path)
    stop(one)
    stop(other)

    def let_go():
        resume(one)
        resume(other)

    assert outcomes_of(identity, [0, Meanwhile(let_go, 1)], pool) == [0, 1]
