"""One call that a coroutine awaits and a thread drives; either of the two may end it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from parmap._calls.run import Recorder, RemoteSource, Source
from parmap._opening import wrapping_next_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from parmap._calls.outcomes import Batch

T = TypeVar("T")

# How often a thread that waits for somebody else's engine looks whether it is still to wait.
LOOK_EVERY = 0.1
_END = object()


class AsyncCall:
    """What the two know of each other."""

    def __init__(self, options: Any) -> None:
        """A callback for progress, if there is one among the options, is replaced."""
        self.given_up = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._source: _SharedSource | None = None
        self._pulled: list[_Pulled] = []
        if callable(callback := options.get("progress")):
            options["progress"] = lambda progress: self._in_loop(callback, progress)

    def inputs(self, items: tuple[Any, ...]) -> list[Iterable[Any]]:
        """What can be iterated over in a thread."""
        return [self._pull(each) if isinstance(each, AsyncIterable) else each for each in items]

    def give_up(self) -> None:
        """End the call soon.  Never waits; any thread."""
        with self._lock:
            self.given_up = True
            source = self._source
        if source is not None:
            source.cancel_from_outside()
        for each in self._pulled:
            each.stop()

    async def wait(self, work: Callable[[], T], context: contextvars.Context | None = None) -> T:
        """Do something in a thread that drives the call, and wait for it.

        A cancellation gives the call up and is raised once the thread is done, which then is soon.
        """
        self.loop = asyncio.get_running_loop()
        context = contextvars.copy_context() if context is None else context
        done: asyncio.Future[Outcome[T]] = self.loop.create_future()
        thread = _start(lambda: context.run(self._drive, work), done)
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self.give_up()
            except BaseException:  # the coroutine is thrown away together with its loop
                self.give_up()
                raise
        thread.join()  # it has nothing left to do
        if cancelled is not None:
            raise cancelled
        return done.result().get()

    def _drive(self, work: Callable[[], T]) -> T:
        with wrapping_next_source(self._share):
            return work()

    def _share(self, source: Source) -> Source:
        with self._lock:
            self._source = _SharedSource(source)
            if self.given_up:
                self._source.cancel()
        return self._source

    def _pull(self, items: AsyncIterable[Any]) -> _Pulled:
        pulled = _Pulled(self, aiter(items))
        self._pulled.append(pulled)
        return pulled

    def _in_loop(self, callback: Callable[[Any], object], argument: object) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback, argument)


class Outcome(Generic[T]):
    """What a function returned or raised; an asyncio future would not take a StopIteration."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._error: BaseException | None = None
        try:
            self._value = work()
        except BaseException as error:  # whatever it is, it is raised where it is waited for
            self._error = error

    def get(self) -> T:
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            self._error = None  # its traceback holds this frame


def _start(work: Callable[[], T], done: asyncio.Future[Outcome[T]]) -> threading.Thread:
    loop = done.get_loop()

    def run() -> None:
        outcome = Outcome(work)
        try:
            loop.call_soon_threadsafe(_settle, done, outcome)
        except RuntimeError:
            return  # the loop was closed while we worked: nobody waits

    # A daemon: what it waits for is ended at exit, when nobody awaits it any more.
    thread = threading.Thread(target=run, name="parmap-aio", daemon=True)
    thread.start()
    return thread


def _settle(done: asyncio.Future[Outcome[T]], outcome: Outcome[T]) -> None:
    if not done.done():
        done.set_result(outcome)


class _SharedSource:
    """A source that one thread drives and any other may cancel."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._given_up = False
        # Parmap's own calls can be told from any thread, others only by the one that drives them.
        self._can_be_told = isinstance(source, RemoteSource)
        self.stops = source.stops
        self.takes_all = source.takes_all

    @property
    def record(self) -> Recorder | None:
        return self._source.record

    @property
    def error(self) -> BaseException | None:
        return self._source.error

    @property
    def appetite(self) -> int:
        return self._source.appetite

    @property
    def over(self) -> bool:
        return self._source.over

    def feed_all(self, items: Sequence[object]) -> None:
        with self._lock:
            self._source.feed_all(items)

    def feed(self, items: Sequence[object], skipped: int = 0) -> None:
        with self._lock:
            self._source.feed(items, skipped)

    def end_input(self) -> None:
        with self._lock:
            self._source.end_input()

    def cancel(self, *, hurry: bool = False) -> None:
        with self._lock:
            self._source.cancel(hurry=hurry)

    def abandon(self) -> None:
        with self._lock:
            self._source.abandon()

    def cancel_from_outside(self) -> None:
        self._given_up = True
        if self._can_be_told:
            self.cancel()

    def next_batch(self, timeout: float | None = None) -> Batch | None:
        if self._can_be_told:
            return self._source.next_batch(timeout)
        if self._given_up and not self._source.over:
            self._source.cancel()
        return self._source.next_batch(LOOK_EVERY if timeout is None else min(timeout, LOOK_EVERY))


class _Pulled:
    """An async iterable, read by a thread: an item at a time, in the event loop."""

    def __init__(self, call: AsyncCall, items: AsyncIterator[Any]) -> None:
        self._call = call
        self._items = items
        self._next: Future[Any] | None = None

    def __iter__(self) -> _Pulled:
        return self

    def __next__(self) -> Any:
        loop = self._call.loop
        assert loop is not None
        self._next = asyncio.run_coroutine_threadsafe(self._take(), loop)
        if self._call.given_up:
            self._next.cancel()
        try:
            item = self._next.result()
        except CancelledError:
            raise StopIteration from None  # given up
        if item is _END:
            raise StopIteration
        return item

    def stop(self) -> None:
        """Wait for no more items."""
        if self._next is not None:
            self._next.cancel()

    async def _take(self) -> Any:
        return await anext(self._items, _END)
