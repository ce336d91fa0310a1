"""Functions that stay with the workers from one call to the next.

A function that is nothing but a name (a module's function, class or builtin) is the same for every
call, so a worker keeps it; one that goes by value is rebuilt for each call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from parmap._calls.remote import next_number
from parmap._wire import frames as fr
from parmap._wire.pickling import Codec, Encoded, is_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._calls.remote import RemoteCall
    from parmap._launch.peer import Peer
    from parmap._wire.frames import Frame

_encoded: dict[tuple[str, str], Encoded] = {}


def named(fn: Callable[..., Any]) -> Encoded | None:
    """A function as it is pickled, if that is nothing but its name; pickled once."""
    if not is_name(fn):
        return None
    key = fn.__module__, fn.__qualname__
    found = _encoded.get(key)
    if found is None:
        found = _encoded[key] = Codec("to worker").dumps(fn, "fn")
    return found


# More than a program maps in turn; one that makes functions without end must not fill its workers.
MOST_KEPT = 64


class References:
    """Which functions stay.  Owned by whoever drives."""

    __slots__ = ("_keys", "_lessees")

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, int] = OrderedDict()  # pickled name -> key
        self._lessees: dict[int, int] = {}  # key -> the call that uses it

    def key_of(self, name: bytes) -> int | None:
        """The key under which workers may have this function."""
        return self._keys.get(name)

    def lend(self, peer: Peer, call: RemoteCall, chunk: Frame) -> int | None:
        """See to it that the worker has the function before it gets this chunk.

        Returns the key of a function that is given up, if there is one.
        """
        evicted = None
        if call.is_task:
            evicted = self._share(call)
        elif call.by_reference and not call.has_key:
            call.has_key = True
            evicted = self.lease(call)
        key = chunk.call = call.key
        last = peer.functions.get(key)
        if last is None:
            peer.post(call.function_frame(), call.give_back)
        elif last != call.id:
            chunk.flags |= fr.FLAG_FRESH
        peer.functions[key] = call.id
        return evicted

    def lease(self, call: RemoteCall) -> int | None:
        """Give the call the key that its function has had before; returns one that is given up.

        One call at a time: what arrives for two calls must not meet in a worker.  A second one has
        its function sent as if it were new.
        """
        key, evicted = self._find(call)
        if key not in self._lessees:
            call.key = key
            self._lessees[key] = call.id
        return evicted

    def _share(self, call: RemoteCall) -> int | None:
        """As `lease`, for a call of one chunk: many such may have one key, for nothing of theirs
        comes twice."""
        key, evicted = self._find(call)
        call.key = call.id if key in self._lessees else key
        return evicted

    def _find(self, call: RemoteCall) -> tuple[int, int | None]:
        """The key of its function, a new one if need be; and one that is given up for it."""
        name = bytes(call.function.data)
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = next_number()
        self._keys.move_to_end(name)
        if len(self._keys) <= MOST_KEPT:
            return key, None
        oldest, old = self._keys.popitem(last=False)
        if old in self._lessees:
            self._keys[oldest] = old  # in use: as good as new
            return key, None
        return key, old

    def give_back(self, call: RemoteCall) -> bool:
        """The call is over.  False: its function was its own, and nobody needs it any more."""
        if self._lessees.get(call.key) == call.id:
            del self._lessees[call.key]
            return True
        return call.key != call.id
