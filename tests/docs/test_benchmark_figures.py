"""Medians, ratios, percentiles, bounds; CPU time and memory of a process tree."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from benchmarks.harness import figures, tree
from hypothesis import given
from hypothesis import strategies as st

costs = st.lists(st.floats(0.001, 10), min_size=1, max_size=30)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_not_below_its_part(values, part):
    found = figures.percentile(values, part)

    assert found in values
    assert sum(value <= found for value in values) >= part * len(values)


def test_a_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 0.5)


def test_a_median_is_over_the_rounds_that_have_the_figure():
    rounds = [{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0}]

    assert figures.medians(rounds) == {"a": 2.0, "b": 5.0}
    assert figures.medians([]) == {}


def test_a_ratio_to_nothing_is_none():
    assert figures.ratio(1.0, 4.0) == 0.25
    assert figures.ratio(1.0, 0.0) is None


def test_the_spread_is_relative_and_nothing_without_two_rounds():
    assert figures.spread([]) == figures.spread([3.0]) == figures.spread([2.0, 2.0]) == 0.0
    assert figures.spread([10, 20, 30]) == pytest.approx(0.25)
    assert figures.spread([100, 200, 300]) == pytest.approx(0.25)


@given(costs, st.integers(1, 8))
def test_no_order_beats_the_bound_and_greed_stays_within_twice_of_it(items, workers):
    """Graham, 1966: 2 - 1/workers."""
    bound, greedy = figures.makespan_bound(items, workers), figures.in_order_bound(items, workers)

    assert bound <= greedy * 1.000001
    assert greedy <= bound * (2 - 1 / workers) * 1.000001


BUSY = "import time\nwhile time.process_time() < {}: pass\n"


def test_cpu_time_counts_children_that_live_and_that_have_ended():
    before = tree.cpu_seconds()
    subprocess.run([sys.executable, "-c", BUSY.format(0.2)], check=True)
    ended = tree.cpu_seconds_after() - before
    living = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(0.2) + "print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    living.stdout.readline()
    both = tree.cpu_seconds_after() - before
    living.communicate(b"\n")

    assert ended >= 0.19
    assert both >= ended + 0.19


def test_cpu_time_of_a_child_of_a_child_counts():
    before = tree.cpu_seconds()
    inner = BUSY.format(0.2)
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}])",
        ],
        check=True,
    )

    assert tree.cpu_seconds_after() - before >= 0.19


def test_sleeping_costs_no_cpu_time():
    before, wall = tree.own_cpu_seconds(), time.monotonic()
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)"], check=True)

    assert tree.own_cpu_seconds() - before < time.monotonic() - wall


@pytest.mark.skipif(not tree.ON_LINUX, reason="PSS is Linux's")
def test_memory_that_a_fork_shares_counts_once():
    """50 MB, touched before the fork: two processes hold them, and they are 50 MB."""
    script = "import os\ndata = b'x' * 50_000_000\nif os.fork(): print(flush=True)\nos.read(0, 1)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        parent.stdout.readline()
        processes, memory = len(tree.family(parent.pid)), tree.memory_mb(parent.pid)
        parent.stdin.close()  # the end for both

    assert processes == 2
    assert 50 <= memory < 95


def test_memory_and_family_of_a_process_that_is_gone_are_nothing():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    assert tree.family(gone.pid) == []
    assert tree.memory_mb(gone.pid) == 0.0
