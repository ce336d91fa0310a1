"""The mistakes that everybody makes once: each is told at once, with the cure."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import parmap
from parmap import (
    Channel,
    Pool,
    PoolClosedError,
    SerializationError,
    WorkerGroup,
    parallel_imap,
    parallel_map,
    parallel_starmap,
    run_workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def double(x: int) -> int:
    return 2 * x


async def awaited(x: int) -> int:
    return x


async def awaited_items(x: int) -> Any:
    yield x


def generated(x: int) -> Any:
    yield x


def told(call: Callable[[], object], kind: type[Exception] = TypeError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a call instead of the function": (
        lambda: parallel_map(double(1), [1]),  # type: ignore[call-overload]
        "not int: pass the function itself, not the result of calling it: `fn`, not `fn()`",
    ),
    "a generator as function": (
        lambda: parallel_map((x for x in [1]), [1]),  # type: ignore[call-overload]
        "not generator: a generator came: the function goes first",
    ),
    "swapped": (
        lambda: parallel_map([1, 2], double),  # type: ignore[call-overload]
        "items must be an iterable, not function: the function goes first, the items second",
    ),
    "a list as function": (
        lambda: parallel_map([1, 2], [3]),  # type: ignore[call-overload]
        "fn must be callable, not list: the function goes first",
    ),
    "one item": (
        lambda: parallel_map(double, 5),  # type: ignore[call-overload]
        "items must be an iterable, not int: for a single item, write [item]",
    ),
    "one item more": (
        lambda: parallel_map(double, [1], 5),  # type: ignore[call-overload]
        "more[0] must be an iterable, not int",
    ),
    "a number in quotes": (
        lambda: parallel_map(double, [1], max_workers="4"),  # type: ignore[call-overload]
        "max_workers must be an int or None, not str: write 4, without quotes",
    ),
    "a word": (
        lambda: parallel_map(double, [1], chunksize="auto"),  # type: ignore[call-overload]
        "chunksize must be an int or None, not str",
    ),
    "a coroutine function": (
        lambda: parallel_map(awaited, [1]),
        (
            "fn is a coroutine function (`async def awaited`), and calling it runs nothing: pass a "
            "plain function, for example one that returns asyncio.run(awaited(x))"
        ),
    ),
    "an asynchronous generator": (
        lambda: parallel_map(awaited_items, [1]),
        "fn is a coroutine function",
    ),
    "a number as pool": (
        lambda: parallel_map(double, [1], pool=4),  # type: ignore[call-overload]
        "pool must be a parmap.Pool, another concurrent.futures.Executor or None, not int",
    ),
    "a class as pool": (
        lambda: parallel_map(double, [1], pool=Pool),  # type: ignore[call-overload]
        "pool must be a parmap.Pool",
    ),
    "items as count": (
        lambda: run_workers(double, [1, 2]),  # type: ignore[arg-type]
        "count is the number of processes; to run over items use parallel_map",
    ),
    "a pool of a number in quotes": (
        lambda: Pool("4"),  # type: ignore[arg-type]
        "max_workers must be an int or None, not str: write 4, without quotes",
    ),
}


@pytest.mark.parametrize(("wrong", "words"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_argument_is_told_with_the_cure(wrong, words):
    assert words in told(wrong)


def test_a_coroutine_function_is_refused_wherever_functions_are_taken():
    with Pool(1) as pool, WorkerGroup() as group:
        for call in (pool.submit, group.start, lambda fn, x: parallel_map(fn, [x], max_workers=0)):
            assert "is a coroutine function" in told(lambda call=call: call(awaited, 1))  # type: ignore[misc]


def test_too_many_workers():
    words = told(lambda: parallel_map(double, [1], max_workers=1_000_000), ValueError)

    assert words.startswith("max_workers must be at most 10000, not 1000000: it is the number of")
    assert "usable CPUs" in words


@pytest.mark.parametrize("fn", [generated, lambda x: (y for y in [x])], ids=["def", "lambda"])
def test_a_result_that_is_a_generator_is_named(fn):
    words = told(lambda: parallel_map(fn, [1], max_workers=1), SerializationError)

    assert f"'generator' object '{fn.__qualname__}" in words
    assert "send a list of what it yields" in words


def test_a_string_is_its_characters_as_for_every_loop():
    assert parallel_map(str.upper, "abc", max_workers=2) == ["A", "B", "C"]


def test_a_tuple_that_is_none_is_told_as_python_tells_it():
    assert "must be an iterable, not int" in told(
        lambda: parallel_starmap(pow, [1, 2], max_workers=1)  # type: ignore[list-item]
    )


def test_a_closed_pool():
    with Pool(1, name="mine") as pool:
        pass
    for call in (lambda: pool.submit(double, 1), lambda: parallel_map(double, [1], pool=pool)):
        words = told(call, PoolClosedError)
        assert words.startswith("mine has been shut down and takes no more work: make a new Pool")


def test_a_lazy_map_that_nobody_reads():
    with pytest.warns(RuntimeWarning, match=r"never asked for, so nothing has run") as seen:
        parallel_imap(double, [1, 2], max_workers=1)

    assert [each.filename for each in seen] == [__file__]


@pytest.mark.parametrize(
    "read", [next, list, lambda results: results.close()], ids=["next", "list", "close"]
)
def test_a_lazy_map_that_was_read_or_closed_is_silent(read):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = parallel_imap(double, [1, 2], max_workers=1)
        read(results)
        del results


class Model:
    def __init__(self) -> None:
        self.weights = bytes(20_000_000)

    def predict(self, x: int) -> int:
        return x + self.weights[x]


def with_default(x: int, table: bytes = b"") -> int:
    return x + len(table)


def heavy_functions() -> list[Any]:
    table, small = bytes(20_000_000), b"s"
    return [
        (lambda x: x + table[0] + small[0] * 0, "table (20 MB)"),
        (functools.partial(with_default, table=table), "table (20 MB)"),
        (Model().predict, "self (20 MB)"),
    ]


@pytest.mark.parametrize(("fn", "culprit"), heavy_functions(), ids=["closure", "partial", "method"])
def test_a_large_function_is_warned_of_with_the_variable(fn, culprit):
    with pytest.warns(RuntimeWarning) as seen:
        parallel_map(fn, [1], max_workers=1)

    (warning,) = seen
    words = str(warning.message)
    assert f"weighs 20 MB because of what it uses: {culprit}. It is sent to each" in words
    assert warning.filename == __file__


def test_a_function_of_usual_size_is_not():
    table = list(range(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parallel_map(lambda x: table[x], [1], max_workers=1) == [1]


def produce(to: Any, count: int) -> None:
    for i in range(count):
        to.send(i)


def test_a_channel_without_sender_works_as_long_as_somebody_sends():
    channel = Channel[int]()
    with WorkerGroup() as group:
        group.start(produce, channel, 3)
        assert list(channel) == [0, 1, 2]


def test_a_channel_without_sender_and_a_producer_that_sends_nothing_is_told():
    channel = Channel[int]()
    with pytest.raises(parmap.TaskErrorGroup) as caught, WorkerGroup() as group:
        group.start(consume, channel)

    assert "sender" in str(caught.value.exceptions[0])


def consume(channel: Any) -> list[int]:
    return list(channel)


seen: list[int] = []


def remember(x: int) -> int:
    seen.append(x)
    return len(seen)


def test_what_a_task_does_to_a_global_stays_in_its_worker():
    """FAQ: "I append to a global list, and it stays empty"."""
    parallel_map(remember, range(5), max_workers=2)

    assert seen == []
