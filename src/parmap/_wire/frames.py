"""Frames: the units that travel between a caller and its workers. Bytes in, frames out; no I/O.

Layout of a frame::

    header    magic u32, kind u8, flags u8, nfds u16, nsegments u32, 4 bytes of padding,
              call, chunk, first, count, extra as i64
    lengths   one u64 per segment
    segments  their bytes, one after the other

Descriptors travel beside the bytes (SCM_RIGHTS) and are matched to frames by order alone: the first
frame that completes takes the first `nfds` that came.
"""

from __future__ import annotations

import struct
from collections import deque

from parmap._memory.pages import fresh
from parmap.errors import InternalError

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Buffer = bytes | bytearray | memoryview
    Segment = Buffer | list[Buffer]  # in pieces, which the receiver does not see

# Kinds of frame to a worker.
SETUP = 1
FUNCTION = 2
CHUNK = 3
FORGET = 4
STOP = 5
ADOPT = 6
MEMBER = 7
CPUS = 8
OUTPUT = 9
# Kinds of frame to the caller.
READY = 16
RESULTS = 17
INIT_FAILED = 18
STALE = 19
NOTICE = 21
PARKED = 22
CUT = 23

FLAG_LAST = 1
"""The chunk is over: no more results of it will come."""
FLAG_UNHURRIED = 1
"""Of a chunk: all of its call's results are awaited together, so reports may be rare."""
FLAG_BLOCK = 2
"""The payload is a block: one pickle of many plain values."""
FLAG_FAILURES = 4
"""The payload holds at least one error."""
FLAG_TIMED = 4
"""Of a chunk: its call is profiled, and its reports shall tell times."""
FLAG_TIMES = 8
"""Of results: the last segment is the times that were asked for."""
FLAG_MARK = 8
"""The worker shall mark the index of the item that it is running."""
FLAG_WROTE = 16
"""The worker has said something, by its other way, before it sent this."""
FLAG_STAR = 16
"""Items are tuples of arguments."""
FLAG_STOP_ON_FAILURE = 32
"""The worker gives the rest of the chunk back once an item has failed."""
FLAG_FRESH = 64
"""The first chunk of another call of that function: what by-value code has written is forgotten."""
FLAG_ALONE = 128
"""The chunk is a task, whose function comes in it; with FLAG_STAR only its arguments do, as an item."""
FLAG_RETRIED = 64
"""The one item of this report failed with something that its call retries."""
FLAG_BLOATED = 128
"""The worker has outgrown the memory that it may have."""
FLAG_LIMITED = 1
"""Of a function: its items may not run for ever."""
FLAG_TERMS = 2
"""Of a function: with it comes what else its call has to tell (`parmap._worker.terms`)."""
FLAG_MAPPED = 32
"""Of a function or a set-up: its buffers are in a file, the last descriptor (`mapped`)."""

KIND_NAMES = {
    SETUP: "SETUP", FUNCTION: "FUNCTION", CHUNK: "CHUNK", FORGET: "FORGET", STOP: "STOP",
    ADOPT: "ADOPT", MEMBER: "MEMBER", CPUS: "CPUS", OUTPUT: "OUTPUT",
    READY: "READY", RESULTS: "RESULTS", INIT_FAILED: "INIT_FAILED", STALE: "STALE",
    NOTICE: "NOTICE", PARKED: "PARKED", CUT: "CUT",
}  # fmt: skip

MAGIC = 0x50_4D_46_31
HEADER = struct.Struct("<IBBHI4x5q")
LENGTH_BYTES = 8
_SMALL = struct.Struct("<IBBHI4x5qQ")  # a header and one length

JOIN_BELOW = 16 * 1024  # a copy into the head of the frame costs less than one more iovec
PRIVATE_FROM = 64 * 1024  # from here on a segment is received in place, into memory of its own
BUFFER_BYTES = 256 * 1024  # room for many small frames per recv; more costs cache, gains nothing
# Only nonsense exceeds these, which is our bug and no reason to run out of memory.
MOST_SEGMENTS = 1 << 26
LARGEST_SEGMENT = 1 << 46


