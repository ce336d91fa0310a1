"""The same results in the same order as the loop, whatever the items come in."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import os
import threading
from typing import Any

import numpy as np
import pytest

from parmap import Pool, Progress, parallel_imap, parallel_map, parallel_starmap
from support.gates import Diary, Gate, all_workers, kept_pool, wait_until_dead
from support.tasks import START_METHODS, Thing, add, double, fail_if_odd, identity, pid_of


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


@pytest.fixture(scope="module", params=START_METHODS)
def any_keeper(request, tmp_path_factory):
    with kept_pool(tmp_path_factory, start_method=request.param) as keeper:
        yield keeper


@pytest.fixture
def any_pool(any_keeper):
    with any_keeper.lend() as pool:
        yield pool


class OldSequence:
    """Iterable by `__getitem__` alone."""

    def __getitem__(self, place):
        if place >= 4:
            raise IndexError
        return place


SOURCES = {
    "list": lambda: [3, 1, 2],
    "tuple": lambda: (3, 1, 2),
    "range": lambda: range(7),
    "generator": lambda: (x for x in range(7)),
    "empty list": list,
    "empty generator": lambda: iter(()),
    "one item": lambda: [5],
    "one generated item": lambda: iter([5]),
    "set": lambda: {3, 1, 2},
    "frozenset": lambda: frozenset([3, 1, 2]),
    "dict": lambda: {"a": 1, "b": 2},
    "keys": lambda: {"a": 1, "b": 2}.keys(),
    "values": lambda: {"a": 1, "b": 2}.values(),
    "string": lambda: "abc",
    "bytes": lambda: b"abc",
    "deque": lambda: collections.deque([1, 2, 3]),
    "array": lambda: np.arange(6),
    "by __getitem__": OldSequence,
    "map": lambda: map(str, range(5)),
    "booleans": lambda: [True, False],
    "large list": lambda: list(range(30_000)),
    "large generator": lambda: iter(range(30_000)),
    "large strings": lambda: ["x" * 100_000 + str(i) for i in range(40)],
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_items_of_every_kind_give_what_the_loop_gives(pool, make):
    assert parallel_map(double, make(), pool=pool) == [double(x) for x in make()]


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_a_lazy_map_gives_what_the_loop_gives(pool, make):
    assert list(parallel_imap(double, make(), pool=pool)) == [double(x) for x in make()]


def test_every_start_method_gives_results_in_order(any_pool):
    assert parallel_map(lambda x: x * x, range(1000), pool=any_pool) == [x * x for x in range(1000)]
    assert parallel_map(double, (str(x) for x in range(50)), pool=any_pool) == [
        str(x) * 2 for x in range(50)
    ]
    assert parallel_starmap(add, [(1, 2), ("a", "b")], pool=any_pool) == [3, "ab"]
    assert list(parallel_imap(double, range(100), pool=any_pool)) == list(range(0, 200, 2))


def test_every_start_method_runs_items_in_two_other_processes(any_pool, tmp_path):
    pids = set(all_workers(any_pool, 2, tmp_path))

    assert len(pids) == 2
    assert os.getpid() not in pids


def test_pairs_of_a_dict_come_as_tuples(pool):
    assert parallel_map(operator.itemgetter(1), {"a": 1, "b": 2}.items(), pool=pool) == [1, 2]


def test_several_iterables_give_several_arguments(pool):
    assert parallel_map(add, [1, 2, 3], (x * 10 for x in [1, 2, 3]), pool=pool) == [11, 22, 33]
    assert parallel_map(lambda a, b, c: a + b + c, "ab", "cd", "ef", pool=pool) == ["ace", "bdf"]


def test_the_shortest_iterable_ends_the_map(pool):
    assert parallel_map(add, [1, 2, 3], [10, 20], pool=pool) == [11, 22]
    assert parallel_map(add, [1, 2], itertools.count(), pool=pool) == [1, 3]
    assert parallel_map(add, [], [1, 2], pool=pool) == []


@pytest.mark.parametrize("more", [[10, 20], lambda: iter([10, 20])], ids=["list", "iterator"])
def test_strict_refuses_iterables_of_different_lengths(pool, more):
    with pytest.raises(ValueError, match=r"shorter|different lengths"):
        parallel_map(add, [1, 2, 3], more() if callable(more) else more, strict=True, pool=pool)


def test_strict_accepts_iterables_of_one_length(pool):
    assert parallel_map(add, [1, 2], iter([3, 4]), strict=True, pool=pool) == [4, 6]


def test_starmap_spreads_each_tuple(pool):
    assert parallel_starmap(pow, [(2, 5), (3, 2), (2, 5, 7)], pool=pool) == [32, 9, 4]
    assert parallel_starmap(add, (iter([i, i]) for i in range(3)), pool=pool) == [0, 2, 4]
    assert parallel_starmap(lambda: 1, [(), ()], pool=pool) == [1, 1]


def test_a_starmap_item_that_is_no_tuple_fails_as_in_the_loop(pool):
    with pytest.raises(TypeError):
        parallel_starmap(add, [(1, 2), 3], pool=pool)  # type: ignore[list-item]


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100, 10_000])
def test_a_fixed_chunksize_changes_nothing_but_transport(pool, chunksize):
    assert parallel_map(double, range(100), chunksize=chunksize, pool=pool) == list(
        range(0, 200, 2)
    )
    assert parallel_map(double, iter(range(100)), chunksize=chunksize, pool=pool) == list(
        range(0, 200, 2)
    )
    results = parallel_imap(double, iter(range(100)), chunksize=chunksize, pool=pool)
    assert list(results) == list(range(0, 200, 2))


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_the_number_of_workers_changes_nothing(workers):
    assert parallel_map(lambda x: x + 1, range(200), max_workers=workers) == list(range(1, 201))


@pytest.mark.parametrize("workers", [1, 3])
def test_max_workers_caps_the_processes_of_a_call(workers, tmp_path):
    meeting = Diary(tmp_path / "meeting")
    parallel_map(meeting.meet, [workers] * workers, max_workers=workers, chunksize=1)

    pids = set(parallel_map(pid_of, range(300), max_workers=workers))

    assert len(pids) <= workers
    assert len(set(meeting.lines())) == workers


def test_items_run_at_the_same_time(pool, tmp_path):
    assert len(set(all_workers(pool, 2, tmp_path))) == 2


def test_a_slow_first_item_does_not_change_the_order(pool, tmp_path):
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x == 0:
            gate.wait()
        if x == 99:
            gate.open()
        return x

    assert parallel_map(task, range(100), chunksize=1, pool=pool) == list(range(100))


def test_unordered_results_are_the_same_results(pool, tmp_path):
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x == 0:
            gate.wait()
        return x

    results = parallel_imap(task, range(50), ordered=False, chunksize=1, pool=pool)
    first = next(results)
    gate.open()

    assert first != 0
    assert sorted([first, *results]) == list(range(50))


def test_arrays_travel_both_ways_and_arrive_private_and_writable(pool):
    def change(array):
        was_writable = array.flags.writeable
        array += 1
        return was_writable, array

    arrays = [np.full(100_000, i) for i in range(4)]
    results = parallel_map(change, [arrays[0], arrays[0], *arrays[1:]], pool=pool)

    assert [bool(writable) for writable, _ in results] == [True] * 5
    assert [int(array[0]) for _, array in results] == [1, 1, 2, 3, 4]
    assert all(array.flags.writeable for _, array in results)
    assert [int(array[0]) for array in arrays] == [0, 1, 2, 3]


def test_small_arrays_and_scalars_keep_their_types(pool):
    results = parallel_map(identity, np.arange(3, dtype=np.int16), pool=pool)
    assert [type(x) for x in results] == [np.int16] * 3
    rows = parallel_map(lambda row: row.sum(), np.ones((3, 4)), pool=pool)
    assert rows == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    "value", [[], {}, "", 0, None, float("inf"), (), b"", ..., NotImplemented], ids=repr
)
def test_any_value_comes_back_as_it_is(pool, value):
    assert parallel_map(identity, [value, value], pool=pool) == [value, value]


def test_equal_items_come_back_as_separate_objects(pool):
    shared = [1]
    first, second = parallel_map(identity, [shared, shared], pool=pool)

    first.append(2)

    assert (second, shared) == ([1], [1])


CALLABLES = {
    "builtin": (abs, [-1, 2]),
    "builtin method": ("a-b".replace, None),
    "type": (str, [1, 2]),
    "partial": (functools.partial(add, 10), [1, 2]),
    "partial of a partial": (functools.partial(functools.partial(pow, 2)), [1, 2]),
    "bound method": (Thing(3).times, [1, 2]),
    "callable instance": (Thing(3), [1, 2]),
    "operator": (operator.attrgetter("real"), [1, 2]),
    "class": (Thing, [1, 2]),
    "method of a class": (Thing.__hash__, [Thing(1), Thing(2)]),
    "static str method": (str.upper, ["a", "b"]),
}


@pytest.mark.parametrize(
    ("fn", "items"), [c for c in CALLABLES.values() if c[1] is not None],
    ids=[name for name, c in CALLABLES.items() if c[1] is not None],
)  # fmt: skip
def test_any_callable_will_do(pool, fn, items):
    assert parallel_map(fn, items, pool=pool) == [fn(x) for x in items]


def test_a_bound_builtin_method_will_do(pool):
    assert parallel_starmap("a-b".replace, [("-", "+"), ("a", "c")], pool=pool) == ["a+b", "c-b"]


def test_the_input_error_comes_after_the_earlier_items(pool, tmp_path):
    ran = Diary(tmp_path / "ran")

    def items():
        yield from range(10)
        raise KeyError("input is broken")

    with pytest.raises(KeyError, match="input is broken"):
        parallel_map(ran.write, items(), pool=pool)
    assert sorted(ran.numbers()) == list(range(10))


def test_an_item_that_fails_before_the_input_does_wins_as_in_the_loop(pool):
    def items():
        yield from range(10)
        raise KeyError("input is broken")

    with pytest.raises(ValueError, match="odd"):
        parallel_map(fail_if_odd, items(), pool=pool, chunksize=1)


def test_a_lazy_map_gives_all_results_before_the_input_error(pool):
    def items():
        yield from range(10)
        raise KeyError("input is broken")

    results = parallel_imap(double, items(), pool=pool)
    taken = []
    with pytest.raises(KeyError, match="input is broken"):
        for result in results:
            taken.append(result)  # noqa: PERF402

    assert taken == list(range(0, 20, 2))
    assert list(results) == []


def test_a_generator_is_read_and_closed_in_the_callers_thread(pool):
    threads = set()

    def items():
        for x in range(100):
            threads.add(threading.current_thread())
            yield x

    assert parallel_map(double, items(), pool=pool) == list(range(0, 200, 2))
    assert threads == {threading.current_thread()}


def test_a_generator_that_ends_with_an_early_failure_is_not_read_to_its_end(pool):
    read = []

    def items():
        for x in itertools.count():
            read.append(x)
            yield x

    # of two workers either may be the first to fail: the lowest index that has arrived is raised
    with pytest.raises(ValueError, match=r"odd [0-9]+"):
        parallel_map(fail_if_odd, items(), pool=pool)


def test_a_list_that_the_progress_callback_changes_does_not_change_the_call(pool):
    items = list(range(100))

    results = parallel_map(double, items, progress=lambda _: items.clear(), pool=pool)

    assert results == list(range(0, 200, 2))


def test_progress_is_told_in_the_callers_thread_and_ends_at_the_total(pool):
    told: list[tuple[Progress, threading.Thread]] = []

    parallel_map(
        double, range(500), pool=pool,
        progress=lambda progress: told.append((progress, threading.current_thread())),
    )  # fmt: skip

    assert {thread for _, thread in told} == {threading.current_thread()}
    counts = [progress.done for progress, _ in told]
    assert counts == sorted(counts)
    last = told[-1][0]
    assert (last.done, last.failed, last.total) == (500, 0, 500)
    assert last.elapsed >= 0


def test_progress_counts_failures_and_has_no_total_for_a_generator(pool):
    told: list[Progress] = []

    parallel_map(fail_if_odd, iter(range(10)), on_error="return", progress=told.append, pool=pool)

    assert (told[-1].done, told[-1].failed, told[-1].total) == (10, 5, None)


def test_progress_of_a_lazy_map_counts_its_failures(pool):
    told: list[Progress] = []

    list(parallel_imap(fail_if_odd, range(10), on_error="return", progress=told.append, pool=pool))

    assert (told[-1].done, told[-1].failed, told[-1].total) == (10, 5, 10)


def test_an_error_of_the_progress_callback_ends_the_call(pool):
    def broken(progress):
        raise ZeroDivisionError("callback")

    with pytest.raises(ZeroDivisionError, match="callback"):
        parallel_map(double, range(100), progress=broken, pool=pool)
    assert parallel_map(double, [1], pool=pool) == [2]


def test_the_shared_pool_serves_call_after_call_with_the_same_workers():
    first = set(parallel_map(pid_of, range(20), max_workers=1))

    assert set(parallel_map(pid_of, range(20), max_workers=1)) == first


def test_two_threads_may_call_at_the_same_time(tmp_path):
    meeting = Diary(tmp_path / "meeting")
    results: dict[int, list[int]] = {}

    def call(number):
        parallel_map(meeting.meet, [2], max_workers=2)  # both calls are open at once
        results[number] = parallel_map(lambda x: x * number, range(500), max_workers=2)

    threads = [threading.Thread(target=call, args=[n]) for n in (3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {n: [x * n for x in range(500)] for n in (3, 7)}


def test_many_threads_may_share_one_pool(pool):
    results: list[Any] = [None] * 8

    def call(number):
        results[number] = parallel_map(lambda x: (number, x), range(50), pool=pool)

    threads = [threading.Thread(target=call, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [[(n, x) for x in range(50)] for n in range(8)]


def test_a_task_may_call_parallel_map_itself():
    def inner(x):
        return parallel_map(lambda y: x * y, range(3))

    with Pool(2) as pool:  # its own: what the items start ends with it
        assert parallel_map(inner, range(3), pool=pool) == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]


def test_a_task_may_start_workers_of_its_own_which_end_with_its_worker():
    def inner(x):
        pids = parallel_map(pid_of, range(3), max_workers=1)
        return os.getpid(), pids

    with Pool(1) as pool:
        [(pid, pids)] = parallel_map(inner, [1], pool=pool)

    assert pid not in pids
    wait_until_dead([pid, *pids])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [None, 1])
def test_calls_nest_three_deep(workers):
    def innermost(x, y):
        return parallel_map(lambda z: (x, y, z), range(2), max_workers=workers)

    def inner(x):
        return parallel_map(lambda y: innermost(x, y), range(2), max_workers=workers)

    assert parallel_map(inner, range(2), max_workers=2) == [
        [[(x, y, z) for z in range(2)] for y in range(2)] for x in range(2)
    ]


def test_the_callback_of_a_future_may_call_parmap(pool):
    """It may run in the very thread that drives the pool: that must not wait for itself."""
    done = threading.Event()
    results = []

    def callback(future):
        results.append(future.result())
        results.append(parallel_map(double, range(5), pool=pool))
        done.set()

    pool.submit(double, 1).add_done_callback(callback)

    assert done.wait(20)
    assert results == [2, [0, 2, 4, 6, 8]]


def test_the_callback_of_a_future_may_use_another_pool(pool):
    done = threading.Event()
    results = []

    def callback(future):
        results.append(parallel_map(double, range(5), max_workers=1))
        done.set()

    pool.submit(double, 1).add_done_callback(callback)

    assert done.wait(20)
    assert results == [[0, 2, 4, 6, 8]]


def test_each_argument_that_is_wrong_is_refused_before_anything_runs(pool, tmp_path):
    ran = Diary(tmp_path / "ran")
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"max_workers": -1}, ValueError),
        ({"max_workers": "2"}, TypeError),
        ({"max_workers": True}, TypeError),
        ({"max_workers": 1.5}, TypeError),
        ({"chunksize": 0}, ValueError),
        ({"chunksize": 2.5}, TypeError),
        ({"on_error": "ignore"}, ValueError),
        ({"progress": 3}, TypeError),
        ({"pool": 3}, TypeError),
        ({"pool": pool, "max_workers": 2}, TypeError),
        ({"nonsense": 1}, TypeError),
    ]
    for options, error in wrong:
        with pytest.raises(error):
            parallel_map(ran.write, [1], **options)
    for items in (None, 3):
        with pytest.raises(TypeError):
            parallel_map(ran.write, items)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        parallel_map([1], ran.write)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="buffersize"):
        parallel_imap(ran.write, [1], buffersize=0)
    assert ran.lines() == []


def test_a_pool_of_another_size_serves_more_items_than_workers(tmp_path):
    with Pool(5) as pool:
        assert len(set(all_workers(pool, 5, tmp_path))) == 5
        assert parallel_map(double, range(100), pool=pool) == list(range(0, 200, 2))


def test_nothing_runs_twice(pool, tmp_path):
    ran = Diary(tmp_path / "ran")

    parallel_map(ran.write, range(3000), pool=pool)

    assert sorted(ran.numbers()) == list(range(3000))
