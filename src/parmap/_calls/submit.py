"""`Pool.submit`: a call of one item, whose outcome goes into a Future."""

from __future__ import annotations

import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from parmap._calls import profiling, surroundings
from parmap._calls.futures import CallFuture
from parmap._calls.hearsay import hearsay
from parmap._calls.news import Ended, Lost, Report
from parmap._calls.outcomes import Failed, Reader
from parmap._calls.recording import clock
from parmap._calls.references import named
from parmap._calls.remote import RemoteCall, encode_function, has_terms
from parmap._core import events as ev
from parmap._core.events import OnFailure
from parmap._limits import NO_LIMITS, Limits
from parmap._wire import frames as fr
from parmap._wire.blocks import dump_block
from parmap._wire.frames import Frame
from parmap._wire.pickling import Codec
from parmap._wire.variables import carried
from parmap._worker.bound import Bound
from parmap.errors import PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._calls.engine import Away, Engine
    from parmap._calls.hearsay import Deliverable
    from parmap._core.commands import Assign


def submit(
    engine: Engine,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    limits: Limits = NO_LIMITS,
) -> Future[Any]:
    """Send ``fn(*args, **kwargs)`` to a worker of this engine."""
    future: PoolFuture = PoolFuture()
    if engine.packing:
        _run_here(future, Bound(fn, args, kwargs))
        return future
    engine.check_open()
    codec = Codec("to worker")
    record = profiling.shared(fn, "submit", 0) if profiling.on else None
    began = clock()
    call = SubmittedCall(future, engine, codec, fn, args, kwargs, limits)
    if record is not None:
        record.did("pickling", began)
        call.record, call.arguments = record, (*args, *kwargs.values())
    try:
        if record is not None or limits is not NO_LIMITS or not engine.send_alone(call):
            call.feed_all([()])
            engine.nudge()
    except BaseException:  # interrupted: nobody has its future
        future.cancel()
        raise
    return future


def _run_here(future: Future[Any], bound: Bound) -> None:
    """From within the pickling of items, waiting for a worker would be waiting for ever."""
    future.set_running_or_notify_cancel()
    try:
        future.set_result(bound())
    except BaseException as error:  # whatever it is, it is the call's
        future.set_exception(error)


class PoolFuture(CallFuture[Any]):
    """A Future whose cancellation reaches the pool.

    While its task is away, nobody drives: `result` and `exception` do so themselves, and whoever
    wants to know of the result in another way has it looked after.
    """

    call: SubmittedCall | None = None

    def __init__(self) -> None:
        super().__init__()
        self._waiters: list[Any] = _Waiters(self)

    def done(self) -> bool:
        """Whether it has ended, or was cancelled."""
        return super().done() or self.look_after()

    def running(self) -> bool:
        """Whether it was sent to a worker and has not ended."""
        return super().running() and not self.look_after()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn(future)`` once it has ended."""
        super().add_done_callback(fn)
        self.look_after()

    def look_after(self) -> Literal[False]:
        """Have its result received by somebody else than whoever asks."""
        if (call := self.call) is not None and (away := call.away) is not None:
            away.hand_over()
        return False

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the call to end and return its error, or None."""
        call, end = self.call, None if timeout is None else time.monotonic() + timeout
        if call is not None and call.away is not None:
            call.away.await_result(timeout)
            call.away = None
        while call is not None and not self.done() and call.engine.drive_until(self.done, timeout):
            if end is not None and (timeout := end - time.monotonic()) <= 0:
                timeout = 0
                break
        error = super().exception(timeout)
        # What it has printed is to be seen.  In the thread that drives, which runs the callbacks,
        # nobody's handlers must run: others may hold their locks and wait for that thread.
        if hearsay and call is not None and not call.engine.drives_here:
            hearsay.deliver()
        return error

    def cancel(self) -> bool:
        """Cancel the call if it has not been sent to a worker yet."""
        cancelled = super().cancel()
        if cancelled and self.call is not None:
            self.call.cancel()
        return cancelled


class _Waiters(list[Any]):
    """Where `concurrent.futures.wait` and `as_completed` leave word for what they wait for."""

    def __init__(self, future: PoolFuture) -> None:
        super().__init__()
        self._future = weakref.ref(future)

    def append(self, waiter: Any) -> None:
        """Somebody waits."""
        super().append(waiter)
        if (future := self._future()) is not None:
            future.look_after()


