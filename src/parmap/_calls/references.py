"""Functions that stay with the workers from one call to the next.

A function that is nothing but a name (a module's function, class or builtin) is the same for every
call, so a worker keeps it; one that goes by value is rebuilt for each call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parmap._calls.remote import RemoteCall

# More than a program maps in turn; one that makes functions without end must not fill its workers.
MOST_KEPT = 64


class References:
    """Which functions stay.  Owned by whoever drives."""

    __slots__ = ("_keys", "_lessees")

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, int] = OrderedDict()  # pickled name -> key
        self._lessees: dict[int, int] = {}  # key -> the call that uses it

    def lease(self, call: RemoteCall) -> int | None:
        """Give the call the key that its function has had before; returns one that is given up.

        One call at a time: what arrives for two calls must not meet in a worker.  A second one has
        its function sent as if it were new.
        """
        name = bytes(call.function.data)
        key = self._keys.setdefault(name, call.id)
        self._keys.move_to_end(name)
        if key in self._lessees:
            return None
        call.key = key
        self._lessees[key] = call.id
        if len(self._keys) <= MOST_KEPT:
            return None
        oldest, key = self._keys.popitem(last=False)
        if key in self._lessees:
            self._keys[oldest] = key  # in use: as good as new
            return None
        return key

    def give_back(self, call: RemoteCall) -> bool:
        """The call is over.  False: its function was its own, and nobody needs it any more."""
        if self._lessees.get(call.key) != call.id:
            return False
        del self._lessees[call.key]
        return True
