"""Progress: what is told, when, to whom; and a bar that leaves no thread and no semaphore."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import pytest

from parmap.observe.progress import Progress, ProgressReporter


class Clock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PARMAP_PROGRESS", raising=False)
    return monkeypatch


def reporter(told: list[Progress], clock: Clock, total: int | None = 10) -> ProgressReporter:
    return ProgressReporter(told.append, total, clock=clock)


def test_the_first_update_is_told_at_once(clock: Clock) -> None:
    told: list[Progress] = []
    report = reporter(told, clock)

    report.update(1, 0)

    assert told == [Progress(done=1, failed=0, total=10, elapsed=0.0)]


def test_updates_in_quick_succession_are_held_back_and_the_last_is_told_at_the_end(
    clock: Clock,
) -> None:
    told: list[Progress] = []
    report = reporter(told, clock)
    for done in range(1, 11):
        report.update(done, done // 5)
        clock.now += 0.001

    report.close()

    assert [(p.done, p.failed) for p in told] == [(1, 0), (10, 2)]
    assert told[-1].elapsed == pytest.approx(0.01)


def test_every_slow_item_is_told(clock: Clock) -> None:
    told: list[Progress] = []
    report = reporter(told, clock)
    for done in range(1, 4):
        clock.now += 1.0
        report.update(done, 0)

    report.close()

    assert [(p.done, p.elapsed) for p in told] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_what_is_held_back_has_a_time_when_it_is_due(clock: Clock) -> None:
    told: list[Progress] = []
    report = reporter(told, clock)
    report.update(1, 0)
    assert report.seconds_until_due() is None

    report.update(2, 0)
    assert report.seconds_until_due() == pytest.approx(0.05)

    clock.now += 0.06
    assert report.seconds_until_due() == 0.0
    report.flush()
    assert [p.done for p in told] == [1, 2]


def test_a_slow_callback_is_given_a_pause(clock: Clock) -> None:
    def slow(_: Progress) -> None:
        clock.now += 3.0

    report = ProgressReporter(slow, 10, clock=clock)
    report.update(1, 0)
    report.update(2, 0)

    assert report.seconds_until_due() == pytest.approx(0.05)


def test_an_error_of_the_callback_comes_out_and_ends_the_telling(clock: Clock) -> None:
    told: list[Progress] = []

    def fail(progress: Progress) -> None:
        told.append(progress)
        raise ZeroDivisionError

    report = ProgressReporter(fail, 10, clock=clock)
    with pytest.raises(ZeroDivisionError):
        report.update(1, 0)
    clock.now += 1.0
    report.update(2, 0)
    report.close()

    assert len(told) == 1


def test_close_twice_tells_once(clock: Clock) -> None:
    told: list[Progress] = []
    report = reporter(told, clock, total=None)
    report.update(1, 0)
    report.close()
    report.close()

    assert told == [Progress(1, 0, None, 0.0)]


def test_a_progress_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Progress(1, 0, 2, 0.5).done = 7  # type: ignore[misc]


@pytest.mark.parametrize("nonsense", [3, None, 1.5, b"label"])
def test_anything_else_is_refused_at_the_door(nonsense: object) -> None:
    with pytest.raises(TypeError, match="progress is a bool, a label or a callback"):
        ProgressReporter(nonsense, 10)  # type: ignore[arg-type]


def test_a_bar_shows_the_label_the_count_and_the_failures(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setattr(sys, "stderr", terminal := Terminal())
    report = ProgressReporter("parsing", 4)
    report.update(1, 0)
    report.update(4, 2)
    report.close()

    screen = terminal.getvalue()
    assert "parsing" in screen
    assert "4/4" in screen
    assert "failed=2" in screen
    assert screen.endswith("\n")


def test_a_bar_without_a_total_counts(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setattr(sys, "stderr", terminal := Terminal())
    report = ProgressReporter(True, None)
    report.update(7, 0)
    report.close()

    assert "7it" in terminal.getvalue()


@pytest.mark.parametrize(
    ("environment", "is_terminal", "shown"),
    [(None, True, True), (None, False, False), ("1", False, True), ("0", True, False)],
)
def test_where_a_bar_is_shown(
    environment: str | None,
    is_terminal: bool,
    shown: bool,
    clean_environment: pytest.MonkeyPatch,
) -> None:
    if environment is not None:
        clean_environment.setenv("PARMAP_PROGRESS", environment)
    clean_environment.setattr(sys, "stderr", screen := Terminal() if is_terminal else io.StringIO())

    report = ProgressReporter(True, 2)
    report.update(2, 0)
    report.close()

    assert bool(screen.getvalue()) is shown


def test_no_bar_when_there_is_no_stderr_at_all(clean_environment: pytest.MonkeyPatch) -> None:
    """As under pythonw."""
    clean_environment.setattr(sys, "stderr", None)

    report = ProgressReporter(True, 2)
    report.update(2, 0)
    report.close()


def test_a_callback_is_called_whatever_the_terminal_and_the_environment_say(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARMAP_PROGRESS", "0")
    told: list[Progress] = []
    reporter(told, clock).update(1, 0)

    assert told


def test_a_bar_starts_no_thread_and_no_semaphore() -> None:
    """tqdm's defaults would do both, and a fork or an exit would meet them."""
    script = """
import sys, threading
from parmap.observe.progress import ProgressReporter
report = ProgressReporter(True, 3)
report.update(3, 1)
report.close()
print(threading.active_count(), "multiprocessing.synchronize" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PARMAP_PROGRESS": "1"},
    )

    assert done.stdout.split() == ["1", "False"]
    assert "3/3" in done.stderr
