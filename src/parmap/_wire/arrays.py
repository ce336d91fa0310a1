"""How NumPy's arrays travel: their memory beside the pickle, and writable where they arrive.

NumPy's own way puts the memory of a strided array into the pickle, and lets a read-only array stay
read-only.  What arrives here is a copy of the receiver's own in any case.  Subclasses, and arrays of
objects, go as NumPy says.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROTOCOL = 5
_NOT_EXPORTED = "mM"  # NumPy gives nobody a view of the memory of dates and times


def array_type() -> type | None:
    """The class of arrays; None as long as NumPy has not been imported, and there can be none."""
    found: type | None = getattr(sys.modules.get("numpy"), "ndarray", None)
    return found


def reduce_array(array: Any) -> Any:
    """Return what rebuilds an array; NotImplemented where NumPy's own way is right."""
    if array.dtype.hasobject or not array.dtype.itemsize:
        return NotImplemented
    if array.dtype.kind in _NOT_EXPORTED:
        return view_as, (array.view("i8"), array.dtype)
    flags = array.flags
    if not (flags.c_contiguous or flags.f_contiguous):
        return array.copy(order="C").__reduce_ex__(PROTOCOL)
    if flags.writeable:
        return NotImplemented
    rebuild, arguments = array.__reduce_ex__(PROTOCOL)[:2]
    return rebuild_writable, (rebuild, *arguments)


def view_as(array: Any, dtype: object) -> object:
    """Rebuild an array of dates or times."""
    return array.view(dtype)


def rebuild_writable(
    rebuild: Callable[..., object], buffer: memoryview | bytes, *shape: object
) -> object:
    """Rebuild an array that was read-only."""
    return rebuild(_writable(buffer), *shape)


def _writable(buffer: memoryview | bytes) -> memoryview | bytearray:
    if type(buffer) is memoryview:
        # `pickle` has put a read-only view before memory that came with this very message.
        own = memoryview(buffer.obj)
        if not own.readonly:
            return own.cast("B")[: buffer.nbytes]
    return bytearray(buffer)
