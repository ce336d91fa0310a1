"""How `multiprocessing`'s own objects, and sockets, get into processes that run already.

`multiprocessing` hands them over to a process only while it starts it.  So each is asked for its
parts as if one were being started, and the descriptors that go with it travel as those of our own
handles do.  What has to be done otherwise, and why, stands beside each kind.

Nothing is imported because of this: whoever has such an object has imported its module.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from parmap._memory.host import close_quietly, passes_descriptors
from parmap._memory.transit import current_sink, export_fd, import_fd
from parmap._wire import kin

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from parmap._memory.transit import Ticket
    from parmap._wire.scopes import Scope

    Way = Callable[[Any, Scope], Any]

_module_of = type.__dict__["__module__"].__get__


def way_of(kind: type) -> Way | None:
    """Return what reduces instances of `kind` for a journey; None for all but a few classes.

    It returns `NotImplemented` for one that travels as it would without us, and raises
    `SerializationError`, or what the object itself raises: it is closed, for one.
    """
    way = _find(kind)
    return None if way is None else partial(_reduce, way)


def _find(kind: type) -> Way | None:
    for base in kind.__mro__:
        ways = _WAYS.get(_module_of(base))
        if ways is not None and (way := ways.get(base.__name__)) is not None:
            return way
    return None


def _reduce(way: Way, obj: Any, scope: Scope) -> Any:
    sink = current_sink()
    if (sink is None or not scope.private) and way is not _connection:
        return NotImplemented  # bytes for a file, or for Dask's network: they must hold no authkey
    reduced = way(obj, scope)
    if sink is not None and reduced is not NotImplemented:
        sink.keep(obj)
    return reduced


class _Passing:
    """Looks like the process that `multiprocessing` is starting, to objects that want to see one."""

    pid = None

    def duplicate_for_child(self, fd: int) -> Ticket:
        return export_fd(fd, "descriptor")

    def DupFd(self, ticket: Ticket) -> Passed:  # noqa: N802 - as multiprocessing calls it
        return Passed(ticket)


class Passed:
    """A descriptor among the parts of an object; `detach` gives it, once, on the other side."""

    __slots__ = ("_ticket",)

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    def detach(self) -> int:
        return import_fd(self._ticket)

    def __reduce__(self) -> tuple[type[Passed], tuple[Ticket]]:
        return Passed, (self._ticket,)


def _as_if_spawning(reduce: Callable[[Any], Any], obj: Any) -> Any:
    context = sys.modules["multiprocessing.context"]
    before = context.get_spawning_popen()
    context.set_spawning_popen(_Passing())  # for this thread
    try:
        return reduce(obj)
    finally:
        context.set_spawning_popen(before)


def _own_reduce(obj: Any) -> Any:
    return obj.__reduce_ex__(5)


# ------------------------------------------------------------------ locks, queues, values


def _lock_or_queue(obj: Any, scope: Scope) -> Any:
    """What has semaphores in it: opened by their names on the other side.

    The tracker hears nothing of that, so that whoever made them removes them, and nobody else.
    """
    name = _name_of(obj)
    if scope.joins:
        _refuse(
            f"a {name} of multiprocessing ends with the process that made it, and is no result:"
            f" make it in the parent and pass it as an argument, or use {_counterpart(name)}"
        )
    if _is_nameless(obj):
        _refuse(
            f"this {name} of multiprocessing was made by a fork context (the default one, on Linux"
            " before Python 3.14), and only processes that are forked afterwards can use it; write"
            f' multiprocessing.get_context("spawn").{name}{_ARGUMENTS.get(name, "()")} instead,'
            f" or {_counterpart(name)}"
        )
    reduced = _as_if_spawning(_own_reduce, obj)
    return (_open_semaphore, (name, *reduced)) if hasattr(obj, "_semlock") else reduced


def _open_semaphore(name: str, new: Any, args: tuple[Any, ...], state: Any, *_: object) -> Any:
    lock = new(*args)
    try:
        lock.__setstate__(state)
    except FileNotFoundError:
        _refuse(
            f"this {name} of multiprocessing was gone when it arrived: its name goes with the object"
            " that was made first, so keep that until then"
        )
    return lock


def _is_nameless(obj: Any) -> bool:
    """Whether a semaphore in it has no name any more: it was removed when it was made."""
    if hasattr(obj, "_semlock"):
        return sys.platform != "win32" and (
            obj._semlock.name is None
            or getattr(obj, "_is_fork_ctx", False)
            or getattr(obj, "is_fork_ctx", False)  # its name in some releases of 3.11 and 3.12
        )
    inside = list(getattr(obj, "__dict__", {}).values())
    return any(_find(type(part)) is _lock_or_queue and _is_nameless(part) for part in inside)


_NAMES = {"SynchronizedArray": "Array", "SynchronizedString": "Array"}
_ARGUMENTS = {"Value": "(...)", "Array": "(...)", "Barrier": "(...)"}
_COUNTERPARTS = {
    "Lock": "parmap.Lock()", "RLock": "parmap.RLock()", "Semaphore": "parmap.Semaphore()",
    "BoundedSemaphore": "parmap.Semaphore()", "Event": "parmap.Event()",
    "Condition": "parmap.Condition()", "Barrier": "parmap.Barrier(...)",
    "Value": "parmap.SharedValue(...)", "Array": "parmap.SharedArray(...)",
}  # fmt: skip


def _name_of(obj: Any) -> str:
    """As the functions are called that make such objects."""
    name: str = next(
        base.__name__
        for base in type(obj).__mro__
        if str(_module_of(base)).startswith("multiprocessing.")
    )
    if name.startswith("Synchronized"):  # the rest is what lies in it
        return _NAMES.get(name, "Value")
    return name


def _counterpart(name: str) -> str:
    return _COUNTERPARTS.get(name, "parmap.Channel()")


def _ctypes_data(obj: Any, scope: Scope) -> Any:
    """A RawValue or RawArray is the same memory there; any other of ctypes' objects is a copy.

    So is a result: the worker is going to use that memory again.
    """
    wrapper = getattr(obj, "__dict__", {}).get("_wrapper")
    if type(wrapper).__name__ != "BufferWrapper":
        return NotImplemented
    length = getattr(obj, "_length_", None)
    if length is None:
        return NotImplemented if scope.joins else (_lay_over, (type(obj), wrapper, None))
    if scope.joins:
        return _copy_array, (obj._type_, list(obj))
    return _lay_over, (obj._type_, wrapper, length)


def _copy_array(kind: Any, elements: list[Any]) -> Any:
    return (kind * len(elements))(*elements)


def _lay_over(kind: Any, wrapper: Any, length: int | None) -> Any:
    from multiprocessing import sharedctypes

    return sharedctypes.rebuild_ctype(kind, wrapper, length)  # type: ignore[attr-defined]


def _arena(arena: Any, scope: Scope) -> Any:
    """The memory that values and arrays lie in."""
    if sys.platform == "win32":
        return NotImplemented  # pragma: no cover - Windows: it has a name there
    return _map_arena, (arena.size, export_fd(arena.fd, "multiprocessing.Value"))


def _map_arena(size: int, ticket: Ticket) -> Any:
    from multiprocessing import heap, util

    fd = import_fd(ticket)
    try:
        arena = heap.Arena(size, fd)
    except BaseException:
        close_quietly(fd)
        raise
    util.Finalize(arena, os.close, (fd,))  # which multiprocessing leaves out
    return arena


# ------------------------------------------------------------------ connections, sockets


def _connection(connection: Any, scope: Scope) -> Any:
    """Not as `pickle` does it: by its number, which is another file's there."""
    if sys.platform == "win32":
        return NotImplemented  # pragma: no cover - Windows: it is no descriptor there
    ticket = export_fd(connection.fileno(), "multiprocessing.Connection")
    return _connect, (type(connection), ticket, connection.readable, connection.writable)


