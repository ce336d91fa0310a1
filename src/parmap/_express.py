"""A short map to a warm worker, without any of the machinery: one message there, one back.

For a handful of tiny items the books cost more than the work.  Where nobody else is served, a worker
is idle that knows the function, and all goes well, nothing of the call would be left in the books
when it is over: so nothing is written into them.  Whatever else happens while the answer is awaited
(another caller, a death, a signal, a failure, items that take longer) makes it an ordinary call
first: the core is told what was sent, and all goes on as if it had commanded it.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from parmap._calls import profiling, surroundings
from parmap._calls.recording import clock
from parmap._calls.references import named
from parmap._calls.remote import RemoteCall
from parmap._calls.run import RemoteSource
from parmap._core import events as ev
from parmap._cpus import share
from parmap._hold import Hold
from parmap._wire import frames as fr
from parmap._wire.blocks import dump_block, load_block
from parmap._wire.frames import Frame
from parmap._wire.pickling import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from parmap._calls.run import Source
    from parmap._driver import Driver
    from parmap._launch.peer import Peer

# More than these are worth the books, and so are larger ones.
MOST_ITEMS = 64
MOST_BYTES = 4096
# So long is waited for an answer before it becomes an ordinary call.
PATIENCE = 0.001
_FLAGS = fr.FLAG_BLOCK | fr.FLAG_MARK | fr.FLAG_FRESH | fr.FLAG_STOP_ON_FAILURE

_scopes = itertools.count(-1, -1)  # no call's number


def express(
    driver: Driver, fn: Callable[..., Any], items: Sequence[Any], cap: int
) -> list[Any] | Source | None:
    """The results; or the call, if it could not be that short; or None, and nothing has happened."""
    function = named(fn) if items else None
    if function is None:
        return None
    block = dump_block(items)
    if block is None or len(block) > MOST_BYTES:
        return None
    began = clock()
    here = surroundings.encoded()
    hold = Hold(driver._crew.interrupt)
    source: RemoteSource | None = None
    hold.begin()
    try:
        if not driver._wheel.take():
            return None
        try:
            ride = _Ride(driver, bytes(function.data), len(items))
            if not ride.leave(here, block, share(min(cap, len(items)))):
                return None
            results = ride.arrive()
            if results is not None:
                driver._scheduler.came_ahead(len(results))
                if profiling.on:
                    ride.tell_profile(fn, cap, len(block), began)
                return results
            call = RemoteCall(
                driver, function, star=False, cap=cap, chunksize=None,
                on_failure=ev.OnFailure.STOP, surroundings=here, codec=Codec("to worker"),
                by_reference=True, known_as=bytes(function.data),
            )  # fmt: skip
            if profiling.on:
                call.record = profiling.begin(fn, "workers", cap)
            ride.become(call, items)
            source = RemoteSource(call)
            return source
        finally:
            driver._leave_wheel(None)
    finally:
        try:
            hold.end()
        except BaseException:  # from the handler of a signal that came meanwhile
            if source is not None:
                source.abandon()
            raise


class _Ride:
    """One chunk there and back.  Only by whoever drives."""

    __slots__ = ("_chunk", "_count", "_driver", "_frames", "_name", "_peer")

    _peer: Peer

    def __init__(self, driver: Driver, name: bytes, count: int) -> None:
        self._driver = driver
        self._name = name
        self._count = count
        self._chunk = 0
        self._frames: list[Frame] = []  # what has come instead of the results

    def leave(self, here: object, block: bytes, cpus: int) -> bool:
        """Send the chunk, if there is a worker that is ready for it."""
        driver = self._driver
        if driver._inbox or driver._commands or driver._calls or driver._closing:
            return False
        key = driver._references.key_of(self._name)
        choice = driver._scheduler.send_ahead(self._name, self._count, now=time.monotonic())
        peer = None if choice is None else driver._crew.members.get(choice[0])
        if choice is None or peer is None or key not in peer.functions:
            return False
        if peer.surroundings is not here or peer.backlog or not peer.open:
            return False
        self._peer, self._chunk = peer, choice[1]
        peer.allow(cpus)
        peer.functions[key] = next(_scopes)
        frame = Frame(
            fr.CHUNK, call=key, chunk=self._chunk, count=self._count, flags=_FLAGS,
            segments=(block,),
        )  # fmt: skip
        driver._crew.send(peer, frame)
        return True

    def arrive(self) -> list[Any] | None:
        """The results, if they are the next thing that happens."""
        if not self._driver._crew.only(self._peer, PATIENCE):
            return None
        self._frames = self._peer.read()
        if len(self._frames) != 1 or not self._peer.open:
            return None
        frame = self._frames[0]
        well = fr.FLAG_LAST | fr.FLAG_BLOCK
        if frame.kind != fr.RESULTS or frame.flags != well or frame.count != self._count:
            return None
        return list(load_block(frame.segments[0]))

    def tell_profile(self, fn: Callable[..., Any], cap: int, nbytes: int, began: int) -> None:
        """All went well; what a profile may know of it."""
        record, (frame,) = profiling.shared(fn, "short", cap), self._frames
        if record is not None:
            peer = self._peer
            record.went(peer.name, peer.pid, self._count, frame.extra, nbytes, began)

    def become(self, call: RemoteCall, items: Sequence[Any]) -> None:
        """An ordinary call, of which all items are on their way."""
        driver = self._driver
        opened = call.adopt(items[:])  # as any list: a callback may change it
        driver.open(call)
        driver._tell(ev.SentAhead(opened, self._peer.number, self._chunk))
        for frame in self._frames:
            driver._heard(self._peer, frame)
