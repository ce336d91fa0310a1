"""parmap in a program that runs on asyncio: `aparallel_map`, `aparallel_imap`.

    results = await aparallel_map(simulate, parameters, max_workers=4)

    async with aparallel_imap(simulate, parameters) as results:
        async for result in results:
            ...

The event loop is never blocked: a thread that lives for as long as somebody awaits does what the
synchronous call would do in the caller's, which includes reading the input.  (An async iterable is
read in the event loop instead, an item at a time.)

Whatever ends the wait, a timeout, a cancelled task, the end of the loop, ends the call as every call of
parmap ends: what is not started is dropped, a worker inside an item is ended, and only then is the
cancellation reported.
"""

from __future__ import annotations

import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, overload

from parmap import mapping
from parmap._async.calls import AsyncCall
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from types import TracebackType
    from typing import TypeAlias, Unpack

    from parmap._calls.stream import ResultIterator
    from parmap._map_options import MapOptions, OnErrorRaises, StreamOptions
    from parmap.errors import TaskFailure
    from parmap.options import OnError

    A = TypeVar("A")
    Items: TypeAlias = Iterable[A] | AsyncIterable[A]

__all__ = ["AsyncResultIterator", "aparallel_imap", "aparallel_map"]

B = TypeVar("B")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


# fmt: off
@overload
async def aparallel_map(
    fn: Callable[[A], R], items: Items[A], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def aparallel_map(
    fn: Callable[[A], R], items: Items[A], /, *,
    on_error: Literal["return"], **options: Unpack[MapOptions],
) -> list[R | TaskFailure]: ...
@overload
async def aparallel_map(
    fn: Callable[..., R], items: Items[Any], more: Items[Any], /, *rest: Items[Any],
    on_error: OnErrorRaises = "raise", **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def aparallel_map(
    fn: Callable[..., R], items: Items[Any], more: Items[Any], /, *rest: Items[Any],
    on_error: Literal["return"], **options: Unpack[MapOptions],
) -> list[R | TaskFailure]: ...
# fmt: on
async def aparallel_map(
    fn: Callable[..., Any],
    items: Items[Any],
    /,
    *more: Items[Any],
    on_error: OnError = "raise",
    **options: Unpack[MapOptions],
) -> list[Any]:
    """`parmap.parallel_map` for asyncio: awaits the list of results, in the order of the items.

    The options, errors and what does not travel are those of `parallel_map`; the context variables
    are those of the awaiting task.  A `progress` callback is called in the event loop, and an
    error of it goes to the loop's exception handler.

    Cancelling (also by `asyncio.wait_for`, `asyncio.timeout` and the end of the loop) ends the call:
    once `CancelledError` is raised here none of its items runs any more, which takes about a second
    if an item ignores SIGTERM.  An input that blocks in ``next`` holds the cancellation up until it
    returns; an async iterable does not.

    Args:
        fn: called once for each item, in a worker.
        items, more: iterables, read in a thread of their own, or async iterables, read in the loop.
        on_error, options: as in `parallel_map`.

    Returns:
        The list of results.

    Raises:
        Exception: as `parallel_map`.

    Example:
        >>> import asyncio
        >>> from parmap.aio import aparallel_map
        >>> asyncio.run(aparallel_map(abs, [-1, 2, -3], max_workers=2))
        [1, 2, 3]
    """
    call = AsyncCall(options)
    inputs = call.inputs((items, *more))
    return await call.wait(lambda: mapping.parallel_map(fn, *inputs, on_error=on_error, **options))


# fmt: off
@overload
def aparallel_imap(
    fn: Callable[[A], R], items: Items[A], /, *,
    on_error: OnErrorRaises = "raise", **options: Unpack[StreamOptions],
) -> AsyncResultIterator[R]: ...
@overload
def aparallel_imap(
    fn: Callable[[A], R], items: Items[A], /, *,
    on_error: Literal["return"], **options: Unpack[StreamOptions],
) -> AsyncResultIterator[R | TaskFailure]: ...
@overload
def aparallel_imap(
    fn: Callable[..., R], items: Items[Any], more: Items[Any], /, *rest: Items[Any],
    on_error: OnErrorRaises = "raise", **options: Unpack[StreamOptions],
) -> AsyncResultIterator[R]: ...
@overload
def aparallel_imap(
    fn: Callable[..., R], items: Items[Any], more: Items[Any], /, *rest: Items[Any],
    on_error: Literal["return"], **options: Unpack[StreamOptions],
) -> AsyncResultIterator[R | TaskFailure]: ...
# fmt: on
def aparallel_imap(
    fn: Callable[..., Any],
    items: Items[Any],
    /,
    *more: Items[Any],
    on_error: OnError = "raise",
    **options: Unpack[StreamOptions],
) -> AsyncResultIterator[Any]:
    """`parmap.parallel_imap` for asyncio: an asynchronous iterator over the results.

    The options and errors are those of `parallel_imap`; wrong ones are told, as everything else, when
    the first result is awaited.  The input is read while a result is awaited, never more than
    `buffersize` items ahead of the results taken.

    Use ``async with`` where the loop over the results may be left early: its end waits until nothing of
    the call runs any more.  An iterator that is dropped ends its call, too, but nobody waits for that.

    Args:
        fn, items, more: as in `aparallel_map`; the input may be endless.
        on_error, options: as in `parallel_imap`.

    Returns:
        An `AsyncResultIterator`.

    Example:
        >>> import asyncio
        >>> from itertools import count
        >>> from parmap.aio import aparallel_imap
        >>> async def first_above(limit):
        ...     async with aparallel_imap(lambda n: n * n, count(), max_workers=2) as squares:
        ...         async for square in squares:
        ...             if square > limit:
        ...                 return square
        >>> asyncio.run(first_above(50))
        64
    """
    return AsyncResultIterator(fn, (items, *more), {**options, "on_error": on_error})


class AsyncResultIterator(Generic[R_co]):
    """The results of `aparallel_imap`: for ``async for``, ``async with``, ``anext`` and `aclose`.

    One task at a time may await the next result.  After an error, a cancelled wait included, the
    iterator is exhausted.  It belongs to the event loop in which it is first awaited.
    """

    def __init__(
        self, fn: Callable[..., Any], inputs: tuple[Items[Any], ...], options: dict[str, Any]
    ) -> None:
        """`aparallel_imap` makes it."""
        self._call = AsyncCall(options)
        self._context = contextvars.copy_context()
        self._arguments = fn, inputs, options
        self._stream: ResultIterator[Any] | None = None
        self._ready: deque[Any] = deque()
        self._over = False
        self._awaited = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R_co:
        if not self._ready and not self._over:
            await self._more()
        if not self._ready:
            raise StopAsyncIteration
        result: R_co = self._ready.popleft()
        return result

    async def aclose(self) -> None:
        """Stop reading and running; returns when what ran is ended (about a second at most)."""
        self._ready.clear()
        self._over = True
        self._call.give_up()
        if self._stream is not None:
            await self._call.wait(self._stream.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise SerializationError("an AsyncResultIterator stays in the process that made it")

    def __del__(self) -> None:
        call = getattr(self, "_call", None)
        if call is not None and not self._over:
            call.give_up()  # never waits

    async def _more(self) -> None:
        if self._awaited:
            raise RuntimeError("another task awaits the next result of this iterator")
        self._awaited = True
        try:
            batch = await self._call.wait(self._take, self._context)
        except BaseException:
            self._over = True
            raise
        finally:
            self._awaited = False
        self._ready.extend(batch)
        self._over |= not batch

    def _take(self) -> list[Any]:
        """The next results, some at a time; none at the end.  In a thread, in which it may block."""
        if self._stream is None:
            fn, inputs, options = self._arguments
            self._stream = mapping.parallel_imap(fn, *self._call.inputs(inputs), **options)
        try:
            return list(next(self._stream._batches))
        except StopIteration:
            return []
        finally:
            if self._call.given_up:
                self._stream.close()
