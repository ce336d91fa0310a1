"""Every kind of object that `multiprocessing` shares: how to make, use and look at it.

`use` runs in a worker and `look` in the parent afterwards; what `look` gives tells that both had
the same thing in their hands.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

from support.gates import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext


class Kind:
    """One kind."""

    def __init__(
        self,
        make: Callable[[Any], Any],
        use: Callable[[Any], object],
        look: Callable[[Any], object],
        expected: object,
    ) -> None:
        self.make = make
        self.use = use
        self.look = look
        self.expected = expected


def _use_up(semaphore: Any) -> int:
    taken = 0
    while semaphore.acquire(block=False):
        taken += 1
    return taken


def _hand_back(obj: Any) -> Any:
    obj.put("there") if hasattr(obj, "put") else obj.send("there")


def _take_task(queue: Any) -> None:
    assert queue.get(timeout=PATIENCE) == "task"
    queue.task_done()


def _joinable(ctx: Any) -> Any:
    queue = ctx.JoinableQueue()
    queue.put("task")
    return queue


def _notify(condition: Any) -> None:
    with condition:
        condition.notify()


def _not_by_me(lock: Any) -> str:
    """An RLock that another process holds."""
    return "held" if not lock.acquire(block=False) else "free"


def _add(value: Any) -> None:
    with value.get_lock():
        value.value += 1


def _fill(array: Any) -> None:
    array[1] = 7


def _memory(ctx: Any) -> Any:
    return shared_memory.SharedMemory(create=True, size=16)


def _write(memory: Any) -> None:
    memory.buf[0] = 42
    memory.close()


def _read(memory: Any) -> int:
    return int(memory.buf[0])


def _listed(ctx: Any) -> Any:
    return shared_memory.ShareableList([1, 2.5, "x"])


def _set_text(array: Any) -> None:
    array.value = b"there"


def _set_value(value: Any) -> None:
    value.value = 5


# A lock is taken in the worker and is found taken; a worker that ends does not give it back.
KINDS: dict[str, Kind] = {
    "Queue": Kind(lambda ctx: ctx.Queue(), _hand_back, lambda q: q.get(timeout=PATIENCE), "there"),
    "SimpleQueue": Kind(lambda ctx: ctx.SimpleQueue(), _hand_back, lambda q: q.get(), "there"),
    "JoinableQueue": Kind(_joinable, _take_task, lambda q: q.join(), None),
    "Lock": Kind(
        lambda ctx: ctx.Lock(), lambda k: k.acquire(), lambda k: k.acquire(block=False), False
    ),
    "RLock": Kind(lambda ctx: ctx.RLock(), lambda k: k.acquire(), _not_by_me, "held"),
    "Semaphore": Kind(lambda ctx: ctx.Semaphore(3), _use_up, _use_up, 0),
    "BoundedSemaphore": Kind(lambda ctx: ctx.BoundedSemaphore(2), _use_up, _use_up, 0),
    "Event": Kind(lambda ctx: ctx.Event(), lambda e: e.set(), lambda e: e.is_set(), True),
    "Condition": Kind(
        lambda ctx: ctx.Condition(), lambda c: c.acquire(), lambda c: c.acquire(block=False), False
    ),
    "Barrier": Kind(lambda ctx: ctx.Barrier(2), lambda b: b.abort(), lambda b: b.broken, True),
    "Value": Kind(lambda ctx: ctx.Value("i", 3), _add, lambda v: v.value, 4),
    "Array": Kind(lambda ctx: ctx.Array("d", 3), _fill, list, [0.0, 7.0, 0.0]),
    "Array of bytes": Kind(lambda ctx: ctx.Array("c", 8), _set_text, lambda a: a.value, b"there"),
    "Value without lock": Kind(
        lambda ctx: ctx.Value("i", 3, lock=False), _set_value, lambda v: v.value, 5
    ),
    "RawValue": Kind(lambda ctx: ctx.RawValue("i", 3), _set_value, lambda v: v.value, 5),
    "RawArray": Kind(lambda ctx: ctx.RawArray("i", 3), _fill, list, [0, 7, 0]),
    "SharedMemory": Kind(_memory, _write, _read, 42),
    "ShareableList": Kind(_listed, lambda s: s.__setitem__(0, 9), list, [9, 2.5, "x"]),
}
# Made by any context they travel.
OPEN = {"Value without lock", "RawValue", "RawArray", "SharedMemory", "ShareableList"}
LOCKED = [name for name in KINDS if name not in OPEN]


class Ours:
    """The parent's ends of a pipe and of a pair of sockets, whose other ends travel."""

    def __init__(self, ctx: BaseContext) -> None:
        self.pipe, theirs = ctx.Pipe()
        self.socket, far = socket.socketpair()
        self.theirs: dict[str, Any] = {"Connection": theirs, "socket": far}

    def hear(self) -> dict[str, Any]:
        assert self.pipe.poll(PATIENCE)
        self.socket.settimeout(PATIENCE)
        return {"Connection": self.pipe.recv(), "socket": self.socket.recv(5)}

    def close(self) -> None:
        for end in (self.pipe, self.socket, *self.theirs.values()):
            end.close()


def speak(name: str, end: Any) -> None:
    """Use such an end in a worker."""
    with end:
        end.send("there" if name == "Connection" else b"there")


HEARD = {"Connection": "there", "socket": b"there"}


@contextmanager
def everything(ctx: BaseContext) -> Iterator[tuple[dict[str, Any], Ours]]:
    """Give one of each kind, and our ends of those that have two."""
    with ExitStack() as undo:
        ours = Ours(ctx)
        undo.callback(ours.close)
        objects = {name: kind.make(ctx) for name, kind in KINDS.items()}
        undo.callback(end_all, objects)
        yield {**objects, **ours.theirs}, ours


def end_all(objects: dict[str, Any]) -> None:
    objects["SharedMemory"].close()
    objects["SharedMemory"].unlink()
    objects["ShareableList"].shm.close()
    objects["ShareableList"].shm.unlink()
    for name in ("Queue", "JoinableQueue"):
        objects[name].close()
        objects[name].join_thread()
    objects["SimpleQueue"].close()


def use_each(objects: dict[str, Any]) -> list[str]:
    """In a worker."""
    for name, obj in objects.items():
        if name in HEARD:
            speak(name, obj)
        else:
            KINDS[name].use(obj)
    return list(objects)


def look_at_each(objects: dict[str, Any], ours: Ours) -> dict[str, object]:
    """In the parent, afterwards."""
    seen = {name: KINDS[name].look(obj) for name, obj in objects.items() if name in KINDS}
    return {**seen, **ours.hear()}


EXPECTED = {**{name: kind.expected for name, kind in KINDS.items()}, **HEARD}
