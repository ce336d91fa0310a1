"""`SharedArray`: numbers in memory that many processes see, as an array and as a buffer.

Small ones lie in a block of the family's arena, large ones in a segment of their own; in front of
the elements there is room for the lock, which is made when it is first asked for.

Who has a view of the memory (a memoryview, a NumPy array) has the array with it, and so the memory.
Everything that gives views goes through `exported`, which is what sees to that.
"""

from __future__ import annotations

import sys
from operator import index
from typing import TYPE_CHECKING, overload

from parmap._memory.arena import LARGEST, arrive, default_arena
from parmap._memory.segment import Segment
from parmap.shared._exported import base_of, numpy_view, view_of
from parmap.shared._guard import GUARD_SIZE, guard_of
from parmap.shared._layout import is_numpy, layout_of, layout_of_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Self

    from parmap._memory.arena import Block
    from parmap._memory.transit import Ticket
    from parmap.shared._layout import Layout
    from parmap.shared.locks import Lock


class SharedArray:
    """Elements of one type in memory that any process sees; as many as there were at first.

    ``SharedArray("d", 5)`` has five zeros, ``SharedArray("d", [1.5, 2.5])`` these two. Instead of a
    typecode (those of the module `array`, ``"?"`` for bool, ``"c"`` for bytes) it may be bool, int,
    float or a dtype of NumPy. Initial data may come alone: ``SharedArray([1, 2, 3])``. With several
    dimensions: ``shape=(3, 4)`` instead of a length, or a NumPy array as initial data.

    It is indexed, sliced, iterated over and changed like an `array.array`; a slice is a list (bytes
    for ``"c"``). With several dimensions ``a[i]`` is a SharedArray over that row, and ``a[i, j]`` an
    element. ``numpy.asarray(a)`` is an array over the same memory, and so is ``memoryview(a)``.

    Elements never tear, if they have at most 8 bytes. Nothing else is atomic, and nothing locks by
    itself: ``with a.lock:`` around ``a[i] += 1``.

    It can be sent anywhere, is never copied, and lives as long as somebody has it or a view of it.
    Any thread may use it; a forked child goes on using it.

    On Python 3.11, where a class cannot offer buffers itself, the object is also an array of ctypes:
    ``memoryview(a)`` has the format ``"<d"`` where it is ``"d"`` later, so to index the view, cast
    it: ``memoryview(a).cast("B").cast("d")``. Elements that only NumPy knows (complex numbers,
    records) give no memoryview there, but ``numpy.asarray(a)`` all the same.

    Raises:
        TypeError: When there is no such type, an element is not of it, or the length is no integer.
        OverflowError: When an element does not fit the type.
        ValueError: When the length is negative, or data and shape do not fit.

    Example:
        >>> from parmap import SharedArray, parallel_map
        >>> squares = SharedArray("q", 5)
        >>> def fill(i):
        ...     squares[i] = i * i
        >>> _ = parallel_map(fill, range(5), max_workers=2)
        >>> squares[:]
        [0, 1, 4, 9, 16]
    """

    _block: Block
    _segment: Segment
    _start: int
    _layout: Layout
    _guard: Lock | None  # once it was asked for
    _view: memoryview[Any] | None  # if it has one dimension, and a typecode

    if TYPE_CHECKING:

        @overload
        def __new__(cls, typecode: Any, length_or_data: int | Iterable[Any], /) -> Self: ...
        @overload
        def __new__(cls, typecode: Any, /, *, shape: int | tuple[int, ...]) -> Self: ...
        @overload
        def __new__(cls, data: Iterable[Any], /) -> Self: ...

    def __new__(cls, *arguments: Any, shape: Any = None) -> SharedArray:  # noqa: PYI034 - no subclass
        layout, data = layout_of(arguments, shape)
        return _create(layout, data)

    def __init__(self, *arguments: Any, shape: Any = None) -> None:
        """Nothing is left to do; Python 3.11's base class would take the arguments for its own."""

    @classmethod
    def from_numpy(cls, array: Any, /) -> SharedArray:
        """Return a new array with a copy of a NumPy array: its dtype, its shape, its elements.

        Raises:
            TypeError: When it is no NumPy array, or holds Python objects.
        """
        layout, data = layout_of_numpy(array)
        return _create(layout, data)

    @property
    def lock(self) -> Lock:
        """The array's own `parmap.Lock`, which nothing here takes by itself: ``with a.lock:``."""
        if self._guard is None:
            self._guard = guard_of(self._block)
        return self._guard

    @property
    def shape(self) -> tuple[int, ...]:
        """The length in each dimension."""
        return self._layout.shape

    @property
    def typecode(self) -> str | None:
        """The typecode of the elements; None if only NumPy has a name for their type."""
        return self._layout.code

    def __hash__(self) -> int:
        """It is equal to itself only; a ctypes array, which it is on 3.11, has no hash."""
        return object.__hash__(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a SharedArray without dimensions has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        view = self._view
        if view is None:
            return self._get(key)
        found = view[key]
        if not isinstance(found, memoryview):
            return found
        return found.tobytes() if self._layout.code == "c" else found.tolist()

    def __setitem__(self, key: Any, value: Any) -> None:
        view, layout = self._view, self._layout
        if view is None:
            self._set(key, value)
        elif isinstance(key, slice):
            self._assign(view, key, value)
        elif layout.code == "?":
            view[key] = layout.check(value)
        else:
            try:
                view[key] = value
            except (TypeError, ValueError):
                view[key] = layout.check(value)  # which has a better word for it

    def __repr__(self) -> str:
        layout = self._layout
        first = f"shape={layout.shape}" if len(layout.shape) != 1 else f"length {len(self)}"
        return f"<SharedArray {layout.name}, {first}>"

    def __reduce__(self) -> tuple[Callable[..., SharedArray], tuple[object, ...]]:
        own = None if self._segment is self._block.segment else self._segment
        inside = self._start - (self._block.offset if own is None else 0)
        block = self._block.tickets("SharedArray")
        return _arrive, (self._layout, own, inside, *block)

    if TYPE_CHECKING or sys.version_info >= (3, 12):  # before, the class beneath has it in C

        def __buffer__(self, flags: int, /) -> memoryview:
            if self._layout.code is None:
                return memoryview(numpy_view(self))
            return view_of(self)

    def __getattr__(self, name: str) -> Any:
        """Tell NumPy where the elements are, if they are of a type that only it knows."""
        if name == "__array_interface__" and self._layout.code is None:
            return numpy_view(self).__array_interface__
        raise AttributeError(f"'SharedArray' object has no attribute {name!r}")

    def _get(self, key: Any) -> Any:
        """Index what has several dimensions, or elements that only NumPy knows."""
        if self._layout.code is None or not self.shape:
            return numpy_view(self)[key]
        if isinstance(key, tuple):
            row = self._row_of(key)
            return row[key[-1]]
        if isinstance(key, slice):
            return [self._row(number) for number in range(*key.indices(len(self)))]
        return self._row(key)

    def _set(self, key: Any, value: Any) -> None:
        if self._layout.code is None or not self.shape or is_numpy(value):
            numpy_view(self)[key] = value
        elif isinstance(key, tuple):
            self._row_of(key)[key[-1]] = value
        elif isinstance(key, slice):
            raise TypeError("rows are assigned one by one, or to numpy.asarray(a)")
        else:
            self._row(key)[:] = value

    def _row_of(self, key: tuple[Any, ...]) -> SharedArray:
        """Return the row that all but the last index lead to."""
        if not 0 < len(key) <= len(self.shape):
            raise IndexError(f"{len(key)} indices for {len(self.shape)} dimensions")
        row = self
        for number in key[:-1]:
            row = row._row(number)
        return row

    def _row(self, number: Any) -> SharedArray:
        try:
            place = range(len(self))[index(number)]
        except TypeError:
            raise TypeError(f"{number!r} is no index here: use numpy.asarray(a)") from None
        except IndexError:
            raise IndexError(f"row {number} of {len(self)}") from None
        inner = self._layout.row()
        return _open(self._block, self._segment, self._start + place * inner.nbytes, inner)

    def _assign(self, view: memoryview[Any], key: slice, value: Any) -> None:
        if is_numpy(value):
            numpy_view(self)[key] = value
            return
        part, data = view[key], self._layout.pack(value)
        if len(data) != len(part):
            raise ValueError(
                f"{len(data)} elements for a slice of {len(part)}: a SharedArray keeps its length"
            )
        view[key] = data


def _create(layout: Layout, data: Any) -> SharedArray:
    size = layout.nbytes
    if size > sys.maxsize:
        raise MemoryError(f"a SharedArray of {size} bytes")
    if GUARD_SIZE + size <= LARGEST:
        block = default_arena().allocate(GUARD_SIZE + size)
        segment, start = block.segment, block.offset + GUARD_SIZE
    else:
        block = default_arena().allocate(GUARD_SIZE)
        segment, start = Segment.create(size), 0
    array = _open(block, segment, start, layout)
    if is_numpy(data):
        numpy_view(array)[...] = data  # some of its types have no buffers
    elif data is not None:
        segment.buf[start : start + size] = memoryview(data).cast("B")
    return array


def _open(block: Block, segment: Segment, start: int, layout: Layout) -> SharedArray:
    """Return an array over memory that is there."""
    if start + layout.nbytes > segment.size:
        segment.refresh()  # another process has made it longer
    array: SharedArray = base_of(SharedArray, segment, start, layout)
    array._block = block
    array._segment = segment
    array._start = start
    array._layout = layout
    array._guard = None
    simple = layout.code is not None and len(layout.shape) == 1
    array._view = view_of(array) if simple else None
    return array


def _arrive(
    layout: Layout, own: Segment | None, inside: int, ticket: Ticket, number: int
) -> SharedArray:
    block = arrive(ticket, number)
    if own is not None:
        return _open(block, own, inside, layout)
    return _open(block, block.segment, block.offset + inside, layout)
