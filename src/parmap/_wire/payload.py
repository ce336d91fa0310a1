"""Payloads: the many objects of one frame, each of which can be decoded alone.

A result that fails to unpickle must fail only its own item, so each item is a pickle of its own.
Plain immutable values cannot fail: they travel together, as a block (`blocks`), at a tenth of the
cost.

Segments of a block: one, the whole. Segments of items:

0. the table, int64: kind, length of the pickle, number of buffers; items first, then classes
1. their pickles, joined; that of a class is preceded by its id
2. the buffers
"""

from __future__ import annotations

from _pickle import loads  # `pickle` itself imports re: 4 ms of every worker's start
from array import array

from parmap._memory.transit import FdSink, FdSource, exporting, importing
from parmap._wire.blocks import dump_block, load_block
from parmap._wire.frames import nbytes_of, pieces_of
from parmap._wire.pickling import Buffers, FastPickler, dump_by_value
from parmap._wire.pieces import Pieces
from parmap._wire.scopes import Loading

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from parmap._wire.frames import Buffer, Segment
    from parmap._wire.pickling import Codec

VALUE = 0
ERROR = 1
CLASS = 2  # not an item: comes along because items need it

COLUMNS = 3
CLASS_ID_BYTES = 12


class Payload:
    """What a frame carries: segments, descriptors, and whether it is a block or holds failures."""

    __slots__ = ("block", "failures", "fds", "segments")

    def __init__(
        self,
        segments: list[Segment],
        fds: list[int],
        *,
        block: bool,
        failures: bool,
    ) -> None:
        self.segments = segments
        self.fds = fds
        self.block = block
        self.failures = failures

    @property
    def nbytes(self) -> int:
        return sum(map(nbytes_of, self.segments))

    def whole(self) -> list[bytearray]:
        """The segments as they arrive: each in one piece, writable, a copy."""
        return [bytearray().join(pieces_of(segment)) for segment in self.segments]

    def close(self) -> None:
        """Close descriptors that were never sent. May be called twice."""
        if self.fds:
            FdSource(self.fds).close_unclaimed()
            self.fds = []

    def __repr__(self) -> str:
        shape = "block" if self.block else "items"
        return f"<Payload {shape} {self.nbytes} bytes | {len(self.fds)} fds>"


def pack_values(values: Sequence[object], codec: Codec, what: Callable[[int], str]) -> Payload:
    """Pack values; ``what(i)`` names the i-th in the error that replaces it if it cannot travel."""
    block = dump_block(values)
    if block is not None:
        return Payload([block], [], block=True, failures=False)
    builder = PayloadBuilder(codec)
    builder.add_values(values, what)
    return builder.build()


