"""For any items, outcomes, chunk sizes, caps and modes: the result is that of the loop."""

# ruff: noqa: PT017
# Whether a call raises is itself drawn, so pytest.raises does not fit.

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parmap import (
    Pool,
    SerializationError,
    TaskErrorGroup,
    TaskFailure,
    failure_of,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from support.gates import Diary
from support.tasks import BreaksInUnpickle


class Custom(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


# What an item does: its outcome is told by its value, so that the loop can do the same.
ERRORS = {
    "value": lambda: ValueError("v"),
    "key": lambda: KeyError("k"),
    "custom": lambda: Custom("c", 2),
    "timeout": lambda: TimeoutError("t"),
    "group": lambda: ExceptionGroup("g", [ValueError("in it")]),
}

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20),
    st.binary(max_size=20), st.tuples(st.integers(), st.text(max_size=5)),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sets(st.integers(), max_size=3),
)  # fmt: skip
OUTCOMES = st.one_of(
    st.tuples(st.just("return"), VALUES),
    st.tuples(st.just("return"), VALUES),
    st.tuples(st.just("raise"), st.sampled_from(sorted(ERRORS))),
)
ITEMS = st.lists(OUTCOMES, max_size=60)
CHUNKS = st.one_of(st.none(), st.integers(1, 70))
SOURCES = st.sampled_from([list, tuple, iter, lambda items: (x for x in items)])


def act(item):
    kind, what = item
    if kind == "raise":
        error = ERRORS[what]()
        raise error
    return what


def act_twice(kind, what):
    return act((kind, what))


def outcome_of_loop(items):
    results = []
    for item in items:
        try:
            results.append(act(item))
        except Exception as error:
            results.append(error)
    return results


def shown(value):
    """A repr that two equal values share: that of a set depends on its past."""
    return f"set {sorted(value)}" if isinstance(value, set) else repr(value)


def same(left, right):
    return type(left) is type(right) and (
        (left.args, str(left)) == (right.args, str(right))
        if isinstance(right, Exception)
        else left == right
    )


@pytest.fixture(scope="module")
def pool():
    with Pool(2) as pool:
        yield pool


@given(items=ITEMS, chunksize=CHUNKS, source=SOURCES)
def test_in_return_mode_every_outcome_is_in_its_place(pool, items, chunksize, source):
    results = parallel_map(act, source(items), on_error="return", chunksize=chunksize, pool=pool)

    expected = outcome_of_loop(items)
    assert len(results) == len(expected)
    for index, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        if isinstance(wanted, Exception):
            assert isinstance(result, TaskFailure)
            assert (result.index, result.attempts) == (index, 1)
            assert same(result.error, wanted) or isinstance(wanted, ExceptionGroup)
        else:
            assert same(result, wanted)


@given(items=ITEMS, chunksize=CHUNKS, source=SOURCES)
def test_in_raise_mode_it_is_the_list_or_one_of_the_failures(pool, items, chunksize, source):
    expected = outcome_of_loop(items)
    failures = {i: e for i, e in enumerate(expected) if isinstance(e, Exception)}
    try:
        results = parallel_map(act, source(items), chunksize=chunksize, pool=pool)
    except Exception as error:
        failure = failure_of(error)
        assert type(error) is type(failures[failure.index])
        assert all(other.index > failure.index for other in failure.others)
    else:
        assert not failures
        assert results == expected


@given(items=ITEMS, chunksize=CHUNKS, source=SOURCES)
def test_in_group_mode_all_failures_come_at_once(pool, items, chunksize, source):
    expected = outcome_of_loop(items)
    failures = [i for i, e in enumerate(expected) if isinstance(e, Exception)]
    try:
        results = parallel_map(act, source(items), on_error="group", chunksize=chunksize, pool=pool)
    except TaskErrorGroup as group:
        assert [failure_of(e).index for e in group.exceptions] == failures
        assert len(group.results) == len(items)
    else:
        assert not failures
        assert results == expected


@given(
    items=ITEMS, chunksize=CHUNKS, source=SOURCES,
    buffersize=st.one_of(st.none(), st.integers(1, 80)), taken=st.integers(0, 70),
)  # fmt: skip
def test_a_lazy_map_gives_the_loops_results_up_to_its_first_failure(
    pool, items, chunksize, source, buffersize, taken
):
    expected = outcome_of_loop(items)
    first = next((i for i, e in enumerate(expected) if isinstance(e, Exception)), None)

    with parallel_imap(
        act, source(items), chunksize=chunksize, buffersize=buffersize, pool=pool
    ) as results:
        got = []
        try:
            for result in itertools.islice(results, taken):
                got.append(result)  # noqa: PERF402
        except Exception as error:
            assert first is not None
            assert type(error) is type(expected[first])
            assert len(got) == first
            assert list(results) == []
    assert got == expected[: min(taken, len(items) if first is None else first)]


