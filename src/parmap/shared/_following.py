"""A container as one process has it: a plain copy, which follows the log in shared memory.

Values are kept as *forms*, which are also what the log holds, so that a snapshot is one `marshal`
of the copy:

* a number, a short text, None: itself
* everything else: a tuple.  ``(value,)`` a flat tuple or frozenset, which nobody can change;
  ``(record,)`` bytes of `parmap._wire.messages`, rebuilt for each reader; of five numbers: a parcel,
  a large value that stays in shared memory, or one with handles, whose descriptors are in the
  keeper.  ``(None, value)`` is one that a reader has opened already; it is never kept.

**Locks.**  Changing needs the mutex, which excludes everybody; then `local`, which keeps threads of
this process from following at the same time.  Never the other way round.  Reading waits for nobody,
except on machines that do not keep loads in order, or for handles.

**Half-applied steps.**  While a step is applied `seen` is STALE, so that whatever interrupts it (an
exception, a fork in another thread) makes the next one follow from the snapshot on.
"""

from __future__ import annotations

from _thread import RLock
from marshal import loads

from parmap._memory.log import END, KEEPS_ORDER, PREFIX, STALE, Log
from parmap._wire.messages import Messages

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from parmap._memory.keeper import Keeper

    R = TypeVar("R")
    Form = Any

LIMIT = 1 << 15  # what encodes to more stays in shared memory, once for all processes
TRIES = 4


class Copy:
    """What this process has seen, for those who must be fast."""

    __slots__ = ("data", "running", "seen", "words")

    def __init__(self, words: memoryview[int], data: Any) -> None:
        self.words = words
        self.data = data
        self.seen = STALE  # up to this position
        self.running = 0  # the thread that is in a function of `update_item`


class Following:
    """The part of a `Replica` that keeps the copy up to date, and what all of it stands on."""

    __slots__ = (
        "__weakref__", "_busy", "_fast_put", "_gone", "_keeper", "_pending", "_showing", "copy",
        "forks", "local", "log", "messages", "mutex", "words",
    )  # fmt: skip

    def __init__(self, log: Log, keeper: Keeper | None) -> None:
        """Internal: there is only one for a segment."""
        self.log = log
        self.words, self.mutex = log.words, log.mutex
        self._keeper = keeper
        self.messages = Messages(LIMIT)
        self.copy = Copy(log.words, self.new())
        self.local = RLock()
        self._busy = False  # in the middle of a step
        self._gone: list[Form] = []  # parcels that the last steps have dropped
        self._pending: list[Form] = []  # parcels that are in no step yet
        self._showing: set[int] = set()  # threads that are in `show`
        self._fast_put: Callable[[Any, Form], bool] | None = None
        self.forks = 0

    def new(self) -> Any:
        """Return an empty copy."""
        raise NotImplementedError

    def take(self, data: Any, step: tuple[Any, ...]) -> None:
        """Apply one step to a copy."""
        raise NotImplementedError

    def snapshot(self) -> tuple[Any, ...]:
        """Return the one step that gives what `data` is."""
        raise NotImplementedError

    def forms(self) -> list[Form]:
        """Return the values of `data`, in a list of the caller's own."""
        raise NotImplementedError

    def catch_up(self) -> None:
        """Take every step that was published before now."""
        if KEEPS_ORDER or self.mutex.held:
            for _ in range(TRIES):
                if self._follow():
                    return
        with self.mutex:
            self._follow()

    def _follow(self) -> bool:
        with self.local:
            if self._busy:
                raise RuntimeError(
                    "this thread is in the middle of an operation on this container: a finaliser"
                    " or a signal handler cannot use it now"
                )
            news = self.log.since(self.copy.seen)
            if news is None:
                return False
            steps, whole, end = news
            if end != self.copy.seen:
                self._replay(steps, whole, end)
        return True

    def _replay(self, steps: bytes, whole: bool, end: int) -> None:
        self._busy, self.copy.seen = True, STALE
        try:
            data = self.copy.data
            if whole:  # another thread may be reading the copy that there is
                data = self.new()
                self.log.large.clear()
            at = 0
            while at < len(steps):
                first = at + PREFIX
                at = first + int.from_bytes(steps[at:first], "little")
                self.take(data, loads(steps[first:at]))  # noqa: S302 - from the same user
            self._gone.clear()
            self.copy.data, self.copy.seen = data, end
        finally:
            self._busy = False

    def look(self, place: Any) -> Form:
        """Return the form that stands now at an index or under a key."""
        if self.words[END] != self.copy.seen:
            self.catch_up()
        return self.copy.data[place]

    def at_one_moment(self, pick: Callable[[], R]) -> tuple[R, int]:
        """Return what `pick` takes from `data` while no step is applied, and the position."""
        while True:
            if self.words[END] != self.copy.seen:
                self.catch_up()
            with self.local:
                if self.copy.seen != STALE:
                    return pick(), self.copy.seen

    def locked(self, act: Callable[..., R], *arguments: Any) -> R:
        """Return ``act(*arguments)`` while nobody changes anything."""
        if self.mutex.held:
            return act(*arguments)
        with self.mutex:
            return act(*arguments)

    def renew(self) -> None:
        """In a forked child: no other thread is here."""
        self.local = RLock()
        if self._busy or self._pending:
            self.copy.seen = STALE
        self._busy, self.copy.running = False, 0
        self._fast_put = None
        self._pending, self._gone = [], []
        self.forks += 1
