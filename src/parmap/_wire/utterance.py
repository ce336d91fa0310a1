"""What a worker says beside its results: printed text, log records, warnings.

Many processes and threads write into one pipe, with no lock among them: each part of a message is at
most PIPE_BUF bytes, which the kernel writes whole or not at all, whoever is killed or interrupted
meanwhile.  Parts of one message may have others' between them; they have its number in common.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OUT, ERR, LOG, WARNING = range(1, 5)
_KINDS = frozenset({OUT, ERR, LOG, WARNING})
_TEXTS = frozenset({OUT, ERR})
NONE = -1
"""No chunk, or no item."""

# size of this part, kind, whether it is the last; worker, pid, message; chunk, item
_HEAD = struct.Struct("<HBBIIIqq")
_WORD = 0xFFFF_FFFF


class Utterance:
    """One message of a worker, and what it was at."""

    __slots__ = ("chunk", "index", "kind", "payload", "pid", "worker")

    def __init__(
        self, kind: int, payload: bytes, *, worker: int, pid: int, chunk: int, index: int
    ) -> None:
        self.kind = kind
        self.payload = payload
        self.worker = worker
        self.pid = pid
        self.chunk = chunk
        self.index = index


def parts(said: Utterance, number: int, most: int) -> Iterator[bytes]:
    """The message as parts of at most `most` bytes; `number` tells it from others of its process."""
    room = most - _HEAD.size
    payload = said.payload
    for start in range(0, len(payload) or 1, room):
        part = payload[start : start + room]
        is_last = start + room >= len(payload)
        head = _HEAD.pack(
            len(part), said.kind, is_last, said.worker, said.pid & _WORD, number & _WORD,
            said.chunk, said.index,
        )  # fmt: skip
        yield head + part


def joined(said: Iterable[Utterance]) -> list[Utterance]:
    """The same, with the texts joined that a process has printed one after the other in one chunk.

    What each process has said stays in order; no order is known among processes.
    """
    order: list[Utterance] = []
    texts: dict[int, list[bytes]] = {}  # place in `order` -> payloads
    last: dict[int, int] = {}  # pid -> place of the latest
    for each in said:
        place = last.get(each.pid)
        if place in texts and _continues(each, order[place]):
            texts[place].append(each.payload)
            continue
        last[each.pid] = len(order)
        if each.kind in _TEXTS:
            texts[len(order)] = [each.payload]
        order.append(each)
    for place, payloads in texts.items():
        order[place].payload = b"".join(payloads)
    return order


def _continues(said: Utterance, before: Utterance) -> bool:
    return said.kind == before.kind and said.chunk == before.chunk and said.worker == before.worker


class Assembly:
    """Puts messages together again.  Owned by one thread."""

    __slots__ = ("_begun", "_unread")

    def __init__(self) -> None:
        self._unread = b""
        self._begun: dict[tuple[int, int], list[bytes]] = {}  # (pid, number) -> parts

    def feed(self, data: bytes) -> Iterator[Utterance]:
        """Take in what was read, and give the messages that it completes."""
        data, start = self._unread + data, 0
        while start + _HEAD.size <= len(data):
            size, kind, is_last, worker, pid, number, chunk, index = _HEAD.unpack_from(data, start)
            if kind not in _KINDS:  # a task has written to a descriptor that is not its own
                self._unread = b""
                return
            stop = start + _HEAD.size + size
            if stop > len(data):
                break
            part = data[start + _HEAD.size : stop]
            start = stop
            if not is_last:
                self._begun.setdefault((pid, number), []).append(part)
                continue
            payload = b"".join((*self._begun.pop((pid, number), ()), part))
            yield Utterance(kind, payload, worker=worker, pid=pid, chunk=chunk, index=index)
        self._unread = data[start:]