def kill(engine: Engine, future: Future[Any]) -> bool:
    """End the running task of this future, if it is one of this engine's; whether it was running."""
    given: object = future
    if not isinstance(given, Future):
        raise TypeError(
            "kill takes the future that submit returned (asyncio has wrapped it in one of its own),"
            f" not {type(given).__name__}"
        )
    if not isinstance(future, PoolFuture):
        raise ValueError("this future belongs to another executor: ask that one")  # noqa: TRY004 - as for another pool
    call = future.call
    if call is None or not future.running():
        return False
    if call.engine is not engine:
        raise ValueError("this future belongs to another pool: ask that one to kill it")
    engine.post(ev.TaskKilled(call.id))
    return True


class SubmittedCall(RemoteCall):
    """A call whose news settles a Future, in the driver's thread."""

    def __init__(
        self,
        future: PoolFuture,
        engine: Engine,
        codec: Codec,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits,
    ) -> None:
        """Function and arguments are pickled now: what becomes of them afterwards does not matter."""
        variables = carried()
        terms = has_terms(limits, variables)
        plain = limits is NO_LIMITS and not (kwargs or terms or profiling.on)
        function = named(fn) if plain else None
        self._arguments = None if function is None else dump_block([args])
        if function is None or self._arguments is None:
            function = encode_function(codec, Bound(fn, args, kwargs), "", limits, variables)
        else:
            self.is_alone, self.is_task = False, True
        super().__init__(
            engine,
            function,
            star=True,
            cap=1,
            chunksize=1,
            on_failure=OnFailure.CONTINUE,
            surroundings=surroundings.of_call(),
            codec=codec,
            limits=limits,
            has_terms=terms,
        )
        self._future = future
        future.call = self
        shown = args[0] if len(args) == 1 and not kwargs else args
        self._reader = Reader(codec, lambda index: shown)

    is_alone = True
    away: Away | None = None  # it may not be in the books
    arguments: tuple[object, ...] = ()  # of a profiled call

    def arguments_of(self, index: int) -> tuple[object, ...]:
        """As of an item."""
        return self.arguments

    def chunk_frame(self, command: Assign) -> tuple[Frame, Callable[[], object] | None]:
        """The call with its arguments, as it was when it was submitted."""
        return self.frame(command.chunk, command.attempt)

    def frame(self, chunk: int, attempt: int = 1) -> tuple[Frame, Callable[[], object] | None]:
        """As `chunk_frame`, also for a chunk that nobody has commanded."""
        if self._arguments is None:
            function, done = self.lend(), self.give_back
            segments, fds, flags = function.segments, function.fds, self.function_flags
        else:
            segments, fds, flags = [self._arguments], [], fr.FLAG_BLOCK | fr.FLAG_STAR
            done = None
        frame = Frame(
            fr.CHUNK,
            call=self.id,
            chunk=chunk,
            count=1,
            extra=attempt - 1,
            flags=flags | fr.FLAG_ALONE | fr.FLAG_MARK,
            segments=segments,
            fds=fds,
        )
        return frame, done

    def is_small(self, nbytes: int) -> bool:
        """Whether all that it sends is no more than that."""
        if self._arguments is not None:
            return len(self._arguments) <= nbytes
        function = self.function
        return not (function.fds or function.buffers) and len(function.data) <= nbytes

    def begin(self) -> bool:
        """It is about to be sent; False if it was cancelled."""
        if self._future.running():
            return True  # sent for the second time: its first worker died
        return self._future.set_running_or_notify_cancel()

    def overhear(self, said: Deliverable) -> bool:
        """Nobody may ever ask for the result; who does looks after it, too."""
        return False

    def cancel_waiting(self) -> None:
        """Cancel it, unless it has been sent."""
        self._future.cancel()

    def tell(self, news: Report | Lost | Ended) -> None:
        """Settle the future."""
        future = self._future
        if isinstance(news, Ended):
            future.call = None
            if not future.done() and self.begin():
                future.set_exception(news.error or PoolClosedError("the call was given up"))
            return
        began = clock()
        batch = self._reader.read(news) if isinstance(news, Report) else self._reader.lost(news)
        if self.record is not None:
            self.record.did("unpickling", began)
            self.record.goes_on()
        (outcome,) = batch.outcomes
        if type(outcome) is Failed:
            future.set_exception(outcome.failure.error)
        else:
            future.set_result(outcome)