class PayloadBuilder:
    """Packs items one by one. What cannot be pickled becomes an error item, and hurts no other."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._file = Pieces()
        self._buffers = Buffers()
        self._sink = FdSink()
        self._classes: dict[bytes, type] = {}  # that items need
        self._bodies: dict[bytes, bytes] = {}  # those already pickled
        self._pickler = self._new_pickler()
        self._table = array("q")
        self._failures = False

    def __len__(self) -> int:
        return len(self._table) // COLUMNS

    @property
    def nbytes(self) -> int:
        """The size so far, for whoever must not let a payload grow too large."""
        return self._file.nbytes() + sum(memoryview(view).nbytes for view in self._buffers.views)

    def add_values(self, values: Iterable[object], what: Callable[[int], str]) -> None:
        """Add results or arguments; ``what(i)`` names the i-th of these, should it fail."""
        with exporting(self._sink):
            for index, value in enumerate(values):
                self._add(value, what, index)

    def add_value(self, value: object, what: Callable[[int], str], index: int) -> None:
        """Add a result or an argument; ``what(index)`` names it, should it fail."""
        with exporting(self._sink):
            self._add(value, what, index)

    def _add(self, value: object, what: Callable[[int], str], index: int) -> None:
        start, nbuffers = len(self._file), len(self._buffers.views)
        try:
            if not self._dump_fast(value, start):
                self._take_back(start, nbuffers)
                self._file.write(dump_by_value(value, self._buffers, self._codec.scope))
        except BaseException as error:
            self._take_back(start, nbuffers)
            # Also a KeyboardInterrupt: neither the driver's thread nor a worker gets a real one, so
            # it is the user's own, and may end no loop of ours.
            refusal = self._codec.refusal(value, what(index), error)
            refusal.__cause__ = error
            self.add_error(refusal)
            return
        self._note(VALUE, start, nbuffers)

    def add_error(self, error: BaseException, *, skip_frames: int = 0) -> None:
        """Add the exception that an item raised. Never fails."""
        from parmap._wire.exceptions import encode_exception

        start = len(self._file)
        with exporting(self._sink):
            data = encode_exception(error, self._codec.dumps_inline, skip_frames=skip_frames)
        self._file.write(data)
        self._note(ERROR, start, len(self._buffers.views))
        self._failures = True

    def build(self) -> Payload:
        """Return the payload. The builder is used up."""
        for class_id, body in self._bodies.items():
            start = len(self._file)
            self._file.write(class_id)
            self._file.write(body)
            self._note(CLASS, start, len(self._buffers.views))
        segments: list[Segment] = [self._table.tobytes(), self._file.joined()]
        segments += self._buffers.views
        return Payload(segments, self._sink.take(), block=False, failures=self._failures)

    def close(self) -> None:
        """Give up what was collected, if it will not be built."""
        self._sink.close()

    def _dump_fast(self, value: object, start: int) -> bool:
        """Return False if it must go by value, or needs things that only cloudpickle may take."""
        pickler = self._pickler
        try:
            pickler.dump(value)
        except Exception:
            self._pickler = self._new_pickler()  # one that has raised is not used again
            return False
        pickler.clear_memo()
        if len(self._classes) > len(self._bodies):
            self._add_bodies()
        if not pickler.met_objects:
            return True
        pickler.met_objects = False
        return not self._file.names_main(start)

    def _add_bodies(self) -> None:
        """Pickle the classes that the last item was the first to need; raises if one cannot be."""
        try:
            for class_id, cls in self._classes.items():
                if class_id not in self._bodies:
                    self._bodies[class_id] = self._codec.class_body(class_id, cls)
        except BaseException:
            self._classes = {key: self._classes[key] for key in self._bodies}
            self._pickler = self._new_pickler()
            raise

    def _new_pickler(self) -> FastPickler:
        return FastPickler(self._file, self._buffers, self._codec.scope, self._classes)

    def _take_back(self, start: int, nbuffers: int) -> None:
        del self._file[start:]
        del self._buffers.views[nbuffers:]

    def _note(self, kind: int, start: int, nbuffers: int) -> None:
        add = self._table.append
        add(kind)
        add(self._file.nbytes(start))
        add(len(self._buffers.views) - nbuffers)


class _Arrived:
    """What the items of one payload have in common. Ends with the last of them."""

    __slots__ = ("bodies", "buffers", "loading", "pickles", "source")

    def __init__(self, segments: Sequence[Buffer], fds: Sequence[int], codec: Codec) -> None:
        self.pickles = memoryview(segments[1])
        self.buffers = segments[2:]
        self.source = FdSource(fds) if fds else None
        self.bodies: dict[bytes, Callable[[], object]] = {}
        self.loading = Loading(codec.scope, self.bodies)

    def __del__(self) -> None:
        if self.source is not None:
            self.source.close_unclaimed()

    def add_body(self, start: int, end: int) -> None:
        pickles = self.pickles
        class_id = bytes(pickles[start : start + CLASS_ID_BYTES])
        body = pickles[start + CLASS_ID_BYTES : end]
        self.bodies[class_id] = lambda: loads(body)


def _load_error(data: memoryview, *, buffers: Sequence[Buffer]) -> BaseException:
    from parmap._wire.exceptions import decode_exception

    assert not buffers
    return decode_exception(bytes(data), loads)


class Item:
    """One item of a payload, still pickled."""

    __slots__ = ("_arrived", "_buffers", "_end", "_start", "kind")

    def __init__(
        self, kind: int, arrived: _Arrived, start: int, end: int, buffers: Sequence[Buffer]
    ) -> None:
        self.kind = kind
        self._arrived = arrived
        self._start = start
        self._end = end
        self._buffers = buffers

    @property
    def nbytes(self) -> int:
        return self._end - self._start + sum(len(buffer) for buffer in self._buffers)

    def load(self) -> Any:
        """Return the value, or of an ERROR item the exception. Raises whatever its class does.

        Once only: the buffers that came become the object's own.
        """
        arrived = self._arrived
        pickled = arrived.pickles[self._start : self._end]
        load = loads if self.kind == VALUE else _load_error
        if arrived.source is None:
            return arrived.loading.run(load, pickled, self._buffers)
        with importing(arrived.source):
            return arrived.loading.run(load, pickled, self._buffers)

    def __repr__(self) -> str:
        return f"<Item {'value' if self.kind == VALUE else 'error'} {self.nbytes} bytes>"


def unpack(
    segments: Sequence[Buffer], fds: Sequence[int], block: bool, codec: Codec
) -> Sequence[Any]:
    """Return the values themselves (of a block: a list or a range), else an `Item` for each."""
    if block:
        return load_block(segments[0])
    table = memoryview(segments[0]).cast("q").tolist()
    arrived = _Arrived(segments, fds, codec)
    buffers = arrived.buffers
    items: list[Item] = []
    start = first = 0
    columns = iter(table)
    for kind, length, nbuffers in zip(columns, columns, columns, strict=True):
        end, last = start + length, first + nbuffers
        if kind == CLASS:
            arrived.add_body(start, end)
        else:
            items.append(Item(kind, arrived, start, end, buffers[first:last] if nbuffers else ()))
        start, first = end, last
    return items


def error_positions(segments: Sequence[Buffer]) -> list[int]:
    """Return which items of a payload (not a block) are errors; nothing is unpickled."""
    kinds = memoryview(segments[0]).cast("q")[::COLUMNS].tolist()
    return [index for index, kind in enumerate(kinds) if kind == ERROR]