def _connect(kind: Any, ticket: Ticket, readable: bool, writable: bool) -> Any:
    return kind(import_fd(ticket), readable, writable)


def _socket(sock: Any, scope: Scope) -> Any:
    if type(sock) is not sys.modules["socket"].socket or sys.platform == "win32":
        return NotImplemented  # one that encrypts, say, is more than its descriptor
    if sock.fileno() < 0:
        _refuse("this socket is closed")
    kind = int(sock.family), int(sock.type), sock.proto
    return _open_socket, (export_fd(sock.fileno(), "socket"), kind, sock.gettimeout())


def _open_socket(ticket: Ticket, kind: tuple[int, int, int], timeout: float | None) -> Any:
    import socket

    sock = socket.socket(*kind, fileno=import_fd(ticket))
    sock.settimeout(timeout)
    return sock


# ------------------------------------------------------------------ named memory


def _named_memory(memory: Any, scope: Scope) -> Any:
    """SharedMemory and ShareableList: attached to by name, under the eyes of one tracker."""
    make, args = memory.__reduce__()
    if not passes_descriptors():
        return make, args
    block = getattr(memory, "shm", memory)
    if block._buf is None:
        _refuse(f"this {_name_of(memory)} is closed")
    if not getattr(block, "_track", True):
        return _attach_untracked, (make, args)
    tracker = export_fd(kin.running_tracker(), "resource tracker")
    return _attach, (tracker, block._name, make, args)


