"""`current_task` and `in_worker`: what a function can ask about the item that it is called for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from parmap import _nesting


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The item that is being run, as `current_task` tells it.

    Attributes:
        index: the item's place in the input, from 0 on; 0 for a call of `Pool.submit`.
        attempt: which run of the item this is, from 1 on (see `Retry`).
        worker_name: the name of the worker: a process's, or a thread's where the item runs in one.
        pid: the process that runs it.
        seed: with `seed` in the call, an int of 128 bits that belongs to this item alone, for
            ``numpy.random.default_rng(seed)`` and its like; else None.
    """

    index: int
    attempt: int
    worker_name: str
    pid: int
    seed: int | None


def current_task() -> TaskContext | None:
    """The item that this code is run for; None outside of one.

    It works wherever an item runs: in parmap's workers, in this process (``max_workers=0``), and on
    other engines.  An item of a call within an item is told of itself.  A worker runs one item at a
    time, so every thread of it is told of that one; where items run in threads of this process,
    those threads are, and what copies their context (`asyncio.to_thread`).  In the worker of a
    `WorkerGroup`, in initialisers, and while arguments or results are pickled there is none.

    Costs nothing where it is not called, and never blocks.  Thread-safe.

    Example:
        >>> from parmap import current_task, parallel_map
        >>> parallel_map(lambda word: f"{current_task().index}: {word}", ["so", "it", "goes"])
        ['0: so', '1: it', '2: goes']
    """
    runner = _nesting.inner.get()
    if runner is None or runner.pid != os.getpid():
        runner = _nesting.running
    if runner is None or runner.pid != os.getpid():  # a process that an item has forked
        return None
    told = runner.tell()
    if told is None:
        return None
    index, attempt, name, seed = told
    if seed is not None:
        from parmap._worker.seeding import derive

        seed = derive(seed, index).seed
    return TaskContext(index, attempt, name, runner.pid, seed)


def in_worker() -> bool:
    """Whether this process is a worker: one that parmap has started, for a pool or a group.

    Also True for an item that another engine runs in a process of its own.  False in the process
    that makes the calls, in its threads, and in processes that an item starts.

    Example:
        >>> from parmap import in_worker, parallel_map
        >>> in_worker(), parallel_map(lambda _: in_worker(), [1], max_workers=1)
        (False, [True])
    """
    return _nesting.worker is not None and _nesting.worker[1] == os.getpid()
