"""One call over workers, seen from both sides: a caller feeds it, a driver serves it."""

from __future__ import annotations

import itertools
from queue import SimpleQueue
from typing import TYPE_CHECKING

from parmap._calls.hearsay import hearsay
from parmap._calls.kept import Kept
from parmap._calls.news import Ended, Lost, Report
from parmap._core import events as ev
from parmap._cpus import share
from parmap._limits import NO_LIMITS, Limits
from parmap._wire import frames as fr
from parmap._wire.apart import Apart
from parmap._wire.frames import Frame
from parmap._wire.payload import pack_values
from parmap._worker.retried import to_send
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from parmap._calls.engine import Engine
    from parmap._calls.hearsay import Deliverable
    from parmap._calls.recording import CallRecord
    from parmap._core.commands import Assign
    from parmap._wire.pickling import Codec, Encoded
    from parmap._wire.variables import Carried

# Of calls, and of functions that stay with workers from one call to the next.
next_number = itertools.count(1).__next__


def has_terms(limits: Limits, carried: Sequence[Carried]) -> bool:
    """Whether a call has more to tell its workers than the function."""
    return limits.retry is not None or limits.seed is not None or bool(carried)


def encode_function(
    codec: Codec, fn: object, what: str, limits: Limits, carried: Sequence[Carried] = ()
) -> Encoded:
    """The function as it travels; with it, in one piece, the call's terms, if it has some.

    One piece, for a class that goes by value must be the same class for both.
    """
    if not has_terms(limits, carried):
        return codec.dumps(fn, what)
    reasons = [] if limits.retry is None else to_send(limits.retry.reasons)
    told = reasons, limits.seed, [Apart(each, codec.scope) for each in carried]
    try:
        return codec.dumps((fn, told), what)
    except SerializationError:
        codec.dumps(fn, what)  # says where in the function it is, if it is there
        raise


