"""Descriptors on their way between processes, while the object that owns them is pickled.

A pickle is bytes, and a descriptor cannot live in bytes. So the codec puts an `FdSink` in place
while it pickles, and a handle's ``__reduce__`` adds its descriptors there and pickles the tokens
it gets back; on the other side the codec puts an `FdSource` in place, made of the descriptors that
came with the bytes, and the handle claims them by token.

Handles do not talk to sinks themselves: `export_fd` and `import_fd` also know the second road, a
process that plain `multiprocessing` is spawning, and refuse every other pickle with a sentence.

Current sinks and sources are thread-local: two threads may pickle at the same time.
"""

from __future__ import annotations

import sys
from _thread import _local

from parmap._memory.host import close_quietly, duplicate, is_same_file, lift, passes_descriptors

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Protocol

    class Inherited(Protocol):
        """What `multiprocessing.reduction.DupFd` returns: it pickles for one new process."""

        def detach(self) -> int: ...

    Ticket = int | Inherited


class FdSink:
    """Collects descriptors during one pickling. Owns duplicates: the originals may be closed."""

    __slots__ = ("_tokens", "fds", "kept")

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.kept: list[object] = []  # what must live until the pickle is needed no more
        self._tokens: dict[int, int] = {}

    def add(self, fd: int) -> int:
        """Take a duplicate of `fd` along, once; the token claims it on the other side."""
        token = self._tokens.get(fd)
        if token is not None and is_same_file(self.fds[token], fd):
            return token
        # Either new, or the number was closed and given away again since: then it is another file.
        copy = duplicate(fd)
        token = self._tokens[fd] = len(self.fds)
        self.fds.append(copy)
        return token

    def adopt(self, fd: int) -> int:
        """Take `fd` itself along, made for this journey: it belongs to the sink now."""
        self.fds.append(fd)
        return len(self.fds) - 1

    def keep(self, obj: object) -> None:
        """Let `obj` live for as long as the pickle: nothing in that does so itself."""
        self.kept.append(obj)

    def take(self) -> list[int]:
        """Hand the duplicates over: from now on the caller closes them."""
        fds, self.fds = self.fds, []
        self._tokens.clear()
        return fds

    def close(self) -> None:
        """Close what was collected and not taken. May be called twice."""
        for fd in self.take():
            close_quietly(fd)


class FdSource:
    """The descriptors that came with one pickle. Owns them; every claim gets a duplicate.

    A claim cannot simply give its descriptor away: two objects may have pickled the same one, and
    the first may have closed it (a segment that this process has mapped already does) before the
    second asks.
    """

    __slots__ = ("_fds",)

    def __init__(self, fds: Sequence[int]) -> None:
        self._fds = list(fds)

    def claim(self, token: int) -> int:
        """Return a descriptor of the caller's own for the file that was added under `token`."""
        if not 0 <= token < len(self._fds):
            raise LookupError(f"descriptor {token} did not arrive, only {len(self._fds)} came")
        return duplicate(self._fds[token])

    def close_unclaimed(self) -> None:
        """Unpickling is over: close the originals. Afterwards nothing can be claimed."""
        fds, self._fds = self._fds, []
        for fd in fds:
            close_quietly(fd)


class _Current(_local):
    sink: FdSink | None = None
    source: FdSource | None = None


_current = _Current()


def current_sink() -> FdSink | None:
    """Return the sink of the pickling that this thread is in, if any."""
    return _current.sink


def current_source() -> FdSource | None:
    """Return the source of the unpickling that this thread is in, if any."""
    return _current.source


class exporting:  # noqa: N801 - reads as a verb in `with`
    """``with exporting(sink)``: handles pickled by this thread put their descriptors into `sink`.

    Nests: an inner one wins until it ends. None hides an outer sink, for bytes that go elsewhere.
    Does not close the sink.
    """

    __slots__ = ("_before", "_sink")

    def __init__(self, sink: FdSink | None) -> None:
        self._sink = sink

    def __enter__(self) -> FdSink | None:
        self._before = _current.sink
        _current.sink = self._sink
        return self._sink

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _current.sink = self._before


class importing:  # noqa: N801 - reads as a verb in `with`
    """``with importing(source)``: this thread's handles claim from `source`. Nests likewise."""

    __slots__ = ("_before", "_source")

    def __init__(self, source: FdSource | None) -> None:
        self._source = source

    def __enter__(self) -> FdSource | None:
        self._before = _current.source
        _current.source = self._source
        return self._source

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _current.source = self._before


def export_fd(fd: int, what: str, *, give: bool = False) -> Ticket:
    """Return the picklable ticket for a descriptor, for use in ``__reduce__``.

    `give`: the descriptor was made for this journey, and is closed when that is over.

    Raises `SerializationError`, naming the handle as `what`, when this pickle goes where no
    descriptor can follow.
    """
    sink = _current.sink
    if sink is not None:
        if not passes_descriptors():
            from parmap._memory.fdpass import refuse_descriptors

            refuse_descriptors()  # here, where the handle can be named, not where bytes are sent
        return sink.adopt(fd) if give else sink.add(fd)
    popen = _spawning()
    if popen is not None:
        return _lend(popen, fd, give=give)
    if give:
        close_quietly(fd)
    from parmap.errors import SerializationError

    raise SerializationError(
        f"a {what} travels with its memory, not as bytes: it can be an argument, a global or"
        " a result of a parmap call, an item of a parmap channel or container, or an argument of a"
        " multiprocessing.Process; it cannot be pickled into a file, a multiprocessing.Queue or"
        " another library's pool"
    )


def import_fd(ticket: Ticket) -> int:
    """Redeem a ticket: a descriptor that belongs to the caller."""
    if not isinstance(ticket, int):
        return lift(ticket.detach())  # spawned by multiprocessing: already open in this process
    source = _current.source
    if source is None:
        from parmap.errors import SerializationError

        raise SerializationError(
            "this pickle holds a parmap handle, and its memory did not come with it"
        )
    return source.claim(ticket)


def _spawning() -> Any:
    """Return the `multiprocessing` Popen that pickles a process object in this thread, if any."""
    # Looked up, not imported: if nobody imported multiprocessing nobody is spawning with it, and
    # workers stay light.
    context = sys.modules.get("multiprocessing.context")
    return None if context is None else context.get_spawning_popen()


# What gives back descriptors that were lent to a spawning process: as soon as the next is lent after
# it has started, at the latest when its Popen is collected.  Each gives back once.
_lent: list[Any] = []


def _lend(popen: Any, fd: int, *, give: bool) -> Inherited:
    """Let the process being spawned inherit `fd`.

    The spawn method passes the very number on, which the process object keeps open until then; but
    it refuses a number that comes twice (fds_to_keep must be strictly sorted), so every further
    time gets a duplicate.
    """
    from multiprocessing import reduction
    from weakref import finalize

    for loan in list(_lent):
        borrower = loan.peek()
        if borrower is None or getattr(borrower[0], "pid", None) is not None:
            loan()
            _lent.remove(loan)
    if not give and fd in getattr(popen, "_fds", ()):
        fd, give = duplicate(fd), True
    if give:
        _lent.append(finalize(popen, close_quietly, fd))
    ticket: Inherited = reduction.DupFd(fd)
    return ticket
