"""`parallel_map`, `parallel_starmap`, `parallel_imap`: one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from parmap import options
from parmap._calls.deadline import Deadline
from parmap._calls.gather import gather
from parmap._calls.stream import ResultIterator, open_stream
from parmap._core.events import OnFailure
from parmap._limits import NO_LIMITS, check_limits, check_timeout
from parmap._opening import express_call, items_of, open_source
from parmap.observe.progress import ProgressReporter

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from parmap._limits import Retry
    from parmap._map_options import CallOptions, MapOptions, OnErrorRaises, StreamOptions
    from parmap.errors import TaskFailure
    from parmap.observe.progress import Progress

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")


# fmt: off
@overload
def parallel_map(
    fn: Callable[[A], R], items: Iterable[A], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
def parallel_map(
    fn: Callable[[A], R], items: Iterable[A], /, *,
    on_error: Literal["return"], **options: Unpack[MapOptions],
) -> list[R | TaskFailure]: ...
@overload
def parallel_map(
    fn: Callable[[A, B], R], items: Iterable[A], more: Iterable[B], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
def parallel_map(
    fn: Callable[[A, B], R], items: Iterable[A], more: Iterable[B], /, *,
    on_error: Literal["return"], **options: Unpack[MapOptions],
) -> list[R | TaskFailure]: ...
@overload
def parallel_map(
    fn: Callable[..., R], items: Iterable[Any], more: Iterable[Any], more2: Iterable[Any], /,
    *rest: Iterable[Any], on_error: OnErrorRaises = "raise", **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
def parallel_map(
    fn: Callable[..., R], items: Iterable[Any], more: Iterable[Any], more2: Iterable[Any], /,
    *rest: Iterable[Any], on_error: Literal["return"], **options: Unpack[MapOptions],
) -> list[R | TaskFailure]: ...
# fmt: on
def parallel_map(
    fn: Callable[..., Any],
    items: Iterable[Any],
    /,
    *more: Iterable[Any],
    max_workers: int | None = None,
    chunksize: int | None = None,
    task_timeout: float | None = None,
    timeout: float | None = None,
    retry: Retry | int | None = None,
    on_error: options.OnError = "raise",
    progress: bool | str | Callable[[Progress], object] = False,
    strict: bool = False,
    pool: Executor | None = None,
    seed: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> list[Any]:
    """Like ``list(map(fn, items, *more))``, in parallel processes; results in the order of the items.

    It behaves as the loop ``[fn(x) for x in items]`` that it replaces: the same results, and the
    same exception with the same traceback (the worker's own files, lines and functions).  No
    ``__main__`` guard is needed, and `fn` may be a lambda, a closure or a method.

    What does *not* travel: workers see importable modules as imported, not as changed at run time;
    arguments and results are copies; what a worker mutates stays there.

    What an item prints, logs or warns of goes through this process's streams, handlers and filters,
    in the calling thread, and is there before the call returns.

    Blocks until every item has an outcome, or one has failed (see `on_error`).  When it returns or
    raises, none of its items runs on: a worker inside one gets 0.1 s, then SIGTERM, and a second
    later SIGKILL.  Ctrl-C raises `KeyboardInterrupt` within a second.  A generator is read ahead
    only as far as keeps the workers busy, in the calling thread.  May be called from any thread,
    also at the same time.

    Args:
        fn: called once for each item, in a worker.
        items: the first arguments; any iterable, also an endless one that raises at its end.
        *more: further iterables, for the further arguments of `fn`.
        max_workers: the most workers for this call; None: the usable CPUs (affinity and cgroup
            quota respected; ``PARMAP_MAX_WORKERS`` replaces this default); 0: in this process,
            one after the other, nothing pickled.
        chunksize: items per message; None adapts to what they cost, and nobody needs to tune it.
        task_timeout: seconds that one item may run (waiting does not count).  One that takes longer
            fails with `TaskTimeoutError`; its worker and what it has started are ended.
        timeout: seconds for the whole call; then `CallTimeoutError`, whatever `on_error` says.
        retry: a `Retry`, or how often an item that loses its worker is run in all.
        on_error: ``"raise"``: once failures are seen, the one of the lowest index among them is
            raised and the rest is cancelled.  ``"group"``: everything runs, then one
            `TaskErrorGroup` with every failure.  ``"return"``: a `TaskFailure` stands in the place
            of each failed item.
        progress: True or a label for a bar on stderr (only where that is a terminal or a notebook,
            unless ``PARMAP_PROGRESS=1``), or a callback taking a `Progress`, called in the calling
            thread.
        strict: iterables of unequal length raise `ValueError`, as in `zip`; else the shortest one
            ends the map.
        pool: the `Pool` whose workers serve the call (then without `max_workers`).
        seed: an int makes randomness reproducible, item by item, whatever runs them where and in
            what order: `random` and NumPy's global generator are seeded from `seed` and the item's
            index; ``current_task().seed`` is for ``numpy.random.default_rng``.
        checkpoint: the path of a file that keeps each finished item: a call that is run again runs
            only what is missing there.  Changed source or versions warn.  The file stays.

    Returns:
        The list of results; what ``map`` would have given.

    Raises:
        Exception: whatever `fn` raised for an item; it carries a note that names the item.
        TaskErrorGroup: items failed, with ``on_error="group"``.
        WorkerLostError: an item's worker died while it ran the item (killed, crashed, exited).
        TaskTimeoutError: an item ran longer than `task_timeout`.
        CallTimeoutError: the call took longer than `timeout`; its `results` are what there was.
        SerializationError: the function, an argument or a result cannot be pickled.
        WorkerStartError: no worker could be started.
        PoolClosedError: `pool` was shut down.
        ParmapError, OSError: the file of `checkpoint` is in use; or cannot be written.
        TypeError, ValueError: an argument of the call itself is wrong; nothing has run then.

    Example:
        >>> from parmap import parallel_map
        >>> parallel_map(lambda x: x * x, range(5), max_workers=2)
        [0, 1, 4, 9, 16]
    """
    mode, shown = options.check_on_error(on_error), options.check_progress(progress)
    limits = check_limits(task_timeout, retry, seed)
    deadline = Deadline(check_timeout("timeout", timeout))
    usual = chunksize is None and not more and mode == "raise" and shown is False
    if usual and timeout is None and checkpoint is None and limits == NO_LIMITS:
        outcome = express_call(pool, fn, items, max_workers)
        if isinstance(outcome, list):
            return outcome
        if outcome is not None:
            reporter = ProgressReporter(progress=False, total=None)
            return gather(outcome, items, mode, reporter, deadline)
    inputs, star = items_of(items, more, strict=strict)
    source = open_source(
        fn, star=star, max_workers=max_workers, chunksize=chunksize, pool=pool, limits=limits,
        on_failure=OnFailure.STOP if mode == "raise" else OnFailure.CONTINUE, checkpoint=checkpoint,
    )  # fmt: skip
    reporter = ProgressReporter(shown, options.length_of(inputs))
    return gather(source, inputs, mode, reporter, deadline)


# fmt: off
@overload
def parallel_starmap(
    fn: Callable[..., R], argument_tuples: Iterable[Iterable[Any]], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[CallOptions],
) -> list[R]: ...
@overload
def parallel_starmap(
    fn: Callable[..., R], argument_tuples: Iterable[Iterable[Any]], /, *,
    on_error: Literal["return"], **options: Unpack[CallOptions],
) -> list[R | TaskFailure]: ...
# fmt: on
def parallel_starmap(
    fn: Callable[..., Any],
    argument_tuples: Iterable[Iterable[Any]],
    /,
    *,
    max_workers: int | None = None,
    chunksize: int | None = None,
    task_timeout: float | None = None,
    timeout: float | None = None,
    retry: Retry | int | None = None,
    on_error: options.OnError = "raise",
    progress: bool | str | Callable[[Progress], object] = False,
    pool: Executor | None = None,
    seed: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> list[Any]:
    """Like ``[fn(*t) for t in argument_tuples]``, in parallel processes.

    Everything else is as in `parallel_map`.

    Args:
        fn: called once for each tuple, in a worker.
        argument_tuples: the arguments of each call.
        max_workers, chunksize, task_timeout, timeout, retry: as in `parallel_map`.
        on_error, progress, pool, seed, checkpoint: as in `parallel_map`.

    Returns:
        The list of results, in the order of the tuples.

    Raises:
        Exception: as `parallel_map`.

    Example:
        >>> from parmap import parallel_starmap
        >>> parallel_starmap(pow, [(2, 5), (3, 2)], max_workers=2)
        [32, 9]
    """
    mode, shown = options.check_on_error(on_error), options.check_progress(progress)
    limits = check_limits(task_timeout, retry, seed)
    deadline = Deadline(check_timeout("timeout", timeout))
    options.check_iterables([argument_tuples])
    source = open_source(
        fn, star=True, max_workers=max_workers, chunksize=chunksize, pool=pool, limits=limits,
        on_failure=OnFailure.STOP if mode == "raise" else OnFailure.CONTINUE, checkpoint=checkpoint,
    )  # fmt: skip
    reporter = ProgressReporter(shown, options.length_of(argument_tuples))
    return gather(source, argument_tuples, mode, reporter, deadline)


# fmt: off
@overload
def parallel_imap(
    fn: Callable[[A], R], items: Iterable[A], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[StreamOptions],
) -> ResultIterator[R]: ...
@overload
def parallel_imap(
    fn: Callable[[A], R], items: Iterable[A], /, *,
    on_error: Literal["return"], **options: Unpack[StreamOptions],
) -> ResultIterator[R | TaskFailure]: ...
@overload
def parallel_imap(
    fn: Callable[[A, B], R], items: Iterable[A], more: Iterable[B], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[StreamOptions],
) -> ResultIterator[R]: ...
@overload
def parallel_imap(
    fn: Callable[[A, B], R], items: Iterable[A], more: Iterable[B], /, *,
    on_error: Literal["return"], **options: Unpack[StreamOptions],
) -> ResultIterator[R | TaskFailure]: ...
@overload
def parallel_imap(
    fn: Callable[..., R], items: Iterable[Any], more: Iterable[Any], more2: Iterable[Any], /,
    *rest: Iterable[Any], on_error: OnErrorRaises = "raise", **options: Unpack[StreamOptions],
) -> ResultIterator[R]: ...
@overload
def parallel_imap(
    fn: Callable[..., R], items: Iterable[Any], more: Iterable[Any], more2: Iterable[Any], /,
    *rest: Iterable[Any], on_error: Literal["return"], **options: Unpack[StreamOptions],
) -> ResultIterator[R | TaskFailure]: ...
# fmt: on
def parallel_imap(
    fn: Callable[..., Any],
    items: Iterable[Any],
    /,
    *more: Iterable[Any],
    ordered: bool = True,
    buffersize: int | None = None,
    max_workers: int | None = None,
    chunksize: int | None = None,
    task_timeout: float | None = None,
    timeout: float | None = None,
    retry: Retry | int | None = None,
    on_error: options.OnError = "raise",
    progress: bool | str | Callable[[Progress], object] = False,
    strict: bool = False,
    pool: Executor | None = None,
    seed: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> ResultIterator[Any]:
    """Like `parallel_map`, but lazy: an iterator of results, for streams and endless inputs.

    The input is read only in the thread that calls ``next``, and never more than `buffersize`
    items ahead of the results taken.  The first result comes as soon as it exists.  Close the
    iterator (`ResultIterator.close`, or ``with``) to stop early; one that is dropped stops, too.
    While nobody calls ``next`` at most the items ahead are worked on.

    ``next`` blocks until the next result is there.  After an error, and after Ctrl-C, the iterator
    is exhausted.

    Args:
        fn, items, more: as in `parallel_map`; the input may be endless.
        ordered: False gives results as they finish.
        buffersize: the most items between the input and the results taken; None: enough to keep
            every worker busy, bounded in bytes too.
        max_workers, chunksize, task_timeout, retry, progress, strict, pool, seed, checkpoint: as
            in `parallel_map`; ``next`` gives no result that is not stored.
        timeout: seconds from this call on; it strikes only where the next result is not ready.
        on_error: ``"raise"``: an item's failure is raised in its place, after every earlier result
            (``ordered=False``: when it is seen); ``"group"``: after the last result, one
            `TaskErrorGroup` (which holds the results, too); ``"return"``: a `TaskFailure` in place.

    Returns:
        A `ResultIterator`.

    Raises:
        Exception: from ``next``, as `parallel_map`; from this call itself only for wrong arguments
            and a function that cannot be pickled.

    Example:
        >>> from itertools import count, islice
        >>> from parmap import parallel_imap
        >>> with parallel_imap(lambda n: n * n, count(), max_workers=2) as squares:
        ...     list(islice(squares, 4))
        [0, 1, 4, 9]
    """
    mode, shown = options.check_on_error(on_error), options.check_progress(progress)
    limits = check_limits(task_timeout, retry, seed)
    deadline = Deadline(check_timeout("timeout", timeout))
    limit = options.check_buffersize(buffersize)
    inputs, star = items_of(items, more, strict=strict)
    on_failure = OnFailure.CONTINUE
    if mode == "raise":
        on_failure = OnFailure.FINISH_EARLIER if ordered else OnFailure.STOP
    source = open_source(
        fn, star=star, max_workers=max_workers, chunksize=chunksize, pool=pool, limits=limits,
        on_failure=on_failure, checkpoint=checkpoint,
    )  # fmt: skip
    reporter = ProgressReporter(shown, options.length_of(inputs))
    return open_stream(
        source, inputs, ordered=bool(ordered), mode=mode, buffersize=limit, reporter=reporter,
        deadline=deadline,
    )  # fmt: skip
