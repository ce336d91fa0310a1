"""`chaos`: workers that die and dawdle, so that a program's recovery can be tested."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from parmap import options
from parmap._calls import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from parmap._worker.trouble import Orders

_lock = threading.Lock()


def chaos(kill: float = 0.02, delay: float = 0.01, seed: int = 1) -> AbstractContextManager[None]:
    """A block in which parmap's workers are killed and delayed, the same way each time.

    Use it to test what your program does about lost workers: `retry`, `on_error`, `checkpoint`,
    `Restart`.  It concerns every call that this process opens inside the block, from any thread, on
    the shared pool, on a `Pool` of your own and in a `WorkerGroup`; no other process's calls, nothing
    that runs inline, and no foreign Executor.  Outside the block nothing is different, and nothing
    costs anything.

    Each time that an item is run its worker is killed (SIGKILL) with the probability `kill`: half of
    the times before the function runs, half of them after it, when what it did is done but its
    result is not known.  A worker that has finished a chunk may be killed, too, which costs no item.
    Before each item the worker sleeps for up to `delay` seconds; `task_timeout` counts them.  A
    process of a group may be killed at its start, and wherever it sends to a channel or receives
    from one.

    **Reproducible**: calls are numbered in the order in which they are made in the block, and what
    happens to an item depends on the seed, the number of its call, its index and its attempt.  Which
    items are lost, at which attempts, and so the outcome of a call, is the same in each run, whatever
    the number of workers, the chunks and the machine's load.  Not reproducible: which worker it hits,
    the moment, how often workers die that run nothing, and what several threads do that make calls
    at the same time.

    Blocks nest; the inner one counts.  Entering and leaving never blocks.

    Args:
        kill: the probability of each death, from 0 to 1.
        delay: the longest sleep before an item, in seconds.
        seed: chooses the deaths and the delays.

    Raises:
        TypeError, ValueError: an argument is not what it must be.

    Example:
        >>> from parmap import Retry, TaskFailure, parallel_map
        >>> from parmap.testing import chaos
        >>> with chaos(kill=0.3, delay=0, seed=4):
        ...     lost = parallel_map(abs, range(8), max_workers=2, on_error="return")
        ...     kept = parallel_map(abs, range(8), max_workers=2, retry=Retry(10))
        >>> [outcome.index for outcome in lost if isinstance(outcome, TaskFailure)]
        [1]
        >>> kept
        [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if options.check_seconds("kill", kill, unit="") > 1:
        raise ValueError(f"kill is a probability, from 0 to 1, not {kill}")
    pause = options.check_seconds("delay", delay)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, not {type(seed).__name__}")
    return _block(float(kill), pause, seed)


@contextmanager
def _block(kill: float, delay: float, seed: int) -> Iterator[None]:
    calls = itertools.count()

    def orders() -> Orders:
        return kill, delay, seed, next(calls)

    before = _exchange(orders)
    try:
        yield
    finally:
        _exchange(before)


def _exchange(new: Callable[[], Orders] | None) -> Callable[[], Orders] | None:
    with _lock:
        before, surroundings.trouble = surroundings.trouble, new
        return before
