"""A handful of small programs that must work, each with a limit of its own; and what things cost."""

from __future__ import annotations

import os
import signal
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parmap import pool, workers
from parmap.channel import Channel
from parmap.errors import TaskFailure, TaskTimeoutError, WorkerLostError
from parmap.mapping import parallel_map
from parmap.shared.counter import SharedCounter

if TYPE_CHECKING:
    from collections.abc import Callable

# Far above what any of it takes on a crowded machine.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one program."""

    name: str
    error: str | None  # None: it does what it should


def run_checks() -> list[Check]:
    """Run them all, one after the other.  Never raises."""
    return [Check(name, _trouble(run)) for name, run in CHECKS.items()]


def _trouble(run: Callable[[], object]) -> str | None:
    try:
        run()
    except Exception as error:  # whatever it is, it is what was asked for
        return f"{type(error).__name__}: {error}"
    return None


def _expect(truth: bool, otherwise: object) -> None:
    if not truth:
        raise AssertionError(f"it gave {otherwise!r:.200}")


def _map() -> None:
    results = parallel_map(lambda number: number * number, range(1000), timeout=PATIENCE)
    _expect(results == [number * number for number in range(1000)], results)


def _group_and_channel() -> None:
    channel = Channel[int](8)
    with workers.WorkerGroup() as group:
        group.start(_produce, channel.sender, name="doctor")
        received = [channel.receive(PATIENCE) for _ in range(20)]
    _expect(received == list(range(20)), received)


def _produce(sender: Any) -> None:
    with sender:
        for number in range(20):
            sender.send(number, PATIENCE)


def _counter() -> None:
    counter = SharedCounter(0)
    workers.run_workers(_count, 2, counter, timeout=PATIENCE)
    _expect(counter.value == 2000, counter.value)


def _count(rank: int, counter: SharedCounter) -> None:
    for _ in range(1000):
        counter.add()


def _killed_worker() -> None:
    results: list[Any] = parallel_map(
        _die_at_three, range(6), on_error="return", timeout=PATIENCE, max_workers=2
    )
    lost = results.pop(3)
    _expect(isinstance(lost, TaskFailure) and isinstance(lost.error, WorkerLostError), lost)
    _expect(results == [0, 1, 2, 4, 5], results)


def _die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        time.sleep(PATIENCE)  # the signal comes before
    return number


def _timeout() -> None:
    results: list[Any] = parallel_map(
        time.sleep, [0, PATIENCE], task_timeout=0.3, on_error="return", timeout=PATIENCE,
        max_workers=2,
    )  # fmt: skip
    late = results[1]
    _expect(isinstance(late, TaskFailure) and isinstance(late.error, TaskTimeoutError), late)


CHECKS: dict[str, Callable[[], object]] = {
    "a map": _map,
    "a group with a channel": _group_and_channel,
    "a shared counter": _counter,
    "a killed worker": _killed_worker,
    "a timeout": _timeout,
}


# ---------------------------------------------------------------------- what things cost

MEGABYTE = 1_000_000


def measure_costs() -> dict[str, float | None]:
    """Seconds each; None where it could not be measured."""
    found: dict[str, float | None] = {}
    for name, measure in (
        ("first worker", _first_worker), ("further worker", _further_worker),
        ("task, there and back", _task), ("item of a long map", _item),
        ("megabyte, there and back", _megabyte),
    ):  # fmt: skip
        try:
            found[name] = measure()
        except Exception:  # the self-check tells why
            found[name] = None
    return found


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _first_worker() -> float:
    pool.shutdown()
    return _timed(lambda: parallel_map(abs, [-1], max_workers=1, timeout=PATIENCE))


def _further_worker() -> float:
    with pool.Pool(1) as small, pool.Pool(4) as large:
        one = _timed(lambda: parallel_map(time.sleep, [0.0], pool=small, timeout=PATIENCE))
        # Long enough that each of the four has to be started.
        four = _timed(lambda: parallel_map(time.sleep, [0.1] * 4, pool=large, timeout=PATIENCE))
    return max(0.0, four - 0.1 - one) / 3


def _task() -> float:
    parallel_map(abs, range(100), max_workers=1, timeout=PATIENCE)
    return statistics.median(
        _timed(lambda: parallel_map(abs, [-1], max_workers=1)) for _ in range(200)
    )


def _item() -> float:
    return _timed(lambda: parallel_map(abs, range(100_000), timeout=PATIENCE)) / 100_000


def _megabyte() -> float:
    items = [bytes([number]) * MEGABYTE for number in range(8)]
    return statistics.median(
        _timed(lambda: parallel_map(bytes.upper, items, max_workers=1, timeout=PATIENCE)) / 8
        for _ in range(3)
    )