@given(items=ITEMS, chunksize=CHUNKS, buffersize=st.one_of(st.none(), st.integers(1, 80)))
def test_unordered_results_are_the_same_ones(pool, items, chunksize, buffersize):
    results = list(
        parallel_imap(
            act, iter(items), ordered=False, on_error="return", chunksize=chunksize,
            buffersize=buffersize, pool=pool,
        )
    )  # fmt: skip
    expected = outcome_of_loop(items)
    failed = sorted(r.index for r in results if isinstance(r, TaskFailure))
    assert failed == [i for i, e in enumerate(expected) if isinstance(e, Exception)]
    good = [r for r in results if not isinstance(r, TaskFailure)]
    wanted = [e for e in expected if not isinstance(e, Exception)]
    assert sorted(map(shown, good)) == sorted(map(shown, wanted))


@given(
    lists=st.lists(st.lists(st.integers(), max_size=20), min_size=1, max_size=4),
    strict=st.booleans(),
)
def test_several_iterables_are_zipped(pool, lists, strict):
    def collect(*values):
        return values

    def attempt(call):
        try:
            return call()
        except ValueError:
            return ValueError

    expected = attempt(lambda: list(zip(*lists, strict=strict)))
    assert attempt(lambda: parallel_map(collect, *lists, strict=strict, pool=pool)) == expected
    iterators = [iter(each) for each in lists]
    assert attempt(lambda: parallel_map(collect, *iterators, strict=strict, pool=pool)) == expected


@given(items=ITEMS)
def test_a_starmap_is_a_map_over_tuples(pool, items):
    starred = parallel_starmap(act_twice, items, on_error="return", pool=pool)
    plain = parallel_map(act, items, on_error="return", pool=pool)
    assert list(map(shown, starred)) == list(map(shown, plain))


@given(items=ITEMS, workers=st.integers(0, 2))
def test_the_number_of_workers_is_no_part_of_the_result(pool, items, workers):
    results = parallel_map(act, items, on_error="return", **_workers(pool, workers))
    inline = parallel_map(act, items, on_error="return", max_workers=0)
    assert list(map(shown, results)) == list(map(shown, inline))


def _workers(pool, workers):
    return {"pool": pool} if workers == 2 else {"max_workers": workers}


@given(
    count=st.integers(0, 300), chunksize=CHUNKS,
    bad=st.sets(st.integers(0, 299), max_size=5), mode=st.sampled_from(["raise", "return", "group"]),
    lazy=st.booleans(),
)  # fmt: skip
def test_nothing_runs_twice(tmp_path_factory, pool, count, chunksize, bad, mode, lazy):
    ran = Diary(tmp_path_factory.mktemp("ran") / "diary")

    def task(x):
        ran.write(x)
        if x in bad:
            raise ValueError(x)
        return x

    call = (lambda *a, **o: list(parallel_imap(*a, **o))) if lazy else parallel_map
    try:
        call(task, range(count), on_error=mode, chunksize=chunksize, pool=pool)
    except (ValueError, TaskErrorGroup):
        assert bad
    numbers = ran.numbers()
    assert len(numbers) == len(set(numbers))
    if mode != "raise" or not bad & set(range(count)):
        assert sorted(numbers) == list(range(count))


@given(
    bad=st.sets(st.integers(0, 39), max_size=6),
    chunksize=CHUNKS,
    way=st.sampled_from(["to", "from"]),
)
def test_what_cannot_travel_costs_only_itself(pool, bad, chunksize, way):
    items = [BreaksInUnpickle() if way == "to" and x in bad else x for x in range(40)]

    def task(x):
        return BreaksInUnpickle() if way == "from" and x in bad else x

    results = parallel_map(task, items, on_error="return", chunksize=chunksize, pool=pool)

    lost = {r.index for r in results if isinstance(r, TaskFailure)}
    assert lost == bad
    assert all(isinstance(results[i].error, SerializationError) for i in bad)
    assert [results[i] for i in range(40) if i not in bad] == [x for x in range(40) if x not in bad]
