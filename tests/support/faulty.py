"""Programs with one gross fault each, for `parmap.profile` to find, whatever else the machine does."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from parmap import Pool, parallel_imap, parallel_map, parallel_starmap, shutdown
from parmap.options import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What a worker has at hand when it imports this module: to return it costs nothing but the way.
BIG = [str(number) for number in range(60_000)]


def give_big(_: int) -> list[str]:
    return BIG


def take(big: list[str], _: int = 0) -> int:
    return len(big)


def nap(seconds: float) -> None:
    time.sleep(seconds)


def hash_in_threads(rounds: int) -> None:
    """As a BLAS would: several threads of this worker compute at a time."""
    threads = [threading.Thread(target=_hash, args=[rounds]) for _ in range(2 * usable_cpus() + 2)]
    for thread in threads:
        thread.start()
    _hash(rounds)
    for thread in threads:
        thread.join()


def _hash(rounds: int) -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)


def knows_of_timing(_: int) -> bool:
    return "parmap._worker.timing" in sys.modules


def tiny_tasks() -> None:
    parallel_map(abs, range(600), chunksize=1, max_workers=2)


def big_results() -> None:
    parallel_map(give_big, range(20), max_workers=2)


def big_arguments() -> None:
    parallel_map(take, [BIG[:-1] for _ in range(20)], max_workers=2)


def repeated_argument() -> None:
    parallel_starmap(take, [(BIG, number) for number in range(20)], max_workers=2)


def repeated_function() -> None:
    for _ in range(10):
        parallel_map(partial(take, BIG), range(4), max_workers=2)


def giant_item() -> None:
    parallel_map(nap, [0.001] * 37 + [1.0] + [0.001] * 10, max_workers=2)


def too_few_workers() -> None:
    parallel_map(nap, [0.02] * 25, max_workers=1)


def start_up() -> None:
    with Pool(2, initializer=time.sleep, initargs=(0.7,)) as pool:
        parallel_map(abs, [-1, 1], pool=pool)


def slow_consumer() -> None:
    for _ in parallel_imap(abs, range(20), chunksize=1, buffersize=4, max_workers=2):
        time.sleep(0.03)


def slow_producer() -> None:
    def numbers() -> Iterator[int]:
        for number in range(20):
            time.sleep(0.03)
            yield number

    parallel_map(abs, numbers(), max_workers=2)


def too_many_threads() -> None:
    parallel_map(hash_in_threads, [60_000] * 8, max_workers=2)


def all_good() -> None:
    workers = max(2, usable_cpus())
    parallel_map(nap, [0.05] * (12 * workers), max_workers=workers)


def inline() -> None:
    parallel_map(abs, range(10), max_workers=0)


def nothing_ran() -> None:
    parallel_map(abs, [])


PROGRAMS: dict[str, Callable[[], Any]] = {
    "tiny tasks": tiny_tasks,
    "big results": big_results,
    "big arguments": big_arguments,
    "repeated argument": repeated_argument,
    "repeated function": repeated_function,
    "giant item": giant_item,
    "too few workers": too_few_workers,
    "start-up": start_up,
    "slow consumer": slow_consumer,
    "slow producer": slow_producer,
    "too many threads": too_many_threads,
    "all good": all_good,
    "inline": inline,
    "nothing ran": nothing_ran,
}


def warm_up() -> None:
    """Two workers that have imported this module, so that no start is in the way."""
    shutdown()
    workers = max(2, usable_cpus())
    parallel_map(nap, [0.05] * 2 * workers, max_workers=workers, chunksize=1)
