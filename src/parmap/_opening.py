"""What the three map functions do with their arguments, in common: check them, and open the call."""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from parmap import options
from parmap._calls import profiling, surroundings
from parmap._calls.inline import InlinePool, InlineSource
from parmap._calls.recording import THIS_PROCESS, clock
from parmap._calls.run import RemoteSource
from parmap._express import MOST_ITEMS, express
from parmap._pool_view import PoolView
from parmap._wire.variables import carried
from parmap.pool import Pool, _shared, open_call

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from parmap._calls.recording import CallRecord
    from parmap._calls.run import Source
    from parmap._core.events import OnFailure
    from parmap._limits import Limits

# Inputs that are short if their length is, and can be read again.
_WHOLE = {list, tuple, range}


def items_of(
    items: Iterable[Any], more: Sequence[Iterable[Any]], *, strict: bool
) -> tuple[Iterable[Any], bool]:
    """The items of the call, and whether each is a tuple of arguments."""
    options.check_iterables((items, *more))
    if not more:
        return items, False
    lengths = [options.length_of(each) for each in (items, *more)]
    if strict and None not in lengths and len(set(lengths)) > 1:
        raise ValueError(f"strict=True, and the iterables have different lengths: {lengths}")
    return zip(items, *more, strict=bool(strict)), True


class _Thread(threading.local):
    wrap: Callable[[Source], Source] | None = None


_this_thread = _Thread()


@contextmanager
def wrapping_next_source(wrap: Callable[[Source], Source]) -> Iterator[None]:
    """The next call that this thread opens is driven through what `wrap` makes of it."""
    _this_thread.wrap = wrap
    try:
        yield
    finally:
        _this_thread.wrap = None


def open_source(fn: Callable[..., Any], **how: Any) -> Source:
    """Open a call; `_open` says with what."""
    wrap, _this_thread.wrap = _this_thread.wrap, None
    source = _open(fn, **how)
    return source if wrap is None else wrap(source)


def _open(
    fn: Callable[..., Any],
    *,
    star: bool,
    max_workers: int | None,
    chunksize: int | None,
    pool: Executor | None,
    limits: Limits,
    on_failure: OnFailure,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Source:
    """Check the options that the three functions share, and open the call."""
    options.check_callable(fn)
    path = options.check_checkpoint(checkpoint)
    if path is not None:
        from parmap._checkpoint.source import CheckpointedSource  # most programs need none
        from parmap._checkpoint.store import Store

        store = Store(path, fn, limits.seed)
        try:
            engine = open_source(
                fn, star=star, max_workers=max_workers, chunksize=chunksize, pool=pool,
                limits=limits, on_failure=on_failure,
            )  # fmt: skip
        except BaseException:
            store.close()
            raise
        return CheckpointedSource(engine, store, star=star)
    size = options.check_chunksize(chunksize)
    if isinstance(pool, PoolView):
        pool._check_open()
        limits = limits.over(pool.limits)
        pool = pool.pool
    if pool is not None:
        if not isinstance(pool, Executor):
            raise TypeError(
                "pool must be a parmap.Pool, another concurrent.futures.Executor or None,"
                f" not {type(pool).__name__}"
            )
        if max_workers is not None:
            raise TypeError("give either pool or max_workers: the pool has its own number")
        if isinstance(pool, InlinePool):
            pool._check_open()
            here = _record(fn, THIS_PROCESS, 1)
            return InlineSource(fn, star=star, on_failure=on_failure, limits=limits, record=here)
        if not isinstance(pool, Pool):
            from parmap._foreign.source import ForeignSource, workers_of  # most programs need none

            return ForeignSource(
                pool, fn, star=star, chunksize=size, on_failure=on_failure, limits=limits,
                record=_record(fn, type(pool).__name__, workers_of(pool)),
            )  # fmt: skip
        cap = pool.max_workers
    else:
        cap = options.check_cap(max_workers, apart=limits.task_timeout is not None)
    if cap == 0:
        here = _record(fn, THIS_PROCESS, 1)
        return InlineSource(fn, star=star, on_failure=on_failure, limits=limits, record=here)
    record, began = _record(fn, "workers", cap), clock()
    source = open_call(
        pool, fn, star=star, cap=cap, chunksize=size, on_failure=on_failure, limits=limits
    )
    if record is not None and isinstance(source, RemoteSource | InlineSource):
        record.did("pickling", began)  # of the function
        source.watch(record)
    return source


def _record(fn: Callable[..., Any], kind: str, cap: int) -> CallRecord | None:
    return profiling.begin(fn, kind, cap) if profiling.on else None


def express_call(
    pool: object, fn: Callable[..., Any], items: object, max_workers: object
) -> list[Any] | Source | None:
    """A short call with the usual options: its results; or the call, if it is none after all.

    None: open one.  That is also where wrong arguments are found out.
    """
    if _this_thread.wrap is not None:
        return None
    if surroundings.trouble is not None:
        return None  # what it has ordered goes with the call's surroundings
    if type(items) not in _WHOLE or len(items) > MOST_ITEMS or not callable(fn):  # type: ignore[arg-type]
        return None
    if pool is None and (max_workers is None or (type(max_workers) is int and max_workers > 0)):
        driver, cap = _shared.existing(), options.check_cap(max_workers, apart=False)
    elif isinstance(pool, Pool) and max_workers is None:
        driver, cap = pool._driver, pool.max_workers
    else:
        return None
    if driver is None or not cap or driver.is_serving:
        return None
    if carried():  # the worker is to be told of them
        return None
    return express(driver, fn, items, cap)  # type: ignore[arg-type]
