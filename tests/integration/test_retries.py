"""`retry`: exactly what is asked for is tried again, alone, and as often as asked for."""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import os
import signal
import time

import pytest

from parmap import (
    Pool,
    Retry,
    SerializationError,
    TaskFailure,
    WorkerLostError,
    parallel_imap,
    parallel_map,
)
from support.gates import Diary
from support.scripts import LIMIT, output_of
from support.tasks import START_METHODS, double, kill_self


class Flaky:
    """Comes to nothing the first few times that an item is run, in whatever way."""

    def __init__(self, path, times, fail):
        self.ran = Diary(path)
        self.times = times
        self.fail = fail

    def __call__(self, x):
        self.ran.write(x)
        if self.ran.numbers().count(x) <= self.times:
            self.fail(x)
        return x


class Hiccup(Exception):
    pass


def hiccup(x):
    raise Hiccup(x)


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("method", START_METHODS)
def test_a_lost_worker_is_retried_and_its_neighbours_run_once(method, tmp_path):
    task = Flaky(tmp_path / "ran", 1, lambda x: die(x) if x == 3 else None)

    with Pool(1, start_method=method) as pool:
        assert parallel_map(task, range(6), retry=2, pool=pool) == list(range(6))

    assert task.ran.numbers().count(3) == 2


@pytest.mark.parametrize(
    ("retry", "attempts"), [(1, 1), (3, 3), (Retry(), 3), (Retry(attempts=2), 2)]
)
def test_an_item_that_always_kills_is_run_so_often_and_takes_nobody_along(
    retry, attempts, tmp_path
):
    ran = Diary(tmp_path / "ran")

    def task(x):
        ran.write(x)
        if x == 5:
            die(x)
        return x

    with Pool(2) as pool:
        results = parallel_map(task, range(12), retry=retry, on_error="return", pool=pool)

    lost = results[5]
    assert isinstance(lost.error, WorkerLostError)
    assert (lost.attempts, lost.error.attempts) == (attempts, attempts)
    assert [r for r in results if r is not lost] == [x for x in range(12) if x != 5]
    assert ran.numbers().count(5) == attempts
    assert any(f"attempt {attempts}" in note for note in lost.error.__notes__)


def test_exceptions_are_retried_only_if_they_are_named(tmp_path):
    def run(name, on):
        task = Flaky(tmp_path / name, 1, hiccup)
        return parallel_map(task, range(3), retry=Retry(on=on), on_error="return", pool=pool)

    with Pool(2) as pool:
        assert run("named", Hiccup) == [0, 1, 2]
        assert run("base", (OSError, Exception)) == [0, 1, 2]
        others = run("others", (OSError, WorkerLostError))

    assert [(type(r.error), r.attempts) for r in others] == [(Hiccup, 1)] * 3


def test_the_attempts_of_an_exception_are_counted(tmp_path):
    task = Flaky(tmp_path / "ran", 99, hiccup)

    with Pool(1) as pool, pytest.raises(Hiccup) as caught:
        parallel_map(task, [7], retry=Retry(attempts=4, on=Hiccup), pool=pool)

    assert task.ran.numbers() == [7] * 4
    assert any("attempt 4" in note for note in caught.value.__notes__)


def test_deaths_and_exceptions_spend_the_same_attempts(tmp_path):
    ran = Diary(tmp_path / "ran")

    def task(x):
        ran.write(x)
        if len(ran.lines()) == 1:
            die(x)
        raise Hiccup(x)

    with Pool(1) as pool:
        [failure] = parallel_map(
            task, [1], retry=Retry(attempts=3, on=(WorkerLostError, Hiccup)), on_error="return",
            pool=pool,
        )  # fmt: skip

    assert (type(failure.error), failure.attempts, len(ran.lines())) == (Hiccup, 3, 3)


def test_a_rest_occupies_no_worker_and_is_as_long_as_asked_for(tmp_path):
    """The one worker does everything else meanwhile."""
    diary = Diary(tmp_path / "diary")

    def task(x):
        diary.write(f"{x} {time.monotonic()}")
        if x == 0 and len([line for line in diary.lines() if line.startswith("0 ")]) < 3:
            raise Hiccup(x)
        return x

    with Pool(1) as pool:
        retry = Retry(on=Hiccup, first_delay=0.1, backoff=2.0)
        assert parallel_map(task, range(20), retry=retry, chunksize=1, pool=pool) == list(range(20))

    lines = [line.split() for line in diary.lines()]
    assert [line[0] for line in lines[:2]] == ["0", "1"]
    first, second, third = (float(when) for x, when in lines if x == "0")
    assert second - first >= 0.1
    assert third - second >= 0.2


