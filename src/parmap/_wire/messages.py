"""Items of a channel or container to bytes and back, so that ANY process that has it can read them.

* Plain values (numbers, text, bytes, and flat collections of them): `marshal`, a tenth of the cost
  of a pickle.  Exact types only: it would take a bytearray for bytes.
* All else: parmap's pickling.  Functions and classes go by value where they must, whole in each
  message, since a receiver may have seen none before; an object of a class of ``__main__`` finds
  that very class again in the process it came from, and one class per process elsewhere.
* Large buffers (arrays) stay beside the pickle and are copied straight into shared memory.

What is small is one bytes object, the record; the rest is a `Parcel`.
"""

from __future__ import annotations

import marshal
from _pickle import loads
from array import array

from parmap._memory.fdpass import MAX_FDS
from parmap._memory.transit import FdSink, FdSource, exporting, importing
from parmap._wire.pickling import Buffers, Codec, NeedsByValueError, dump_by_value, dump_fast
from parmap._wire.scopes import Loading

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence
    from typing import Any

    from parmap._wire.frames import Buffer

ATOMS = frozenset({int, float, str, bytes, bool, type(None), complex})
# Those that are not copied for nothing when they turn out to be large.
SMALL = ATOMS - {bytes, str}
_FLAT = frozenset({tuple, list, set, frozenset})

# The first byte of a record that is a pickle.  Marshal begins with a printable character (and
# perhaps 0x80 added).
PICKLE = 0x80

# Forms of a parcel.
AS_BYTES, AS_BYTEARRAY, AS_MARSHAL, AS_PICKLE = range(4)

# Buffers in a block begin at multiples of this, as arrays like it.
_ALIGN = 64


class Parcel:
    """A message that is large, or that has descriptors.  Owns those."""

    __slots__ = ("fds", "form", "nbytes", "segments", "sent")

    def __init__(self, form: int, segments: Sequence[Buffer], fds: Sequence[int] = ()) -> None:
        self.form = form
        self.sent = False
        self.fds = fds
        if form != AS_PICKLE:  # one object, as it is
            self.segments = segments
            self.nbytes = len(segments[0])
            return
        sizes = [memoryview(segment).nbytes for segment in segments]
        table = array("q", [len(sizes), *sizes]).tobytes()
        self.segments = [table, *segments]
        self.nbytes = _padded(len(table)) + sum([_padded(size) for size in sizes[:-1]]) + sizes[-1]

    def write(self, memory: mmap.mmap, at: int) -> None:
        """Copy the segments of a pickle into its block."""
        with memoryview(memory) as target:
            for segment in self.segments:
                size = memoryview(segment).nbytes
                target[at : at + size] = segment
                at += _padded(size)

    def close(self) -> None:
        """The message is sent, or given up: its descriptors are not needed here any more."""
        if self.fds:
            FdSource(self.fds).close_unclaimed()
            self.fds = ()


def _padded(size: int) -> int:
    return (size + _ALIGN - 1) // _ALIGN * _ALIGN


class Messages:
    """Encodes and decodes for one channel or container in one process.  Thread-safe."""

    __slots__ = ("_codec", "_limit")

    def __init__(self, limit: int) -> None:
        """`limit`: the most bytes of a record."""
        self._limit = limit
        # One that does not join: every message is whole.  Kept with the channel, so that messages
        # of one class are of one class here.
        self._codec = Codec("to worker")

    def encode(self, item: object) -> bytes | Parcel:
        """Return the record of a small item, else a parcel.  Raises `SerializationError`."""
        kind = type(item)
        if kind in ATOMS or (kind in _FLAT and ATOMS.issuperset(map(type, item))):  # type: ignore[call-overload]  # it is one of _FLAT
            if kind is bytes and len(item) >= self._limit - 5:  # type: ignore[arg-type]
                return Parcel(AS_BYTES, (item,))  # type: ignore[arg-type]
            data = marshal.dumps(item)  # type: ignore[arg-type]
            return data if len(data) <= self._limit else Parcel(AS_MARSHAL, [data])
        if kind is bytearray:
            return Parcel(AS_BYTEARRAY, [item])  # type: ignore[list-item]
        return self._pickle(item)

    def _pickle(self, item: object) -> bytes | Parcel:
        sink = FdSink()
        try:
            if type(item) is memoryview:  # cloudpickle would send it, and bytes would arrive
                raise TypeError(
                    "cannot pickle 'memoryview' object; send bytes(...) or an array of it"
                )
            with exporting(sink):
                data, buffers = self._dump(item, sink)
            if len(sink.fds) > MAX_FDS:
                raise ValueError(
                    f"one message can carry {MAX_FDS} descriptors, not {len(sink.fds)}"
                )
        except BaseException as error:
            sink.close()
            if isinstance(error, KeyboardInterrupt):
                raise
            refusal = self._codec.refusal(item, "item", error)
            refusal.direction = None  # a channel leads anywhere
            raise refusal from error
        if len(data) <= self._limit and not buffers and not sink.fds:
            return data
        return Parcel(AS_PICKLE, [data, *buffers], sink.take())

    def _dump(self, item: object, sink: FdSink) -> tuple[bytes, list[Buffer]]:
        buffers = Buffers()
        try:
            return dump_fast(item, buffers, self._codec.scope), buffers.views
        except (NeedsByValueError, Exception):  # what pickle refuses cloudpickle may take
            sink.close()
            buffers.views.clear()
        return dump_by_value(item, buffers, self._codec.scope), buffers.views

    def decode(self, record: bytes) -> Any:
        """Return the item of a record.  Raises whatever unpickling raises."""
        if record[0] == PICKLE:
            return Loading(self._codec.scope, {}).run(loads, record)
        return marshal.loads(record)  # noqa: S302 - from the same user, as a pickle is

    def decode_parcel(
        self, form: int, memory: mmap.mmap | bytes, at: int, nbytes: int, fds: Sequence[int]
    ) -> Any:
        """Return the item of a parcel, a copy; its block may change afterwards.  Takes `fds` over."""
        if form == AS_BYTES:
            return memory[at : at + nbytes]
        with memoryview(memory) as whole, whole[at : at + nbytes] as data:
            if form == AS_BYTEARRAY:
                return bytearray(data)
            return marshal.loads(data) if form == AS_MARSHAL else self._unpickle(data, fds)  # noqa: S302 - from the same user, as a pickle is

    def _unpickle(self, data: memoryview, fds: Sequence[int]) -> Any:
        source = FdSource(fds)
        try:
            count = int.from_bytes(data[:8], "little")
            sizes = array("q", data[8 : 8 + 8 * count].tobytes())
            at = _padded(8 + 8 * count)
            pickled = data[at : at + sizes[0]].tobytes()
            buffers: list[Buffer] = []
            for size in sizes[1:]:
                at += _padded(sizes[len(buffers)])
                buffers.append(bytearray(data[at : at + size]))  # arrays are built on it
            with importing(source):
                return Loading(self._codec.scope, {}).run(loads, pickled, buffers)
        finally:
            source.close_unclaimed()
