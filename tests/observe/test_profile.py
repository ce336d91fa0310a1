"""`parmap.profile` on real programs: each fault is found, and nothing of a call changes."""

from __future__ import annotations

import json
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import parmap
from parmap import Pool, parallel_imap, parallel_map, parallel_starmap
from parmap._calls import profiling
from parmap._calls.recording import MOST_SPANS, CallRecord, clock
from parmap.options import usable_cpus
from support import faulty
from support.tasks import fail_if_odd, identity, kill_self

if TYPE_CHECKING:
    from pathlib import Path

    from parmap.observe.profile import Profile


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    faulty.warm_up()


def figures(profile: Profile) -> dict[str, Any]:
    """Items by function, of all that it has recorded."""
    counted: dict[str, int] = {}
    for record in profile._records:
        counted[record.label] = counted.get(record.label, 0) + record.totals.items
    return counted


@pytest.mark.slow
@pytest.mark.parametrize("fault", faulty.PROGRAMS)
def test_the_fault_of_a_program_is_found(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    if fault == "too few workers" and usable_cpus() < 2:
        pytest.skip("one CPU is all there is")

    with parmap.profile() as profile:
        faulty.PROGRAMS[fault]()
    profile.summary()

    assert profile.diagnosis.fault == fault, str(profile)
    assert capsys.readouterr().out.rstrip().endswith(profile.diagnosis.text)


def test_the_summary_names_the_slowest_item_and_each_worker() -> None:
    with parmap.profile() as profile:
        parallel_map(faulty.nap, [0.001] * 5 + [0.2], max_workers=2)

    text = str(profile)
    assert "slowest items of nap: 5 (2" in text
    assert "parmap-1" in text
    assert "6" in text.splitlines()[1]


def test_nothing_is_measured_while_no_profile_is_open() -> None:
    with Pool(1) as pool:
        before = parallel_map(faulty.knows_of_timing, range(100), pool=pool)
        assert not profiling.on
        with parmap.profile():
            during = parallel_map(faulty.knows_of_timing, range(100), pool=pool)

    assert set(before) == {False}
    assert set(during) == {True}


def test_profiles_nest() -> None:
    with parmap.profile() as outer:
        parallel_map(identity, range(3), max_workers=2)
        with parmap.profile() as inner:
            parallel_map(identity, range(4), max_workers=2)
        parallel_map(identity, range(5), max_workers=2)
    parallel_map(identity, range(6), max_workers=2)

    assert figures(inner) == {"identity": 4}
    assert figures(outer) == {"identity": 12}


def test_a_thread_with_a_profile_of_its_own_is_told_its_own_calls_only() -> None:
    """... and one without is told to those that are open."""
    profiles: dict[int, Profile] = {}

    def measure(count: int) -> None:
        with parmap.profile() as profiles[count]:
            parallel_map(identity, range(count), max_workers=2)

    with parmap.profile() as around:
        threads = [threading.Thread(target=measure, args=[count]) for count in (3, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        other = threading.Thread(target=lambda: parallel_map(abs, range(7), max_workers=2))
        other.start()
        other.join()

    assert {count: figures(profile) for count, profile in profiles.items()} == {
        3: {"identity": 3},
        5: {"identity": 5},
    }
    assert figures(around) == {"abs": 7}


def test_short_calls_to_warm_workers_are_counted_together() -> None:
    parallel_map(abs, range(100), max_workers=2)
    with parmap.profile() as profile:
        for _ in range(150):
            parallel_map(abs, [-1, 2, -3], max_workers=2)

    assert sum(figures(profile).values()) == 450  # those that took longer are ordinary calls
    assert sum(record.totals.calls for record in profile._records) == 150
    assert sum(record.totals.bytes_out for record in profile._records) > 150


@pytest.mark.parametrize("options", [{}, {"chunksize": 3}, {"buffersize": 2}])
def test_what_pool_map_runs_is_counted(options: dict[str, int]) -> None:
    """Also through a view, and where nobody asks for all of the results."""
    with parmap.profile() as profile, Pool(2) as pool:
        assert list(pool.map(abs, range(-20, 0), **options)) == list(range(20, 0, -1))
        assert list(pool.options(retry=2).map(len, ["a", "bc"])) == [1, 2]
        assert next(pool.map(identity, range(5))) == 0
    counted = figures(profile)
    assert (counted["abs"], counted["len"]) == (20, 2)
    assert counted["identity"] >= 1
    assert all(record.totals.calls == 1 for record in profile._records)


def test_submitted_calls_have_one_record() -> None:
    with Pool(2) as pool, parmap.profile() as profile:
        assert [future.result() for future in [pool.submit(abs, -n) for n in range(20)]] == [
            *range(20)
        ]

    (record,) = profile._records
    assert (record.label, record.totals.calls, record.totals.items) == ("abs", 20, 20)


def test_other_engines_and_this_process_are_seen() -> None:
    with ThreadPoolExecutor(2) as threads, parmap.profile() as profile:
        parallel_map(identity, range(8), pool=threads)
        parallel_map(abs, range(4), max_workers=0)

    kinds = {record.kind: record.totals.items for record in profile._records}
    assert kinds == {"ThreadPoolExecutor": 8, "this process": 4}
    assert "identity (ThreadPoolExecutor)" in str(profile)


def test_a_stream_that_goes_on_after_the_block_is_told_as_far_as_it_came() -> None:
    with parmap.profile() as profile:
        stream = parallel_imap(identity, range(10_000), max_workers=2)
        next(stream)
    seen = figures(profile)["identity"]
    text = str(profile)
    assert sum(stream, start=0) == sum(range(10_000)) - 0

    assert 0 < seen <= 10_000
    assert "identity" in text


def test_bytes_are_counted_both_ways() -> None:
    with parmap.profile() as profile:
        parallel_map(identity, [bytes([number]) * 100_000 for number in range(3)], max_workers=2)

    (record,) = profile._records
    assert 300_000 < record.totals.bytes_out < 310_000
    assert 300_000 < record.totals.bytes_back < 310_000


def test_items_that_fail_or_kill_their_worker_change_nothing_but_the_figures() -> None:
    with parmap.profile() as profile:
        failures = parallel_map(fail_if_odd, range(4), on_error="return", max_workers=2)
        (lost,) = parallel_map(kill_self, [9], on_error="return", max_workers=2)

    assert [type(each).__name__ for each in failures] == [
        "int", "TaskFailure", "int", "TaskFailure",
    ]  # fmt: skip
    assert isinstance(lost, parmap.TaskFailure)
    assert figures(profile)["fail_if_odd"] == 4


class Odd:
    """No plain value: it goes as a pickle of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


def refuse(odd: object, *more: object) -> None:
    raise ValueError(odd)


@pytest.mark.parametrize("items", [[(1, 2)] * 20, [(Odd(1), 2)] * 20, [(1, 2)]])
@pytest.mark.parametrize("star", [True, False])
def test_a_traceback_is_the_same_with_a_profile(items: list[Any], star: bool) -> None:
    call: Any = parallel_starmap if star else parallel_map

    def frames() -> list[str]:
        with pytest.raises(ValueError, match="1") as caught:
            call(refuse, items, max_workers=2)
        return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    without = frames()
    with parmap.profile():
        assert frames() == without
    assert without[-1] == "refuse"


def test_a_long_item_among_tiny_ones_is_found_by_its_index() -> None:
    """Its chunk is timed as a whole, but cut short because of it."""
    with Pool(1) as pool, parmap.profile() as profile:
        parallel_map(_long_at_30_000, range(60_000), pool=pool)

    (record,) = profile._records
    assert max(record.slowest)[1] == 30_000


def _long_at_30_000(number: int) -> None:
    if number == 30_000:
        time.sleep(0.5)


def test_what_is_kept_is_bounded_and_the_sums_stay_exact() -> None:
    record = CallRecord("f", "SomeExecutor", 2, clock())
    for number in range(20_000):
        record.ran_there(f"w{number % 3}", 1, number, 7, 1000 + number, 5)

    assert len(record.spans) <= MOST_SPANS
    assert sum(span.items for span in record.spans) == record.totals.items == 140_000
    assert record.totals.bytes_back == 100_000
    assert len(record.workers) == 3


def test_more_calls_than_are_kept_are_added_up() -> None:
    with parmap.profile() as profile:
        for _ in range(250):
            parallel_map(abs, range(2), max_workers=0)

    assert figures(profile) == {"abs": 200, "abs (more)": 300}


def test_a_chrome_trace_has_the_documented_fields(tmp_path: Path) -> None:
    with parmap.profile() as profile:
        parallel_map(faulty.nap, [0.001] * 8, max_workers=2)
    profile.save(tmp_path / "x.json")

    trace = json.loads((tmp_path / "x.json").read_text())
    events = trace["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    assert trace["displayTimeUnit"] == "ms"
    assert {event["ph"] for event in events} == {"X", "M"}
    for event in complete:
        assert isinstance(event["name"], str)
        assert isinstance(event["cat"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        assert event["dur"] >= 0
        assert isinstance(event["args"], dict)
    assert {e["name"] for e in events if e["ph"] == "M"} >= {"process_name", "thread_name"}
    named = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert len(named) == len({(event["pid"], event["tid"]) for event in events})
    assert sum(event["args"]["count"] for event in complete if event["cat"] == "running") == 8


@pytest.mark.parametrize(
    ("path", "error", "told"),
    [
        ("x.svg", ValueError, r"\.html .*or \.json .*, not '\.svg'"),
        ("x", ValueError, r"not 'x'"),
        (3, TypeError, "path must be a str or a path, not int"),
    ],
)
def test_another_suffix_is_refused(path: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        parmap.profile().save(path)


def test_a_profile_is_opened_once() -> None:
    profile = parmap.profile()
    with profile:
        pass

    with pytest.raises(RuntimeError, match=r"call parmap\.profile\(\) anew"), profile:
        pass
    assert repr(profile) == "<Profile over: 0 records>"


def test_an_error_in_the_block_comes_through_and_ends_the_profile() -> None:
    with pytest.raises(ZeroDivisionError), parmap.profile():
        parallel_map(lambda x: 1 // x, [0], max_workers=2)

    assert not profiling.on
