"""Large constants: written once into a file in memory, which every worker maps.

What a function has bound (an array in a `partial`, or the arguments of an initializer) goes to every
worker.  Sent, it is copied twice for each of them, and is there as often as there are workers.  A
private mapping of one file costs one copy in all: a page that workers only read is the same for all,
and one that a worker writes becomes its own.
"""

from __future__ import annotations

import mmap
import os
import struct

from parmap._memory.host import LINUX, anonymous_file, close_quietly, portable_level
from parmap._memory.segment import map_file, whole_pages
from parmap._memory.transit import FdSource
from parmap._wire import frames as fr
from parmap._wire.pickling import Encoded

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._wire.frames import Buffer

# Less, all buffers together, is sent as quickly.
SHARED_FROM = 1 << 20


class Mapped(Encoded):
    """Its buffers are in a file, the last of its descriptors; in their place are their sizes."""

    __slots__ = ("_nbytes",)

    flags = fr.FLAG_MAPPED

    def __init__(self, encoded: Encoded, sizes: Sequence[int], file: int) -> None:
        table = struct.pack(f"{len(sizes)}q", *sizes)
        super().__init__(encoded.data, [table], [*encoded.fds, file], encoded.kept)
        self._nbytes = encoded.nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes


def in_file(encoded: Encoded, workers: int) -> Encoded:
    """The same with its buffers in a file; as it is, where that gains nothing or cannot be had."""
    sizes = [memoryview(buffer).nbytes for buffer in encoded.buffers]
    if workers < 2 or sum(sizes) < SHARED_FROM or portable_level() != LINUX:
        return encoded
    try:
        file = _written(encoded.buffers, sizes)
    except OSError:
        return encoded  # no descriptor is left, or no memory: it is sent
    return Mapped(encoded, sizes, file)


def from_file(segments: Sequence[Buffer], fds: Sequence[int]) -> Encoded:
    """What `in_file` has made, where it has arrived.  Raises OSError when it cannot be mapped."""
    data, table = segments
    *others, file = fds
    sizes = memoryview(table).cast("q").tolist()
    starts, end = _places(sizes)
    try:
        mapping = map_file(file, end, mmap.ACCESS_COPY)
    except OSError:
        FdSource(others).close_unclaimed()
        raise
    finally:
        close_quietly(file)
    whole = memoryview(mapping)
    buffers = [whole[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return Encoded(data, buffers, others)


def _written(buffers: Sequence[Buffer], sizes: Sequence[int]) -> int:
    starts, end = _places(sizes)
    file = anonymous_file(end)
    try:
        for buffer, start in zip(buffers, starts, strict=True):
            left, at = memoryview(buffer).cast("B"), start
            while left:  # one call writes 2 GB at the most
                written = os.pwrite(file, left, at)
                left, at = left[written:], at + written
    except BaseException:
        close_quietly(file)
        raise
    return file


def _places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where each begins, and where all end."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += whole_pages(size)
    return starts, end