class Frame:
    """One message. The numbers mean what the kind makes of them; segments are plain bytes."""

    __slots__ = ("call", "chunk", "count", "extra", "fds", "first", "flags", "kind", "segments")

    def __init__(
        self,
        kind: int,
        *,
        call: int = 0,
        chunk: int = 0,
        first: int = 0,
        count: int = 0,
        flags: int = 0,
        extra: int = 0,
        segments: Sequence[Segment] = (),
        fds: Sequence[int] = (),
    ) -> None:
        self.kind: int = kind
        self.call: int = call
        self.chunk: int = chunk
        self.first: int = first
        self.count: int = count
        self.flags: int = flags
        self.extra: int = extra
        # One that arrives has each in one piece; of one that is sent nobody reads them.
        self.segments: list[Buffer] = list(segments)  # type: ignore[arg-type]
        self.fds: list[int] = list(fds)

    @property
    def nbytes(self) -> int:
        """The size of all segments."""
        return sum(map(nbytes_of, self.segments))

    def __repr__(self) -> str:
        name = KIND_NAMES.get(self.kind, str(self.kind))
        return (
            f"<Frame {name} call={self.call} chunk={self.chunk} first={self.first} "
            f"count={self.count} flags={self.flags} extra={self.extra} | "
            f"{len(self.segments)} segments, {len(self.fds)} fds>"
        )


def nbytes_of(segment: Segment) -> int:
    """The size of a segment."""
    if isinstance(segment, list):
        return sum(map(len, segment))
    return memoryview(segment).nbytes


def pack_frame(frame: Frame) -> list[Buffer]:
    """Return the frame as buffers to send one after the other; what is large is not copied."""
    segments = frame.segments
    if len(segments) == 1 and not frame.fds and nbytes_of(segments[0]) < JOIN_BELOW:
        (only,) = pieces_of(segments[0])
        head = _SMALL.pack(
            MAGIC, frame.kind, frame.flags, 0, 1,
            frame.call, frame.chunk, frame.first, frame.count, frame.extra, len(only),
        )  # fmt: skip
        return [b"".join((head, only))]
    head = HEADER.pack(
        MAGIC, frame.kind, frame.flags, len(frame.fds), len(segments),
        frame.call, frame.chunk, frame.first, frame.count, frame.extra,
    )  # fmt: skip
    sizes = list(map(nbytes_of, segments))
    out: list[Buffer] = []
    small: list[Buffer] = [head, struct.pack(f"<{len(sizes)}Q", *sizes)]
    for segment in segments:
        for piece in pieces_of(segment):
            if len(piece) < JOIN_BELOW:
                small.append(piece)
            else:
                _flush(small, out)
                out.append(piece)
    _flush(small, out)
    return out


def _flush(small: list[Buffer], out: list[Buffer]) -> None:
    joined = b"".join(small)
    if joined:
        out.append(joined)
    small.clear()


def pieces_of(segment: Segment) -> list[Buffer]:
    """Return the segment as things whose len() is their size in bytes."""
    if isinstance(segment, list):
        return segment
    if type(segment) is memoryview and (segment.format != "B" or segment.ndim != 1):
        return [segment.cast("B")]
    return [segment]


