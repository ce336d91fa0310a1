"""How many CPUs there are: affinity, cgroups of both versions, and the share of a worker."""

from __future__ import annotations

import math
import os

import pytest

from parmap import _cpus, _nesting, options


@pytest.fixture
def system(tmp_path):
    """A pretended /sys/fs/cgroup and /proc/self/cgroup."""

    class System:
        def write(self, path: str, text: str) -> None:
            file = tmp_path / "fs" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

        def quota(self, *lines: str) -> float | None:
            proc = tmp_path / "cgroup"
            proc.write_text("".join(f"{line}\n" for line in lines))
            return _cpus.cgroup_quota(proc, tmp_path / "fs")

    return System()


def test_version_2_in_a_container(system):
    system.write("cpu.max", "150000 100000\n")
    assert system.quota("0::/") == 1.5


def test_version_2_the_tightest_group_on_the_way_up_counts(system):
    system.write("a/b/cpu.max", "max 100000\n")
    system.write("a/cpu.max", "200000 100000\n")
    system.write("cpu.max", "400000 100000\n")
    assert system.quota("0::/a/b") == 2.0


def test_version_2_a_path_that_is_not_seen_from_inside(system):
    """In a container without a namespace of its own the kernel tells the host's path."""
    system.write("cpu.max", "50000 100000\n")
    assert system.quota("0::/docker/0123") == 0.5


def test_version_1(system):
    system.write("cpu/docker/cpu.cfs_quota_us", "250000\n")
    system.write("cpu/docker/cpu.cfs_period_us", "100000\n")
    assert system.quota("4:memory:/x", "3:cpu,cpuacct:/docker") == 2.5


def test_version_1_mounted_under_both_names(system):
    system.write("cpu,cpuacct/cpu.cfs_quota_us", "300000\n")
    system.write("cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert system.quota("3:cpu,cpuacct:/") == 3.0


@pytest.mark.parametrize("quota", ["-1\n", "0\n", "nonsense\n", ""])
def test_no_limit_of_version_1(system, quota):
    system.write("cpu/cpu.cfs_quota_us", quota)
    system.write("cpu/cpu.cfs_period_us", "100000\n")
    assert system.quota("3:cpu:/") is None


@pytest.mark.parametrize("text", ["max 100000\n", "", "1\n", "100000 0\n"])
def test_no_limit_of_version_2(system, text):
    system.write("cpu.max", text)
    assert system.quota("0::/") is None


def test_where_there_are_no_cgroups_there_is_no_limit(tmp_path):
    assert _cpus.cgroup_quota(tmp_path / "none", tmp_path) is None


@pytest.fixture
def cpus(monkeypatch):
    """Pretend to have so many CPUs, of which the group may use so much."""

    def pretend(count: int, quota: float | None = None) -> None:
        monkeypatch.setattr(os, "process_cpu_count", lambda: count, raising=False)
        monkeypatch.setattr(_cpus, "cgroup_quota", lambda: quota)
        monkeypatch.setattr(_cpus, "_quota", (-math.inf, None))
        monkeypatch.setattr(_cpus, "_recent", (-math.inf, 1))

    return pretend


@pytest.mark.parametrize(
    ("count", "quota", "usable"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (2, 16.0, 2), (8, 0.1, 1)],
)
def test_affinity_and_quota_both_count(cpus, count, quota, usable):
    cpus(count, quota)
    assert options.usable_cpus() == usable


def test_affinity_alone_where_python_does_not_tell(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7}, raising=False)
    monkeypatch.setattr(_cpus, "_quota", (math.inf, None))
    assert options.usable_cpus() == 3


@pytest.mark.parametrize(
    ("budget", "workers", "share"),
    [(None, 1, 8), (None, 2, 4), (None, 3, 2), (None, 8, 1), (None, 100, 1), (None, 0, 8),
     (4, 2, 2), (1, 2, 1)],
)  # fmt: skip
def test_workers_share_the_cpus_and_theirs_share_what_they_have(
    cpus, monkeypatch, budget, workers, share
):
    cpus(8)
    monkeypatch.setattr(_nesting, "budget", budget)
    assert _cpus.share(workers) == share


@pytest.mark.parametrize(
    ("budget", "asked", "apart", "cap"),
    [
        (None, None, False, 8), (None, 3, False, 3), (None, 0, False, 0),
        (4, None, False, 4), (4, 8, False, 4), (4, 2, False, 2), (4, 0, True, 0),
        (1, None, False, 0), (1, None, True, 1), (1, 8, False, 1), (1, 1, False, 1),
    ],
)  # fmt: skip
def test_what_is_asked_for_within_a_worker_is_a_cap(cpus, monkeypatch, budget, asked, apart, cap):
    cpus(8)
    monkeypatch.delenv("PARMAP_MAX_WORKERS", raising=False)
    monkeypatch.setattr(_nesting, "budget", budget)
    assert options.check_cap(asked, apart=apart) == cap