def _attach(tracker: Ticket, name: str, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return kin.meet_tracker(import_fd(tracker), name, lambda: make(*args))


def _attach_untracked(make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return make(*args, track=False)


# ------------------------------------------------------------------ managers


def _proxy(proxy: Any, scope: Scope) -> Any:
    """With the key of its manager, whoever's that is: it never leaves sockets and memory of ours."""
    make, args = _as_if_spawning(_own_reduce, proxy)
    *others, options = args
    if isinstance(options, dict) and "authkey" in options:
        options["authkey"] = bytes(options["authkey"])
    if not scope.joins:
        return make, (*others, options)
    # Its last proxy here is about to go, and the manager would drop what it stands for.
    _tell_manager(proxy, "incref")
    return _receive_proxy, (make, (*others, options))


def _receive_proxy(make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    proxy = make(*args)
    _tell_manager(proxy, "decref")  # it has its own reference by now
    return proxy


def _tell_manager(proxy: Any, what: str) -> None:
    from multiprocessing import managers

    connection = proxy._Client(proxy._token.address, authkey=proxy._authkey)
    with connection:
        managers.dispatch(connection, None, what, (proxy._token.id,))  # type: ignore[attr-defined]


def _manager(manager: Any, scope: Scope) -> Any:
    """What arrives is connected to the same server, and does not end it."""
    state = manager._state
    if state.value != state.STARTED:
        _refuse("this manager is not running")
    key = bytes(manager._authkey)
    return _connect_manager, (type(manager), manager.address, key, manager._serializer)


def _connect_manager(kind: Any, address: Any, key: bytes, serializer: str) -> Any:
    manager = kind(address=address, authkey=key, serializer=serializer)
    manager.connect()
    return manager


def _refuse(reason: str) -> NoReturn:
    from parmap.errors import SerializationError

    raise SerializationError(reason)


# The classes by module and name; what is derived from them likewise.
_WAYS: dict[Any, dict[str, Way]] = {
    "multiprocessing.synchronize": dict.fromkeys(
        ("SemLock", "Condition", "Event", "Barrier"), _lock_or_queue
    ),
    "multiprocessing.queues": dict.fromkeys(("Queue", "SimpleQueue"), _lock_or_queue),
    "multiprocessing.sharedctypes": {"SynchronizedBase": _lock_or_queue},
    "multiprocessing.heap": {"Arena": _arena},
    "multiprocessing.connection": {"_ConnectionBase": _connection},
    "multiprocessing.shared_memory": dict.fromkeys(
        ("SharedMemory", "ShareableList"), _named_memory
    ),
    "multiprocessing.managers": {"BaseProxy": _proxy, "BaseManager": _manager},
    "_ctypes": dict.fromkeys(("_SimpleCData", "Array", "Structure", "Union"), _ctypes_data),
    "socket": {"socket": _socket},
}
