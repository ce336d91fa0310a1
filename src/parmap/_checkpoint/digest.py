"""What an item is known by: a digest of its pickled arguments, the same in every run of a program.

`pickle` gives that but for two things.  Sets come in the order of their hashes, which for texts change
from run to run: they count as the sorted digests of their elements.  And what `pickle` does not find
by its name, a lambda or a local class, counts as its code.
"""

from __future__ import annotations

import pickle
import sys
from hashlib import blake2b
from io import BytesIO
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pickle import PickleBuffer
    from types import CellType

# So long that no two items of a lifetime share one.
SIZE = 16
_PROTOCOL = 5
_PLAIN = frozenset({FunctionType, int, float, complex, bool, str, bytes, type(None)})


def digest(obj: object) -> bytes:
    """The digest of any object.  Raises whatever its pickling does."""
    file, buffers = BytesIO(), list["PickleBuffer"]()
    _Pickler(file, buffers).dump(obj)
    state = blake2b(file.getbuffer(), digest_size=SIZE)
    for buffer in buffers:  # arrays: not copied into the pickle
        with buffer.raw() as view:
            state.update(view.nbytes.to_bytes(8, "little"))
            state.update(view)
    return state.digest()


class _Pickler(pickle.Pickler):
    """Pickles for the digest only; nobody reads it."""

    def __init__(self, file: BytesIO, buffers: list[PickleBuffer]) -> None:
        super().__init__(file, _PROTOCOL, buffer_callback=buffers.append)

    def persistent_id(self, obj: Any) -> Any:
        """Called for everything: the only way to reach sets before `pickle` does."""
        kind = type(obj)
        if kind is set or kind is frozenset:
            return kind.__name__, sorted(map(digest, obj))
        return None

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is CodeType:
            return tuple, (parts_of_code(obj),)
        if kind is FunctionType:
            if is_found(obj):
                return NotImplemented
            # What it refers to comes second, for that may be itself.
            cells = contents(obj.__closure__ or ())
            state = obj.__defaults__, obj.__kwdefaults__, cells
            return _stand_in, (obj.__qualname__, obj.__code__), state
        if issubclass(kind, type) and not is_found(obj) and obj.__module__ != "builtins":
            return _stand_in, (obj.__qualname__, obj.__bases__), parts_of_class(obj)
        return NotImplemented


def is_found(obj: Any) -> bool:
    """Whether `pickle` finds a function or class by its name."""
    found: Any = sys.modules.get(obj.__module__)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def parts_of_code(code: CodeType) -> tuple[object, ...]:
    """What a piece of code does; not where it stands, nor how it is laid out or commented."""
    return (
        code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars,
        code.co_cellvars, code.co_flags, code.co_argcount, code.co_posonlyargcount,
        code.co_kwonlyargcount, code.co_exceptiontable,
    )  # fmt: skip


def parts_of_class(cls: type) -> dict[str, object]:
    """Its methods and plain attributes."""
    line = "__firstlineno__"  # from Python 3.13 on
    return {key: each for key, each in vars(cls).items() if type(each) in _PLAIN and key != line}


def contents(cells: Iterable[CellType]) -> list[object]:
    """What is in the cells of a closure; an empty one has no contents yet."""
    found: list[object] = []
    for cell in cells:
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)
    return found


def _stand_in(*parts: object) -> object:
    raise NotImplementedError("a digest is not unpickled")