class RemoteCall:
    """One call.  The caller's side may be used by one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        function: Encoded,
        *,
        star: bool,
        cap: int,
        chunksize: int | None,
        on_failure: ev.OnFailure,
        surroundings: Encoded,
        codec: Codec,
        by_reference: bool = False,
        known_as: bytes | None = None,
        limits: Limits = NO_LIMITS,
        has_terms: bool = False,
    ) -> None:
        """`by_reference`: nothing but a name, so a worker may keep the function for other calls.
        `known_as`: that name, under which is remembered what items cost, also where it is not kept.
        `has_terms`: with the function, in one piece, comes what else the workers are told."""
        self.id = next_number()
        self.function = function
        self.key = self.id  # under which workers know the function
        self.by_reference = by_reference
        self._known_as = known_as
        self.star = star
        self.cap = cap
        self.chunksize = chunksize
        self.on_failure = on_failure
        self.surroundings = surroundings
        self.codec = codec
        self.limits = limits
        self._has_terms = has_terms
        self.cpus = share(cap)  # for the calls within each of its workers
        # How many unfinished items keep the workers busy; the driver's word.
        self.appetite = 2 * cap
        self.mailbox: SimpleQueue[Report | Lost | Ended | Deliverable] = SimpleQueue()
        self.engine = engine
        self._kept = Kept()  # the items, if they come by and by

    # How each begins; here, where it costs nothing: there is a call for every submitted task.
    is_abandoned = False  # nobody waits for it any more
    _ended = False  # its caller has taken the end from the mailbox
    _told_end = False  # it is there, or was
    _whole: Sequence[object] | None = None
    _lent = 0  # function frames that wait to be sent
    _over = False
    _is_known = _is_open = False  # to the engine; to its core
    _given_up: ev.CallCancelled | None = None
    has_key = False
    record: CallRecord | None = None  # of a profiled call

    # ------------------------------------------------------------------ the caller's side

    def open(self) -> None:
        """Let the engine know of the call, unless it does."""
        if not self._is_open:
            self._open(None)

    def _open(self, items: int | None) -> None:
        self.say(self._opened(items), ring=False)
        if self._given_up is not None:  # by another thread, before the engine's core knew of it
            self.say(self._given_up)

    def say(self, event: ev.Event, *, ring: bool = True) -> None:
        """Let the engine know: of the call itself, first of all.

        Not before: whoever is interrupted until then leaves nothing behind.
        """
        if not self._is_known:
            self.engine.open(self)
            self._is_known = True
        self.engine.post(event, ring=ring)

    def _opened(self, items: int | None) -> ev.CallOpened:
        self._is_open = True
        if items is not None and items < self.cap:
            self.cpus = share(items)
        # A stream begins with one item, whatever is known: its first result is waited for.
        name = self._known_as if items is not None else None
        return ev.CallOpened(
            self.id, self.cap, self.chunksize, self.on_failure, self.limits.task_timeout,
            self.limits.policy(), items, name,
        )  # fmt: skip

    def adopt(self, items: Sequence[object]) -> ev.CallOpened:
        """It was sent before it was opened: what there is to tell the engine's core."""
        self._whole = items
        self._is_known = True
        return self._opened(len(items))

    def feed_all(self, items: Sequence[object]) -> None:
        """Open the call with all items.  The caller does not change the sequence afterwards."""
        if not self._is_open:
            self._whole = items
            self._open(len(items))

    def feed(self, items: Sequence[object], skipped: int = 0) -> None:
        """Give some more items; `skipped`: so many before them are not to be run."""
        self.open()
        self._kept.skip(skipped)
        self._kept.add(items)
        if items:
            self.say(ev.ItemsAdded(self.id, len(items), skipped), ring=False)

    def end_input(self) -> None:
        """No more items will come."""
        self.open()
        self.say(ev.InputEnded(self.id), ring=False)

    def take(
        self, timeout: float | None = None, *, insist: bool = False
    ) -> Report | Lost | Ended | Deliverable | None:
        """The next news of the call; None if there is none within `timeout` seconds.

        After `Ended` nothing comes any more.  Who waits drives the engine, if nobody else does;
        `insist`: its own thread is asked to let this one.
        """
        news = self.engine.wait_for(self.mailbox, timeout, self.id, insist=insist)
        if isinstance(news, Ended):
            self._ended = True
        return news

    @property
    def ended(self) -> bool:
        """Nothing comes any more.  Also where a signal's handler has raised while the end was taken."""
        return self._ended or (self._told_end and self.mailbox.empty())

    def cancel(self, *, hurry: bool = False) -> None:
        """Give the call up: what has not started is dropped, what runs is ended; `Ended` follows.

        Also of a call that is not open: who opens it may have been interrupted, or do so just now.
        """
        self._given_up = ev.CallCancelled(self.id, hurry)
        self.say(self._given_up)

    def item(self, index: int) -> object:
        """The item, for as long as it is not released."""
        return self.items(index, index + 1)[0]

    def release(self, first: int, count: int) -> None:
        """The caller has dealt with these items' outcomes and needs them no more."""
        if self._whole is None:
            self._kept.release(first, count)

    # ------------------------------------------------------------------ the driver's side

    def begin(self) -> bool:
        """Its first chunk is about to be sent; False if it is no longer wanted."""
        return True

    def tell(self, news: Report | Lost | Ended) -> None:
        """Let the caller know."""
        self.mailbox.put(news)
        if isinstance(news, Ended):
            self._told_end = True

    def overhear(self, said: Deliverable) -> bool:
        """Have the caller deliver what was said; False if nobody may come for it."""
        if self.is_abandoned:
            return False
        self.mailbox.put(said)
        return True

    def cancel_waiting(self) -> None:
        """The pool was told to drop what nobody has begun; a map in progress goes on."""

    def function_frame(self) -> Frame:
        """The function, for a worker that does not have it yet."""
        function = self.lend()
        return Frame(
            fr.FUNCTION,
            call=self.key,
            flags=self.function_flags,
            segments=function.segments,
            fds=function.fds,
        )

    @property
    def function_flags(self) -> int:
        return (
            (fr.FLAG_LIMITED if self.limits.task_timeout is not None else 0)
            | (fr.FLAG_TERMS if self._has_terms else 0)
            | self.function.flags
        )

    def lend(self) -> Encoded:
        """The function, for a frame; `give_back` follows."""
        self._lent += 1
        return self.function

    def give_back(self) -> None:
        """A function frame has been sent, or dropped: its descriptors are not needed for it."""
        self._lent -= 1
        self._close_if_done()

    def close(self) -> None:
        """The call is over; nothing more will be sent for it."""
        self._over = True
        if self.is_abandoned:
            hearsay.serve()  # its caller will not deliver what was said
        self._close_if_done()

    is_alone = False  # its function comes in its only chunk
    is_task = False  # it has only one chunk, and its function is nothing but a name

    def chunk_frame(self, command: Assign) -> tuple[Frame, Callable[[], object] | None]:
        """The items of a chunk, encoded, and what is to be done once they are sent or dropped.

        What cannot be encoded travels as an error in its place.
        """
        payload = pack_values(self.items(command.start, command.stop), self.codec, self._what)
        flags = (
            (fr.FLAG_BLOCK if payload.block else 0)
            | (fr.FLAG_UNHURRIED if self._whole is not None else 0)
            | (fr.FLAG_STAR if self.star else 0)
            | (fr.FLAG_MARK if command.marked else 0)
            | (fr.FLAG_STOP_ON_FAILURE if command.stop_on_failure else 0)
        )
        frame = Frame(
            fr.CHUNK,
            call=self.key,
            chunk=command.chunk,
            first=command.start,
            count=command.stop - command.start,
            extra=command.attempt - 1,
            flags=flags,
            segments=payload.segments,
            fds=payload.fds,
        )
        return frame, payload.close

    def _what(self, place: int) -> str:
        return "args" if self.star else "args[0]"

    def arguments_of(self, index: int) -> tuple[object, ...]:
        """Those of one item, for a profile."""
        item = self.item(index)
        return item if self.star and isinstance(item, tuple) else (item,)

    def _close_if_done(self) -> None:
        if self._over and not self._lent:
            self.function.close()

    def items(self, start: int, stop: int) -> Sequence[object]:
        """The items of a chunk."""
        if self._whole is not None:
            return self._whole[start:stop]
        return self._kept.get(start, stop)