def test_an_ordered_stream_keeps_its_order_across_retries(tmp_path):
    task = Flaky(tmp_path / "ran", 1, lambda x: hiccup(x) if x % 3 == 0 else None)

    with Pool(2) as pool:
        results = parallel_imap(task, range(20), retry=Retry(on=Hiccup), pool=pool)
        assert list(results) == list(range(20))


def test_classes_of_the_script_itself_can_be_named(tmp_path):
    """They go by value, and are one class for the function and for `on`."""
    source = f"""
        import os
        from parmap import Retry, parallel_map
        from support.gates import Diary

        class Mine(Exception):
            pass

        def task(x):
            ran = Diary({str(tmp_path)!r} + f"/ran-{{x}}")
            ran.write(x)
            if len(ran.lines()) < 3:
                raise Mine(x)
            return x

        print(parallel_map(task, range(4), max_workers=2, retry=Retry(on=Mine)))
        """
    assert output_of(source, tmp_path) == "[0, 1, 2, 3]\n"


def test_a_submitted_task_is_retried_and_its_future_settles_once(tmp_path):
    task = Flaky(tmp_path / "ran", 2, die)

    with Pool(1) as pool:
        assert pool.options(retry=3).submit(task, 9).result(LIMIT) == 9


def test_a_pool_that_is_shut_down_finishes_what_rests(tmp_path):
    """What was submitted is finished, its further attempts included."""
    task = Flaky(tmp_path / "ran", 1, hiccup)

    with Pool(1) as pool:
        future = pool.options(retry=Retry(on=Hiccup, first_delay=0.2)).submit(task, 1)

    assert future.result(0) == 1


def test_a_call_that_ends_forgets_what_rests(tmp_path):
    task = Flaky(tmp_path / "ran", 99, hiccup)

    with Pool(1) as pool:
        with parallel_imap(
            task, range(2), retry=Retry(on=Hiccup, first_delay=60, max_delay=60), pool=pool
        ):
            pass
        assert parallel_map(double, [1], pool=pool) == [2]


def test_inline_retries_too(tmp_path):
    task = Flaky(tmp_path / "ran", 1, hiccup)

    assert parallel_map(task, range(3), max_workers=0, retry=Retry(on=Hiccup)) == [0, 1, 2]
    failing = parallel_map(hiccup, [1], max_workers=0, retry=Retry(on=Hiccup), on_error="return")
    assert failing[0].attempts == 3


def test_what_cannot_be_sent_is_told_with_its_path():
    lock = __import__("threading").Lock()

    with pytest.raises(SerializationError, match="lock"):
        parallel_map(lambda x: lock, [1], retry=2)


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_among_many_tiny_items_one_that_kills_is_run_no_more_often_than_was_said(tmp_path, runs):
    diary = Diary(tmp_path / "diary")

    def fn(x):
        if x == 2500:
            diary.write(x)
            os._exit(3)
        return x

    results = parallel_map(fn, range(5000), max_workers=2, retry=runs, on_error="return")

    assert diary.numbers() == [2500] * runs
    assert [index for index, value in enumerate(results) if value != index] == [2500]
    assert results[2500].attempts == runs


def test_among_many_tiny_items_the_retried_one_is_found():
    def task(x):
        if x == 7777:
            kill_self()
        return x

    with Pool(2) as pool:
        results = parallel_map(task, range(10_000), retry=2, on_error="return", pool=pool)

    lost = [r for r in results if isinstance(r, TaskFailure)]
    assert [(r.index, r.attempts) for r in lost] == [(7777, 2)]


@pytest.mark.parametrize(
    "retry", [0, -1, True, "3", Exception, {"attempts": 3}], ids=lambda value: repr(value)
)
def test_a_retry_that_is_none_is_refused_at_the_door(retry):
    with pytest.raises((TypeError, ValueError), match="retry"):
        parallel_map(double, [1], retry=retry)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0), ("attempts", 1.5), ("on", (3,)), ("on", "Error"), ("on", int),
        ("first_delay", -1), ("backoff", 0.5), ("max_delay", float("inf")),
    ],
)  # fmt: skip
def test_a_field_of_retry_that_is_wrong_is_named(field, value):
    with pytest.raises((TypeError, ValueError), match=field):
        Retry(**{field: value})
