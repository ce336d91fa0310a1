"""parmap beside the plain loop and the standard library's own pools: the same answers."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import operator
import random
import string
from typing import Any

import pytest

from parmap import Pool, parallel_imap, parallel_map
from support.gates import Diary
from support.tasks import Thing, add, double, fail_if_odd, identity


@pytest.fixture(scope="module")
def pool():
    with Pool(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def executor():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        yield executor


CASES: dict[str, tuple[Any, list[Any]]] = {
    "ints": (double, [range(100)]),
    "strings": (str.upper, [list(string.ascii_letters)]),
    "two iterables": (add, [range(50), range(100, 150)]),
    "unequal iterables": (add, [range(50), range(100, 130)]),
    "instances": (Thing, [range(20)]),
    "bound method": (Thing(3).times, [range(20)]),
    "nothing": (double, [[]]),
    "generator": (double, [(x for x in range(100))]),
    "lists": (sorted, [[[3, 1, 2], [2, 1]]]),
    "operator": (operator.itemgetter(1), [[(1, 2), (3, 4)]]),
    "big values": (identity, [["x" * 200_000, b"y" * 300_000, list(range(50_000))]]),
}


@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_the_executor_and_of_the_loop(pool, executor, case):
    fn, iterables = CASES[case]
    lists = [list(each) for each in iterables]

    expected = list(map(fn, *lists))

    assert list(executor.map(fn, *lists)) == expected
    assert parallel_map(fn, *lists, pool=pool) == expected
    assert list(parallel_imap(fn, *lists, pool=pool)) == expected
    assert list(pool.map(fn, *lists)) == expected
    assert parallel_map(fn, *map(iter, lists), pool=pool) == expected
    assert [pool.submit(fn, *args).result(20) for args in zip(*lists, strict=False)] == expected


@pytest.mark.parametrize("chunksize", [1, 3, 50])
def test_errors_are_those_of_the_executor(pool, executor, chunksize):
    def outcome(results):
        got = []
        try:
            for result in results:
                got.append(result)  # noqa: PERF402
        except Exception as error:
            got.append((type(error), str(error)))
        return got

    items = [0, 2, 4, 5, 6, 7]
    expected = outcome(map(fail_if_odd, items))
    assert outcome(executor.map(fail_if_odd, items, chunksize=chunksize))[-1] == expected[-1]
    assert outcome(parallel_imap(fail_if_odd, items, chunksize=chunksize, pool=pool)) == expected
    assert outcome(pool.map(fail_if_odd, items, chunksize=chunksize)) == expected


def test_a_pool_takes_the_executors_place(pool, executor):
    """The same code, whichever of the two it is given."""

    def use(either):
        futures = {either.submit(double, n): n for n in range(10)}
        done = {futures[f]: f.result() for f in concurrent.futures.as_completed(futures, 20)}
        failed = either.submit(fail_if_odd, 1).exception(20)
        return done, type(failed), str(failed), list(either.map(add, "ab", "cd"))

    assert use(pool) == use(executor)


def test_random_programs_give_what_the_loop_gives(pool, rng):
    functions = [double, identity, str, repr, Thing]
    for _ in range(100):
        fn = rng.choice(functions)
        items = [rng.choice([1, "a", 2.5, None, (1, 2)]) for _ in range(rng.randrange(40))]
        if fn is double:
            items = [x for x in items if x is not None]
        options = {"chunksize": rng.choice([None, 1, 5]), "pool": pool}
        assert parallel_map(fn, items, **options) == [fn(x) for x in items]
        lazy = parallel_imap(fn, iter(items), buffersize=rng.choice([None, 1, 7]), **options)
        assert list(lazy) == [fn(x) for x in items]


def test_inline_and_workers_agree(pool, tmp_path):
    def task(x):
        Diary(tmp_path / "ran").write(x)
        return random.Random(x).random()

    assert parallel_map(task, range(50), pool=pool) == parallel_map(task, range(50), max_workers=0)