class FrameReader:
    """Turns received bytes into frames.

    Ask `get_buffer` where the next bytes belong, receive into it, tell `received` how many came.
    Owned by one thread. A reader that raised is broken: the stream has no later sound place.
    """

    __slots__ = (
        "_buffer", "_close_fd", "_end", "_fds", "_filled", "_frame", "_large", "_lengths",
        "_nfds", "_nsegments", "_start", "_view",
    )  # fmt: skip

    def __init__(self, close_fd: Callable[[int], None] | None = None) -> None:
        """`close_fd` closes descriptors that nobody will claim."""
        self._close_fd = close_fd
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0  # what is unread lies in _buffer[_start:_end]
        self._end = 0
        self._fds: deque[int] = deque()
        self._frame: Frame | None = None  # being received
        self._nfds = 0
        self._nsegments = 0
        self._lengths: deque[int] | None = None  # of segments still to come; None: unknown
        self._large: bytearray | memoryview | None = None  # a piece that is received in place
        self._filled = 0

    def get_buffer(self) -> memoryview:
        """Return the memory into which the next bytes shall be received; it is never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == BUFFER_BYTES:
            # What waits here is the beginning of a small piece (< 64 KB), so this is no large move
            # and frees at least three quarters of the buffer: never quadratic.
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._view[self._end :]

    def received(self, n: int, fds: Iterable[int] = ()) -> list[Frame]:
        """Take in `n` bytes that now stand in the buffer, and return the frames they complete."""
        self._fds.extend(fds)
        if self._large is not None:
            self._filled += n
        else:
            self._end += n
        frames: list[Frame] = []
        while (frame := self._next_frame()) is not None:
            frames.append(frame)
        return frames

    @property
    def at_boundary(self) -> bool:
        """True between frames: an end of the stream here cuts nothing short."""
        return self._frame is None and self._start == self._end

    def close(self) -> None:
        """Close the descriptors that no frame has claimed. May be called twice."""
        fds = [*(self._frame.fds if self._frame is not None else ()), *self._fds]
        self._fds.clear()
        self._frame = self._large = self._lengths = None
        self._start = self._end = 0
        if self._close_fd is not None:
            for fd in fds:
                self._close_fd(fd)

    def _next_frame(self) -> Frame | None:
        """Read on, and return the frame in hand if that completes it."""
        if self._frame is None:
            if (frame := self._next_small()) is not None:
                return frame
            if not self._read_header():
                return None
        if self._lengths is None and not self._read_lengths():
            return None
        frame, lengths = self._frame, self._lengths
        assert frame is not None
        assert lengths is not None
        while lengths:
            piece = self._take(lengths[0])
            if piece is None:
                return None
            lengths.popleft()
            frame.segments.append(piece)
        if len(self._fds) < self._nfds:
            raise InternalError(f"{frame!r} lacks descriptors: {len(self._fds)} of {self._nfds}")
        frame.fds = [self._fds.popleft() for _ in range(self._nfds)]
        self._frame = self._lengths = None
        return frame

    def _next_small(self) -> Frame | None:
        """The next frame, if it is of the usual kind, one segment and no descriptors, and all here."""
        start = self._start + HEADER.size + LENGTH_BYTES
        if start > self._end:
            return None
        magic, kind, flags, nfds, nsegments, call, chunk, first, count, extra, size = (
            _SMALL.unpack_from(self._buffer, self._start)
        )
        end = start + size
        if nfds or nsegments != 1 or end > self._end or magic != MAGIC or kind not in KIND_NAMES:
            return None  # whatever is the matter with it is found out on the long way
        self._start = end
        return Frame(
            kind, call=call, chunk=chunk, first=first, count=count, flags=flags, extra=extra,
            segments=(bytearray(self._view[start:end]),),
        )  # fmt: skip

    def _read_header(self) -> bool:
        if self._end - self._start < HEADER.size:
            return False
        magic, kind, flags, nfds, nsegments, call, chunk, first, count, extra = HEADER.unpack_from(
            self._buffer, self._start
        )
        if magic != MAGIC or kind not in KIND_NAMES or nsegments > MOST_SEGMENTS:
            raise InternalError(
                f"what came is no frame: magic {magic:#x}, kind {kind}, {nsegments} segments"
            )
        self._start += HEADER.size
        self._nfds, self._nsegments = nfds, nsegments
        self._frame = Frame(
            kind, call=call, chunk=chunk, first=first, count=count, flags=flags, extra=extra
        )
        return True

    def _read_lengths(self) -> bool:
        table = self._take(self._nsegments * LENGTH_BYTES)
        if table is None:
            return False
        lengths = struct.unpack(f"<{self._nsegments}Q", table)
        if lengths and max(lengths) > LARGEST_SEGMENT:
            raise InternalError(f"{self._frame!r} claims a segment of {max(lengths)} bytes")
        self._lengths = deque(lengths)
        return True

    def _take(self, size: int) -> bytearray | memoryview | None:
        """Return the next `size` bytes as memory of their own, or None until all are here."""
        if self._large is None:
            here = self._end - self._start
            if here >= size:
                start = self._start
                self._start += size
                return bytearray(self._view[start : self._start])
            if size < PRIVATE_FROM:
                return None
            self._large = fresh(size)
            self._large[:here] = self._view[self._start : self._end]
            self._filled, self._start, self._end = here, 0, 0
        if self._filled < size:
            return None
        piece, self._large = self._large, None
        return piece
