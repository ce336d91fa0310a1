"""How an array's memory is seen from outside: as a buffer, and as an array of NumPy.

Every view must keep the array's block, or its memory would become another's under the view. So what
gives the view is the array itself: its `__buffer__`, from Python 3.12 on. Before, only types written
in C can offer buffers; then the object is an array of ctypes as well, which is made to lie over
foreign memory. That import costs 5 ms, so it is for Python 3.11 only.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._memory.segment import Segment
    from parmap.shared._layout import Layout
    from parmap.shared.array import SharedArray

_MOST_CLASSES = 64
_classes: dict[tuple[str, tuple[int, ...]], Any] = {}


def base_of(cls: type[SharedArray], segment: Segment, start: int, layout: Layout) -> Any:
    """Return the bare object, which offers a buffer where a class cannot do that itself."""
    if sys.version_info >= (3, 12) or layout.code is None:
        return object.__new__(cls)
    # To make a class costs 30 µs, and they live as long as somebody uses them: so a few are kept.
    key = (layout.code, layout.shape)
    made = _classes.get(key)
    if made is None:
        if len(_classes) >= _MOST_CLASSES:
            _classes.clear()
        made = _classes[key] = _class(cls, layout.code, layout.shape)
    return made.from_buffer(segment.buf, start)


def _class(cls: type[SharedArray], code: str, shape: tuple[int, ...]) -> Any:
    from _ctypes import Array, _SimpleCData

    kind: Any = type("Element", (_SimpleCData,), {"_type_": code})
    if not shape:
        return type("SharedArray", (cls, _SimpleCData), {"_type_": code})
    for length in reversed(shape[1:]):
        kind = type("Row", (Array,), {"_type_": kind, "_length_": length})
    made = type("SharedArray", (cls, Array), {"_type_": kind, "_length_": shape[0]})
    for name in ("raw", "value"):  # which ctypes gives to arrays of bytes only
        if name in vars(made):
            delattr(made, name)
    return made


def view_of(array: SharedArray) -> memoryview[Any]:
    """Return a view of the elements; who hands it out sees to it that it keeps the array."""
    layout = array._layout
    flat = memoryview(array._segment.buf)[array._start : array._start + layout.nbytes]
    if len(layout.shape) == 1:
        return flat.cast(layout.code)  # type: ignore[call-overload, no-any-return]  # it has one
    if not layout.nbytes:
        return memoryview(numpy_view(array))  # no memoryview can be cast to a shape with a 0
    return flat.cast(layout.code, layout.shape)  # type: ignore[call-overload, no-any-return]


def numpy_view(array: SharedArray) -> Any:
    """Return a NumPy array over the elements, which keeps the array."""
    import numpy as np

    layout = array._layout
    flat = np.ndarray((layout.nbytes,), "u1", array._segment.buf, array._start)
    elements = np.asarray(_Window(array, flat)).view(layout.code or layout.dtype)
    return elements.reshape(layout.shape)


class _Window:
    """What NumPy keeps as the base of a view: the array."""

    __slots__ = ("__array_interface__", "_array")

    def __init__(self, array: SharedArray, flat: Any) -> None:
        self._array = array
        self.__array_interface__ = flat.__array_interface__
