"""A call that is run again runs only what is missing, and its results are those of the loop."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parmap import (
    CallTimeoutError,
    Pool,
    Retry,
    TaskErrorGroup,
    TaskFailure,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from support.checkpoints import Recorded, is_whole, rows, value_of
from support.gates import Gate
from support.tasks import add, hang


@pytest.fixture(params=["workers", "inline", "threads"], scope="module")
def engine(request):
    """The options of a call that choose who runs it."""
    if request.param == "threads":
        with ThreadPoolExecutor(2) as executor:
            yield {"pool": executor}
    elif request.param == "inline":
        yield {"max_workers": 0}
    else:
        with Pool(2) as pool:
            yield {"pool": pool}


def shown(results):
    """Failures as something that can be compared."""
    return ["failed" if isinstance(each, TaskFailure) else each for each in results]


@pytest.mark.parametrize("call", [parallel_map, parallel_imap])
def test_only_what_is_missing_runs(call, engine, recorded, file):
    first = list(call(recorded.run, [3, 1, 2], checkpoint=file, **engine))
    assert (first, recorded.ran()) == ([value_of(x) for x in (3, 1, 2)], [1, 2, 3])

    again = list(call(recorded.run, [1, 4, 3, 5, 2], checkpoint=file, **engine))
    assert (again, recorded.ran()) == ([value_of(x) for x in (1, 4, 3, 5, 2)], [4, 5])

    assert list(call(recorded.run, [5, 4], checkpoint=str(file), **engine)) == [
        value_of(5),
        value_of(4),
    ]
    assert recorded.ran() == []
    assert is_whole(file)


def test_every_call_that_maps_takes_one(engine, recorded, file):
    """Whatever brings the arguments: they are what an item is known by."""
    assert parallel_map(add, [1, 2], [10, 20], checkpoint=file, **engine) == [11, 22]
    assert parallel_starmap(add, [(1, 10), (2, 20)], checkpoint=file, **engine) == [11, 22]
    assert list(parallel_imap(add, [1, 2], [10, 20], checkpoint=file, **engine)) == [11, 22]
    assert len(rows(file)) == 2
    assert parallel_map(recorded.run, [], checkpoint=file, **engine) == []


def test_results_come_as_they_finish_too(engine, recorded, file):
    parallel_map(recorded.run, [0, 2, 4], checkpoint=file, **engine)
    recorded.ran()
    results = parallel_imap(recorded.run, range(6), ordered=False, checkpoint=file, **engine)

    assert sorted(results) == [value_of(x) for x in range(6)]
    assert recorded.ran() == [1, 3, 5]


@pytest.mark.parametrize("call", [parallel_map, parallel_imap])
def test_a_failure_is_not_stored_and_names_its_place_in_the_input(call, engine, recorded, file):
    recorded.fail(2, 3)
    list(call(recorded.run, range(5), on_error="return", checkpoint=file, **engine))
    recorded.ran()
    recorded.fail(3)

    with pytest.raises(ValueError, match="bad 3") as caught:
        list(call(recorded.run, range(5), checkpoint=file, **engine))
    assert "item 3" in caught.value.__notes__[0]
    recorded.fail()
    recorded.ran()
    assert list(call(recorded.run, range(5), checkpoint=file, **engine)) == [
        value_of(x) for x in range(5)
    ]
    # When 3 was seen to fail, 2 was cancelled if it had not begun.
    assert recorded.ran() in ([3], [2, 3])


@pytest.mark.parametrize("call", [parallel_map, parallel_imap])
def test_a_group_holds_what_was_stored_beside_what_failed(call, engine, recorded, file):
    parallel_map(recorded.run, [0, 1], checkpoint=file, **engine)
    recorded.fail(2)
    with pytest.raises(TaskErrorGroup) as caught:
        list(call(recorded.run, range(4), on_error="group", checkpoint=file, **engine))

    results = [value_of(0), value_of(1), "failed", value_of(3)]
    assert shown(caught.value.results) == results
    assert caught.value.results[2].index == 2


def test_an_ordered_stream_raises_in_place_behind_stored_results(engine, recorded, file):
    parallel_map(recorded.run, [0, 1, 3], checkpoint=file, **engine)
    recorded.fail(2)
    results = parallel_imap(recorded.run, range(5), checkpoint=file, **engine)

    assert [next(results), next(results)] == [value_of(0), value_of(1)]
    with pytest.raises(ValueError, match="bad 2"):
        next(results)
    assert list(results) == []


def test_a_retried_item_is_stored_once_it_succeeds(engine, folder, file):
    calls = folder / "calls"

    assert parallel_map(
        fail_twice, [str(calls)], retry=Retry(3, on=OSError), checkpoint=file, **engine
    ) == [3]
    assert parallel_map(fail_twice, [str(calls)], checkpoint=file, **engine) == [3]
    assert calls.read_text() == "xxx"


def fail_twice(path):
    with open(path, "a") as file:
        file.write("x")
    tries = len(Path(path).read_text())
    if tries < 3:
        raise OSError(tries)
    return tries


def test_progress_counts_what_is_stored_as_done(engine, recorded, file):
    parallel_map(recorded.run, range(5), checkpoint=file, **engine)
    recorded.fail(6)
    told = []
    parallel_map(
        recorded.run, range(8), on_error="return", progress=told.append, checkpoint=file, **engine
    )

    assert (told[-1].done, told[-1].failed, told[-1].total) == (8, 1, 8)
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert told[0].done >= 1


def test_an_endless_input_is_read_no_further_than_without(engine, recorded, file):
    parallel_map(recorded.run, range(30), checkpoint=file, **engine)
    taken = itertools.count()
    with parallel_imap(recorded.run, taken, buffersize=4, checkpoint=file, **engine) as results:
        for x in range(40):
            assert next(results) == value_of(x)
            assert next(taken) <= x + 6  # one of them is that of the question itself
            recorded.ran()
            break


def test_what_is_stored_is_given_while_the_first_missing_item_runs(folder, file):
    """Nothing waits for what is slow, but what stands behind it in order."""
    gate, started = Gate(folder / "gate"), Gate(folder / "started")
    with Pool(1) as pool:
        parallel_map(wait_if_asked, [(None, None), (None, 1)], pool=pool, checkpoint=file)
        items = [(str(gate.path), str(started.path)), (None, None), (None, 1)]
        results = parallel_imap(wait_if_asked, items, pool=pool, ordered=False, checkpoint=file)
        assert [next(results), next(results)] == [None, 1]
        gate.open()
        assert next(results) == str(started.path)


def test_the_engine_works_while_stored_results_are_still_read(threads, folder, file):
    """However many there are: what is missing begins at once."""
    started = Gate(folder / "started")
    stored = range(1, 2000)
    parallel_map(open_at_0, [(started.path, x) for x in stored], checkpoint=file, pool=threads)

    def items():
        for x in (0, *stored):
            yield started.path, x
            if started.is_open:
                return
            threading.Event().wait(0.01)

    results = parallel_map(open_at_0, items(), checkpoint=file, pool=threads)
    assert results == list(range(len(results)))
    assert len(results) < 2000


def open_at_0(item):
    path, x = item
    if x == 0:
        Gate(path).open()
    return x


def wait_if_asked(item):
    gate, value = item
    if gate is not None:
        Gate(gate).wait()
    return value


def test_a_timeout_tells_of_every_item_and_the_next_run_goes_on(folder, file):
    """As without: what stands in its `results` is what there was, for each item of the list."""
    items = [(str(folder / "never"), x) for x in range(40)]
    with Pool(1) as pool:
        assert parallel_map(hang_at_30, items[:9], pool=pool, checkpoint=file) == list(range(9))
        with pytest.raises(CallTimeoutError) as caught:
            parallel_map(hang_at_30, items, pool=pool, timeout=0.2, checkpoint=file)
        results = shown(caught.value.results)
        assert len(results) == 40
        assert all(each in (x, "failed") for x, each in enumerate(results))
        assert parallel_map(hang_at_30, items[:30], pool=pool, checkpoint=file) == list(range(30))
    assert is_whole(file)


def hang_at_30(item):
    gate, x = item
    if x == 30:
        hang(Gate(gate))
    return x


def test_a_stream_that_is_closed_early_keeps_what_it_had(engine, recorded, file):
    with parallel_imap(recorded.run, range(100), checkpoint=file, **engine) as results:
        assert [next(results), next(results)] == [value_of(0), value_of(1)]
    ran = recorded.ran()

    assert parallel_map(recorded.run, range(100), checkpoint=file, **engine) == [
        value_of(x) for x in range(100)
    ]
    again = recorded.ran()
    assert {0, 1} & set(again) == set()
    assert sorted({*ran, *again}) == list(range(100))


def test_a_stream_that_is_dropped_lets_the_file_go(engine, recorded, file):
    results = parallel_imap(recorded.run, range(100), checkpoint=file, **engine)
    next(results)
    del results

    assert parallel_map(recorded.run, [0], checkpoint=file, **engine) == [value_of(0)]


# ---------------------------------------------------------------------- any of it


ITEMS = st.lists(st.integers(0, 6), max_size=14)
MODES = st.sampled_from(["return", "group", "raise"])


def outcome_of(call, *args, **options):
    """What a call gives: its results, failures among them; or what it raises."""
    try:
        return shown(call(*args, **options))
    except TaskErrorGroup as error:
        return shown(error.results)
    except ValueError as error:
        return str(error)


def missing(items, stored):
    """The occurrences of items that are not stored yet."""
    left, missing = list(stored), []
    for x in items:
        if x in left:
            left.remove(x)
        else:
            missing.append(x)
    return sorted(missing)


@settings(max_examples=settings().max_examples // 2)
@given(
    before=ITEMS, bad_before=st.sets(st.integers(0, 6)), items=ITEMS, bad=st.sets(st.integers(0, 6)),
    mode=MODES, lazy=st.booleans(), inline=st.booleans(), chunksize=st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_whatever_was_stored_and_whatever_fails_results_are_the_loops_and_only_the_missing_run(
    threads, before, bad_before, items, bad, mode, lazy, inline, chunksize
):
    options = {"max_workers": 0} if inline else {"pool": threads, "chunksize": chunksize}
    call = parallel_imap if lazy else parallel_map
    with TemporaryDirectory() as path:
        recorded, file = Recorded(Path(path)), Path(path, "results.sqlite")
        recorded.fail(*bad_before)
        parallel_map(recorded.run, before, on_error="return", checkpoint=file, **options)
        recorded.ran()
        stored = [x for x in before if x not in bad_before]

        recorded.fail(*bad)
        # What is stored has not failed, and does not run again.
        occurrences = missing(items, stored)
        fails = {x for x in bad if x in occurrences}
        got = outcome_of(call, recorded.run, items, on_error=mode, checkpoint=file, **options)
        ran = recorded.ran()

        if mode != "raise" or not fails:
            expected = loop_with_stored(items, stored, fails)
            assert got == expected
            assert ran == occurrences
        else:
            assert got in {f"bad {x}" for x in fails}
            assert missing(ran, occurrences) == []
        recorded.fail()
        assert parallel_map(recorded.run, items, checkpoint=file, **options) == [
            value_of(x) for x in items
        ]
        assert is_whole(file)


def loop_with_stored(items, stored, fails):
    left, results = list(stored), []
    for x in items:
        if x in left:
            left.remove(x)
            results.append(value_of(x))
        else:
            results.append("failed" if x in fails else value_of(x))
    return results


# ---------------------------------------------------------------------- memory


MEGABYTE = 1 << 20


def one_megabyte(x):
    return bytes([x]) * MEGABYTE


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_of_large_results_is_never_held_as_a_whole(workers, file):
    """Neither while they are stored nor while they are read."""

    def consume():
        count = 0
        for result in parallel_imap(one_megabyte, range(64), max_workers=workers, checkpoint=file):
            assert len(result) == MEGABYTE
            count += 1
        assert count == 64

    assert peak_of(consume) < 32 * MEGABYTE
    assert peak_of(consume) < 32 * MEGABYTE
