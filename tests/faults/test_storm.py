"""Random processes are killed under load, for minutes; then every result is accounted for.

`make stress`: ``SECONDS=`` says how long (180), ``PARMAP_TEST_SEED=`` repeats the choices.  At the
same time run: maps of tiny, middling and large items, a lazy one, submitted calls, limits of time,
retries, groups with channels and shared state.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import parmap
from parmap import (
    Channel,
    Pool,
    Restart,
    Retry,
    SharedCounter,
    TaskFailure,
    TaskTimeoutError,
    WorkerGroup,
    WorkerLostError,
    WorkerStartError,
    parallel_imap,
    parallel_map,
)
from parmap._driver import Driver
from parmap._living import living_loops
from parmap.testing import nothing_left_behind
from support.scripts import descendants

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform != "linux", reason="finds its victims in /proc"),
]

SECONDS = float(os.environ.get("PARMAP_STORM_SECONDS", "180"))
# A round that takes so long is left in peace: where processes die faster than the machine can start
# them nothing gets done.  One that then does not end, either, hangs.
CALM_AFTER = 10.0
PATIENCE = CALM_AFTER + 120.0
# How often an item may be killed by bad luck until that is no luck any more.
RETRY = Retry(1000)


class Storm:
    """Loads in threads, a killer, and what they count."""

    def __init__(self, seed: str) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self.over = threading.Event()
        self.began: dict[str, float] = {}  # load -> when its present round began
        self._dice = random.Random(seed)

    def run(self, loads: dict[str, Callable[[Counter[str]], None]]) -> None:
        threads = [
            threading.Thread(target=self._repeat, args=(name, load), name=name)
            for name, load in loads.items()
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not self.errors:
            self._strike()
            self.over.wait(self._dice.uniform(0.01, 0.3))
        self.over.set()
        for thread in threads:
            while thread.is_alive():  # the last round comes to its end, too, and is killed no more
                thread.join(1.0)
                self._look_for_hangs()

    def _repeat(self, name: str, load) -> None:
        try:
            while not self.over.is_set():
                self.began[name] = time.monotonic()
                try:
                    load(self.counts)
                    self.counts[f"rounds: {name}"] += 1
                except WorkerStartError:  # three in a row were killed before they were ready
                    self.counts["calls told that no worker would start"] += 1
        except BaseException as error:
            error.add_note(f"in the load {name}")
            self.errors.append(error)
            self.over.set()
        finally:
            self.began.pop(name, None)

    def _strike(self) -> None:
        self._look_for_hangs()
        if self._longest_round() > CALM_AFTER or not (victims := descendants(os.getpid())):
            return
        victim = self._dice.choice(victims)
        how = self._dice.choices(["kill", "stop, kill", "crash", "all"], [70, 15, 14, 1])[0]
        chosen = victims if how == "all" else [victim]
        for pid in chosen:
            try:
                if how == "stop, kill":
                    os.kill(pid, signal.SIGSTOP)
                os.kill(pid, signal.SIGSEGV if how == "crash" else signal.SIGKILL)
                self.counts["kills"] += 1
            except ProcessLookupError:
                continue

    def _longest_round(self) -> float:
        return time.monotonic() - min(list(self.began.values()), default=time.monotonic())

    def _look_for_hangs(self) -> None:
        if self._longest_round() < PATIENCE:
            return
        faulthandler.dump_traceback(all_threads=True)
        for loop in living_loops():
            about = loop.describe() if isinstance(loop, Driver) else ""
            sys.stderr.write(f"{loop.name} {about} {loop.pids()}\n")
        subprocess.run(["ps", "-eo", "pid,ppid,stat,etimes,wchan:20,args"], check=False)
        os._exit(1)  # whatever hangs would hang the end of the tests, too


def square(number):
    return number * number


def slow_square(number):
    time.sleep(0.002)
    return number * number


def large(number):
    return bytes([number % 256]) * 500_000


def late_if_7(number):
    if number == 7:
        time.sleep(600)
    return number


def tiny(counts):
    assert parallel_map(square, range(5_000), max_workers=2, retry=RETRY) == [
        square(number) for number in range(5_000)
    ]
    counts["results"] += 5_000


def middling(counts):
    """Without retry: what is lost is in its place, and everything else is there."""
    outcomes = parallel_map(slow_square, range(150), max_workers=3, on_error="return")
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, TaskFailure):
            assert isinstance(outcome.error, WorkerLostError), outcome
            assert outcome.index == number
            counts["items in error, each with a killed worker"] += 1
        else:
            assert outcome == number * number
            counts["results"] += 1
    assert len(outcomes) == 150


def lazy(counts):
    with parallel_imap(large, range(40), max_workers=2, retry=RETRY) as results:
        for number, result in enumerate(results):
            assert result == large(number)
            counts["results"] += 1
    assert number == 39


def late(counts):
    with Pool(2) as pool:
        outcomes = parallel_map(
            late_if_7, range(12), pool=pool, task_timeout=4, retry=RETRY, on_error="return"
        )
    assert outcomes[:7] + outcomes[8:] == [*range(7), *range(8, 12)], outcomes
    assert isinstance(outcomes[7].error, (TaskTimeoutError, WorkerLostError)), outcomes[7]
    counts["results"] += 12


def submitted(counts):
    with Pool(3) as pool:
        futures = [pool.options(retry=RETRY).submit(square, number) for number in range(60)]
        assert [future.result() for future in futures] == list(map(square, range(60)))
    counts["results"] += 60


def produce(channel, counter, first):
    counter.add()
    for number in range(first, first + 200):
        channel.send(number)
    return first


def talking(counts):
    """A killed producer is started again and sends all again: everything comes at least once."""
    channel = Channel[int](16)
    counter = SharedCounter()
    received: set[int] = set()
    again = Restart(max_restarts=10**6)
    with channel.receiver as receiver, WorkerGroup() as group, channel.sender as hold:
        workers = [
            group.start(produce, channel.sender, counter, 1000 * rank, restart=again)
            for rank in range(2)
        ]
        hold.close()
        received.update(receiver)
    assert received >= {*range(200), *range(1000, 1200)}
    assert [worker.result() for worker in workers] == [0, 1000]
    counts["results"] += len(received)


LOADS = {
    "tiny items": tiny,
    "middling items": middling,
    "large results": lazy,
    "late items": late,
    "submitted calls": submitted,
    "groups and channels": talking,
}


def test_every_result_is_accounted_for_and_nothing_is_left(request, capsys, caplog):
    seed = os.environ["PARMAP_TEST_SEED"]
    storm = Storm(seed)
    caplog.set_level("ERROR", logger="parmap")  # it tells of each restart
    with capsys.disabled(), nothing_left_behind(timeout=20):
        sys.stdout.write(f"\nstorm of {SECONDS:.0f} s, PARMAP_TEST_SEED={seed}\n")
        storm.run(LOADS)
        parmap.shutdown()
        if storm.errors:
            raise storm.errors[0]
    counts = storm.counts
    with capsys.disabled():
        for name, count in sorted(counts.items()):
            sys.stdout.write(f"  {name}: {count:,}\n")
        sys.stdout.write("  results lost: 0\n  hangs: 0\n")
    assert counts["kills"] > 0
    assert all(counts[f"rounds: {name}"] for name in LOADS)
