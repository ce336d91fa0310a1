"""What cannot travel fails its own item, says which way and where; the pool goes on."""

from __future__ import annotations

import os
import threading

import pytest

from parmap import (
    Pool,
    SerializationError,
    failure_of,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from support.gates import kept_pool
from support.scripts import LIMIT, output_of
from support.tasks import (
    START_METHODS,
    BreaksInPickle,
    BreaksInUnpickle,
    EndsInPickle,
    add,
    identity,
)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


def lock():
    return threading.Lock()


# What cannot be pickled at all.
UNPICKLABLE = {
    "lock": lock,
    "generator": lambda: (x for x in [1]),
    "module-less code": lambda: (lambda: 0).__code__.co_lines(),
    "own reduce raises": BreaksInPickle,
    "own reduce exits": EndsInPickle,
    "own reduce is interrupted": lambda: EndsInPickle(KeyboardInterrupt),
    "own reduce ends a generator": lambda: EndsInPickle(GeneratorExit),
    "own reduce stops an iteration": lambda: EndsInPickle(StopIteration),
}
# What can be pickled and then cannot be unpickled.
NO_ARRIVAL = {
    "raises": BreaksInUnpickle,
    "exits": lambda: BreaksInUnpickle(SystemExit(5)),
    "ends a generator": lambda: BreaksInUnpickle(GeneratorExit()),
    "stops an iteration": lambda: BreaksInUnpickle(StopIteration()),
    "end of file": lambda: BreaksInUnpickle(EOFError("mine")),
    "broken pipe": lambda: BreaksInUnpickle(BrokenPipeError("mine")),
    "recursion": lambda: BreaksInUnpickle(RecursionError("mine")),
}


def refusal_in(results, index):
    failure = results[index]
    assert type(failure.error) is SerializationError, failure
    assert failure.index == index
    assert failure.attempts == 1
    assert failure_of(failure.error) is failure
    return failure.error


@pytest.mark.parametrize("make", UNPICKLABLE.values(), ids=UNPICKLABLE.keys())
@pytest.mark.parametrize("chunksize", [None, 5])
def test_an_argument_that_cannot_be_pickled_fails_its_own_item(pool, make, chunksize):
    guilty = make()
    items = [0, 1, [{"deep": guilty}], 3, 4]

    results = parallel_map(identity, items, on_error="return", chunksize=chunksize, pool=pool)

    error = refusal_in(results, 2)
    assert error.direction == "to worker"
    assert error.path == "args[0][0]['deep']"
    assert error.__cause__ is not None
    assert [results[i] for i in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert parallel_map(identity, [1], pool=pool) == [1]


@pytest.mark.parametrize("make", NO_ARRIVAL.values(), ids=NO_ARRIVAL.keys())
@pytest.mark.parametrize("chunksize", [None, 5])
def test_an_argument_that_cannot_be_unpickled_fails_its_own_item(pool, make, chunksize):
    items = [0, 1, make(), 3, 4]

    results = parallel_map(identity, items, on_error="return", chunksize=chunksize, pool=pool)

    error = refusal_in(results, 2)
    assert error.direction == "to worker"
    assert error.path.startswith("args")
    assert error.__cause__ is not None
    assert [results[i] for i in (0, 1, 3, 4)] == [0, 1, 3, 4]


@pytest.mark.parametrize("kind", UNPICKLABLE)
@pytest.mark.parametrize("chunksize", [None, 5])
def test_a_result_that_cannot_be_pickled_fails_its_own_item(pool, kind, chunksize):
    make = UNPICKLABLE[kind]

    def task(x):
        return [x, (make(),)] if x == 2 else x

    results = parallel_map(task, range(5), on_error="return", chunksize=chunksize, pool=pool)

    error = refusal_in(results, 2)
    assert (error.direction, error.path) == ("to caller", "result[1][0]")
    assert error.__cause__ is not None
    assert [results[i] for i in (0, 1, 3, 4)] == [0, 1, 3, 4]


@pytest.mark.parametrize("kind", NO_ARRIVAL)
@pytest.mark.parametrize("chunksize", [None, 5])
def test_a_result_that_cannot_be_unpickled_fails_its_own_item(pool, kind, chunksize):
    make = NO_ARRIVAL[kind]

    def task(x):
        return make() if x == 2 else x

    results = parallel_map(task, range(5), on_error="return", chunksize=chunksize, pool=pool)

    error = refusal_in(results, 2)
    assert error.direction == "to caller"
    assert error.path.startswith("result")
    assert error.__cause__ is not None
    assert [results[i] for i in (0, 1, 3, 4)] == [0, 1, 3, 4]


@pytest.mark.parametrize("make", [lock, BreaksInPickle])
def test_a_function_that_cannot_be_pickled_fails_the_call_and_says_where(pool, make):
    guilty = make()

    def task(x):
        return guilty

    with pytest.raises(SerializationError) as caught:
        parallel_map(task, [1], pool=pool)
    assert caught.value.direction == "to worker"
    assert caught.value.path.startswith("fn")
    assert "guilty" in caught.value.path
    assert isinstance(caught.value, TypeError)
    for call in (
        lambda: parallel_imap(task, [1], pool=pool),
        lambda: pool.submit(task, 1),
        lambda: pool.submit(identity, guilty),
    ):
        with pytest.raises(SerializationError):
            call()
    assert parallel_map(identity, [1], pool=pool) == [1]


def test_a_function_that_cannot_be_unpickled_fails_every_item(pool):
    broken = BreaksInUnpickle()

    def task(x):
        return broken

    results = parallel_map(task, range(3), on_error="return", pool=pool)

    errors = [refusal_in(results, i) for i in range(3)]
    assert {(e.direction, e.path) for e in errors} == {("to worker", "fn")}
    with pytest.raises(SerializationError) as caught:
        pool.submit(task, 1).result(LIMIT)
    assert caught.value.direction == "to worker"
    assert parallel_map(identity, [1], pool=pool) == [1]


@pytest.mark.parametrize("method", START_METHODS)
def test_every_start_method_refuses_the_same(method):
    def task(x):
        return lock() if x == 1 else BreaksInUnpickle() if x == 2 else x

    with Pool(2, start_method=method) as pool:
        back = parallel_map(task, range(4), on_error="return", pool=pool)
        items = [0, lock(), BreaksInUnpickle(), 3]
        there = parallel_map(identity, items, on_error="return", pool=pool)

    for results, direction in ((back, "to caller"), (there, "to worker")):
        assert (results[0], results[3]) == (0, 3)
        assert [refusal_in(results, i).direction for i in (1, 2)] == [direction] * 2


def test_in_raise_mode_the_refusal_is_raised(pool):
    for fn, item in ((identity, lock()), (identity, BreaksInUnpickle()), (lambda x: lock(), 1)):
        with pytest.raises(SerializationError) as caught:
            parallel_map(fn, [1, 2, item], pool=pool)
        assert failure_of(caught.value) is not None
        assert any(note.startswith("parmap: item") for note in caught.value.__notes__)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_lazy_map_goes_on_after_an_item_that_cannot_travel(pool, ordered):
    items = [0, lock(), 2, BreaksInUnpickle(), 4, 5]

    results = list(
        parallel_imap(identity, iter(items), on_error="return", ordered=ordered, pool=pool)
    )

    assert sorted(r for r in results if isinstance(r, int)) == [0, 2, 4, 5]
    assert sorted(r.index for r in results if not isinstance(r, int)) == [1, 3]


def test_the_guilty_one_of_several_arguments_is_named(pool):
    results = parallel_starmap(add, [(1, 2), (1, [lock()])], on_error="return", pool=pool)
    error = refusal_in(results, 1)
    assert error.path == "args[1][0]"
    with pytest.raises(SerializationError) as caught:
        parallel_map(add, [1], [lock()], pool=pool)
    assert caught.value.path == "args[1]"


def test_attributes_are_named_in_the_path(pool):
    class Holder:
        def __init__(self):
            self.inner = {"lock": lock()}

    results = parallel_map(identity, [Holder()], on_error="return", pool=pool)
    assert refusal_in(results, 0).path == "args[0].inner['lock']"


def test_an_item_that_cannot_be_pickled_behind_a_running_one_does_no_harm(pool):
    """Two chunks are in flight at a worker: the refusal must not upset their order."""
    items = [x if x % 3 else lock() for x in range(30)]
    results = parallel_map(identity, items, on_error="return", chunksize=2, pool=pool)
    assert [i for i, r in enumerate(results) if not isinstance(r, int)] == list(range(0, 30, 3))


def test_pools_and_iterators_refuse_to_travel(pool):
    with parallel_imap(abs, [1], max_workers=0) as results:
        for handle in (pool, results):
            with pytest.raises(SerializationError):
                parallel_map(identity, [handle], pool=pool)


def test_an_initializer_that_cannot_travel_is_refused_at_once():
    guilty = lock()
    for arguments in (
        {"initializer": lambda: guilty},
        {"initializer": identity, "initargs": (guilty,)},
    ):
        with pytest.raises(SerializationError) as caught:
            Pool(1, **arguments)
        assert caught.value.direction == "to worker"


def test_an_item_that_pickles_with_the_help_of_parmap_itself_does_no_harm(tmp_path):
    """Its `__reduce__` runs in the thread that drives the pool, and calls parmap."""
    source = """
        from parmap import parallel_map

        class Recursive:
            def __reduce__(self):
                return int, (parallel_map(abs, [-5], max_workers=1)[0],)

        print(parallel_map(lambda x: x, [Recursive(), 1], max_workers=1))
    """
    assert output_of(source, tmp_path) == "[5, 1]\n"


def test_huge_arguments_and_results_travel(pool):
    big = os.urandom(1 << 20) * 24
    results = parallel_map(lambda b: b + b"!", [big, big[1:], b""], pool=pool)
    assert [len(r) for r in results] == [len(big) + 1, len(big), 1]
    assert results[0] == big + b"!"


def test_what_unpickles_to_an_exception_class_or_a_failure_is_a_value(pool):
    assert parallel_map(identity, [ValueError, KeyError], pool=pool) == [ValueError, KeyError]
