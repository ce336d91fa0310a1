"""The benchmarks run, judge and compare; no contestant's misbehaviour ends a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from benchmarks import compare, run
from benchmarks.harness.conduct import Host, NoAnswerError, Settings, heat
from benchmarks.harness.goals import GOALS
from benchmarks.harness.host import load
from benchmarks.harness.peers import PEERS
from benchmarks.harness.report import Report, table

ROOT = Path(__file__).parents[2]
MOODS = "support.benchmark_moods"


@pytest.fixture(autouse=True)
def _helpers_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def test_a_run_prints_ratios_and_goals_and_writes_what_it_found(tmp_path):
    """As a user starts it, with parmap and the standard library only."""
    path = tmp_path / "out" / "result.json"

    done = subprocess.run(
        [
            sys.executable, ROOT / "benchmarks" / "run.py", "--quick", "--rounds", "2",
            "--peers", "parmap,Pool.map", "--json", path, "tiny", "failing/failing",
        ],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert list(found["results"]["tiny/list"]) == ["parmap", "Pool.map", "Pool.map, tuned"]
    assert set(found["results"]["tiny/list"]["parmap"]) == {
        "wall_ms", "cpu_ms", "cpu_ns_per_item", "pss_mb", "grown_mb",
    }  # fmt: skip
    assert len(found["samples"]["tiny/list"]["parmap"]["wall_ms"]) == 2
    assert all(
        found["results"]["tiny/list"]["parmap"][key] > 0 for key in ("wall_ms", "cpu_ms", "pss_mb")
    )
    assert "chunksize" in found["notes"]["tiny/list"]["Pool.map, tuned"]
    assert "failing/failing" in done.stdout
    assert "x*x, wall / Pool.map" in done.stdout


def test_what_a_contestant_does_wrong_is_noted_and_the_others_go_on():
    before = set(psutil.Process().children(recursive=True))  # the shared pool's, of other tests

    entries = {each.contestant.label: each for each in heat(MOODS, "", Settings(rounds=3))}

    assert len(entries["fine"].rounds) == 3
    assert "pss_mb" in entries["fine"].memory
    assert entries["dies"].note == "failed: died with exit code 7"
    assert entries["raises"].note == "failed: RuntimeError: no mood for work"
    assert entries["is wrong"].note == "failed: WrongResultError: two and two is five"
    assert entries["skips"].note == "skipped: not today"
    assert [name for name, each in entries.items() if each.rounds] == ["fine"]
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_contestant_that_hangs_is_ended_with_its_children():
    host = Host(MOODS, "hangs", "hangs", quick=True, chunk=None)
    family = []
    with host:
        host.ask("open", 60)
        # The bound is short on purpose; what it meets is a process that never answers.
        with pytest.raises(NoAnswerError, match="without an answer"):
            host.ask("run", 0.3, look=lambda: family.append(psutil.Process(host.pid).children()))
        host.kill()

    assert any(family)
    assert not psutil.pid_exists(host.pid)
    assert not any(child.is_running() for children in family for child in children)


def test_a_peer_that_is_not_installed_is_skipped(monkeypatch):
    from benchmarks.harness import peers
    from benchmarks.harness.scenario import Skipped

    monkeypatch.setattr(PEERS["loky"], "modules", ("no_such_package",))

    with pytest.raises(Skipped, match="no_such_package is not installed"):
        peers.load("loky")


def test_every_scenario_says_what_it_measures_and_has_parmap_first():
    for name in run.scenario_names():
        scenario = load(name)
        assert (sys.modules[scenario.run.__module__].__doc__ or "").strip(), name
        for variant in scenario.variants:
            contestants = scenario.contestants(variant)
            assert contestants[0].label.startswith("parmap"), (name, variant)
            assert len({each.label for each in contestants}) == len(contestants), (name, variant)
            assert {each.peer for each in contestants} <= set(PEERS), (name, variant)


def test_a_name_that_no_scenario_has_is_refused_with_those_that_exist(capsys):
    for wrong in ("tinny", "tiny/tuple"):
        with pytest.raises(SystemExit):
            run.main([wrong])
        assert "there are: " in capsys.readouterr().err


def test_every_goal_names_a_scenario_and_contestant_that_exist():
    """A renamed scenario must not turn its row of DESIGN.md into 'not measured'."""
    asked = set()

    class Spy(dict):
        def __init__(self, path=()):
            self.path = path

        def __getitem__(self, key):
            path = (*self.path, key)
            if len(path) == 3:
                asked.add(path)
                return 1.0
            return Spy(path)

    for goal in GOALS:
        goal.value(Spy())
    others = (
        *run.modules(),
        "shared",
        "locks",
        "containers",
    )  # to come, from a protocol of their own
    known = {
        (f"{name}/{variant}" if variant else name, each.label)
        for name in run.scenario_names()
        for variant in load(name).variants
        for each in load(name).contestants(variant)
    }

    ours = {(scenario, who) for scenario, who, _ in asked if scenario.split("/")[0] not in others}
    assert len(ours) > 15
    assert ours <= known


def result(wall, theirs, samples=()):
    report = Report({"schema": 1, "results": {}, "samples": {}, "notes": {}})
    report.results["tiny"] = {"parmap": {"wall_ms": wall}, "Pool.map": {"wall_ms": theirs}}
    report.samples["tiny"] = {"parmap": {"wall_ms": list(samples)}}
    return report


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (result(100, 100), result(80, 100), "better"),
        (result(100, 100), result(130, 100), "WORSE"),
        (result(100, 100), result(103, 100), ""),
        # The machine was slower, and so was everybody.
        (result(100, 100), result(150, 150), ""),
        (result(100, 100), result(100, 50), "WORSE"),
        # As far as the rounds of one run differ among themselves, it says nothing.
        (result(100, 100, [60, 80, 100, 120, 140]), result(115, 100), ""),
    ],
)
def test_a_comparison_takes_out_the_drift_of_the_machine_and_the_noise(before, after, word):
    (change,) = compare.changes(before, after)

    assert change.word == word


def test_two_result_files_are_compared(tmp_path, capsys):
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    result(100, 100).write(before)
    result(50, 100).write(after)

    assert compare.main([str(before), str(after)]) == 0

    printed = capsys.readouterr().out
    assert "better" in printed
    assert printed.endswith("1 better, 0 worse, 0 the same\n")


def test_a_file_that_holds_no_results_is_refused(tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text("[]")

    with pytest.raises(SystemExit):
        compare.main([str(path), str(path)])

    assert "is not a result file" in capsys.readouterr().err


def test_a_table_shows_ours_as_a_part_of_theirs_and_why_a_number_is_missing():
    printed = table(
        "tiny", {"parmap": {"wall_ms": 50.0}, "Pool.map": {"wall_ms": 200.0}}, {"loky": "failed: x"}
    )

    assert [line.split() for line in printed.splitlines()] == [
        ["tiny", "wall_ms"],
        ["parmap", "50.0"],
        ["Pool.map", "200", "(0.25)"],
        ["loky", "failed:", "x"],
    ]


def test_a_module_of_the_protocol_that_fails_is_noted(tmp_path, monkeypatch):
    (tmp_path / "good.py").write_text('print(\'{"a": {"Channel": {"rate": 2}}}\')')
    (tmp_path / "bad.py").write_text("raise SystemExit('broken')")
    monkeypatch.setattr(run, "HERE", tmp_path)
    report = Report()

    for name in run.modules():
        run.run_module(report, name, 1)

    assert report.results == {"good/a": {"Channel": {"rate": 2}}}
    assert report.notes["bad"] == {"bad": "failed: broken"}
