"""What an array holds: the type of its elements, its shape, and how data become its bytes.

A type has a typecode, or is one that only NumPy knows; then its dtype is all that is known here.
NumPy is imported for who brings a dtype or an array of it, and for nobody else.
"""

from __future__ import annotations

import sys
from array import array as plain_array
from math import prod
from operator import index

from parmap.shared._kinds import KINDS, kind_for, kind_of

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap.shared._kinds import Kind

_CODES = "bBhHiIlLqQfd?c"  # a character of text has no format of a buffer


class Layout:
    """The type and shape of an array. Immutable; it travels with the array."""

    __slots__ = ("code", "dtype", "nbytes", "shape", "size")

    def __init__(self, code: str | None, dtype: Any, shape: tuple[int, ...]) -> None:
        """Say it with a typecode, or, if that is None, with a dtype."""
        self.code = code
        self.dtype = dtype
        self.shape = shape
        self.size: int = dtype.itemsize if code is None else KINDS[code].size
        self.nbytes = self.size * prod(shape)

    @property
    def name(self) -> str:
        """What the elements are called."""
        return repr(str(self.dtype) if self.code is None else self.code)

    def row(self) -> Layout:
        """Return the layout of one row of an array of several dimensions."""
        return Layout(self.code, self.dtype, self.shape[1:])

    def check(self, value: Any) -> Any:
        """Return `value` as it will be stored, or say why not."""
        return _kind(self).check(value)

    def pack(self, data: Any) -> memoryview[Any]:
        """Return data of any kind as a view of the elements' format."""
        code = _kind(self).code
        if code == "c":
            if not isinstance(data, bytes | bytearray | memoryview):
                data = b"".join(map(self.check, data))
            return memoryview(data).cast("B").cast("c")
        try:
            if code == "?":
                return memoryview(bytes(map(self.check, data))).cast("?")
            return memoryview(plain_array(code, data))
        except (TypeError, OverflowError) as error:
            raise type(error)(f"not elements of a SharedArray of {code!r}: {error}") from None

    def __reduce__(self) -> Any:
        return Layout, (self.code, self.dtype, self.shape)


def is_numpy(value: Any) -> bool:
    """Whether it is an array of NumPy."""
    kind = getattr(sys.modules.get("numpy"), "ndarray", None)  # it may be being imported just now
    return kind is not None and isinstance(value, kind)


def layout_of(arguments: tuple[Any, ...], shape: Any) -> tuple[Layout, Any]:
    """Return the layout that the arguments of SharedArray ask for, and a buffer of data or None."""
    if not 1 <= len(arguments) <= 2:
        raise TypeError("SharedArray takes a typecode and a length or data, or data alone")
    first = arguments[0]
    if len(arguments) == 2:
        return _with_type(first, arguments[1], shape)
    if shape is not None:
        code, dtype = _type(first)
        return Layout(code, dtype, _shape(shape)), None
    if is_numpy(first):
        return layout_of_numpy(first)
    if isinstance(first, str | type) or not hasattr(first, "__iter__"):
        raise TypeError(
            f"SharedArray({first!r}) says nothing of a length: SharedArray('d', 5), or initial data"
        )
    elements = first if isinstance(first, bytes) else list(first)
    return _with_type(_type_of_all(elements), elements, None)


def layout_of_numpy(array: Any) -> tuple[Layout, Any]:
    """Return the layout of a NumPy array, and itself, one piece of memory in C order."""
    if not is_numpy(array):
        raise TypeError(f"from_numpy takes an array of NumPy, not {array!r}")
    import numpy as np

    code, dtype = _type_of_numpy(array.dtype)
    return Layout(code, dtype, array.shape), np.ascontiguousarray(array)


def _with_type(type_: Any, given: Any, shape: Any) -> tuple[Layout, Any]:
    code, dtype = _type(type_)
    if is_numpy(given) or code is None:
        return _of_numpy(code, dtype, given, shape)
    if not hasattr(given, "__iter__"):
        if shape is not None:
            raise TypeError("a length and a shape: give one of them")
        return Layout(code, None, (_length(given),)), None
    data = Layout(code, None, ()).pack(given)
    layout = Layout(code, None, (len(data),) if shape is None else _shape(shape))
    if layout.nbytes != data.nbytes:
        raise ValueError(f"{len(data)} elements do not fill the shape {layout.shape}")
    return layout, data


def _of_numpy(code: str | None, dtype: Any, given: Any, shape: Any) -> tuple[Layout, Any]:
    import numpy as np

    if not hasattr(given, "__iter__"):
        return Layout(code, dtype, (_length(given),)), None
    if not is_numpy(given):
        given = np.array(list(given), dtype)
    data = np.ascontiguousarray(given.astype(code or dtype, casting="same_kind", copy=False))
    if shape is not None:
        data = data.reshape(_shape(shape))
    return Layout(code, dtype, data.shape), data


def _type(what: Any) -> tuple[str | None, Any]:
    """Return the typecode, or, if there is none, the dtype."""
    kind = kind_of(what)
    if kind is not None:
        if kind.code not in _CODES:
            raise TypeError(
                "a SharedArray cannot hold text: encode it, and use 'c'; or a SharedList"
            )
        return kind.code, None
    try:
        import numpy as np

        return _type_of_numpy(np.dtype(what))
    except (ImportError, TypeError) as error:
        raise TypeError(
            f"a SharedArray holds one type: a typecode of {' '.join(_CODES)}, or bool, int, float, or"
            f" a dtype of NumPy, not {what!r} ({error})"
        ) from None


def _type_of_numpy(dtype: Any) -> tuple[str | None, Any]:
    if dtype.hasobject:
        raise TypeError(f"Python objects cannot be shared ({dtype}): use a SharedList")
    if not dtype.itemsize:
        raise TypeError(f"say how long the elements are, as in numpy.dtype('U10'), not {dtype!r}")
    if dtype.isnative and dtype.char in _CODES and dtype.fields is None:
        return dtype.char, None
    return None, dtype


def _type_of_all(elements: Any) -> str:
    """Return the typecode for data that come alone: the widest of their types."""
    if isinstance(elements, bytes):
        return "c"
    kinds = {None if (kind := kind_for(element)) is None else kind.code for element in elements}
    for code in ("d", "q", "?", "c"):
        if code in kinds and kinds <= {"d": {"d", "q"}}.get(code, {code}):
            return code
    raise TypeError(
        "the type of these data is not clear (bools, ints, floats or single bytes would be): say it"
        " first, as in SharedArray('d', data); for several dimensions give a NumPy array or shape="
    )


def _kind(layout: Layout) -> Kind:
    assert layout.code is not None
    return KINDS[layout.code]


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(map(_length, shape)) if isinstance(shape, tuple | list) else (_length(shape),)


def _length(given: Any) -> int:
    try:
        length = index(given)
    except TypeError:
        raise TypeError(f"the length of a SharedArray is an integer, not {given!r}") from None
    if length < 0:
        raise ValueError(f"the length of a SharedArray cannot be negative: {length}")
    return length
