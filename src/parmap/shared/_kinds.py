"""What the typecodes mean: those of `multiprocessing.Value`, and `'?'` for bool.

An element is read and written through a memoryview of that format, so in one move. `check` comes
before: what cannot be stored is refused with a sentence, and nothing wraps round.
"""

from __future__ import annotations

from _struct import Struct, calcsize
from operator import index

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Kind(Protocol):
        """What values of one typecode are."""

        code: str
        format: str  # of the memoryview
        size: int
        number: bool  # whether one can be added to another

        def check(self, value: Any) -> Any: ...
        def read(self, cell: memoryview[Any]) -> Any: ...
        def write(self, cell: memoryview[Any], value: Any) -> None: ...


class _Kind:
    """What is stored as it is."""

    __slots__ = ("code", "format", "size")

    number = False

    def __init__(self, code: str, layout: str = "") -> None:
        self.code = code
        self.format = layout or code
        self.size = calcsize(self.format)

    def read(self, cell: memoryview[Any]) -> Any:
        return cell[0]

    def write(self, cell: memoryview[Any], value: Any) -> None:
        """Store what `check` has returned."""
        cell[0] = value

    def __reduce__(self) -> Any:
        return kind_of_code, (self.code,)


class _Integers(_Kind):
    __slots__ = ("_first", "_last")

    number = True

    def __init__(self, code: str) -> None:
        super().__init__(code)
        bits = 8 * self.size
        signed = code.islower()
        self._first = -(1 << bits - 1) if signed else 0
        self._last = (1 << bits - signed) - 1

    def check(self, value: Any) -> int:
        try:
            number = index(value)
        except TypeError:
            raise TypeError(f"{self.code!r} holds integers, not {value!r}") from None
        if not self._first <= number <= self._last:
            raise OverflowError(
                f"{self.code!r} holds integers from {self._first} to {self._last}, not {number}"
            )
        return number


class _Floats(_Kind):
    __slots__ = ("_struct",)

    number = True

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self._struct = Struct("<" + code)  # the native one makes an infinity of what is too large

    def check(self, value: Any) -> float:
        if isinstance(value, str | bytes | bytearray):  # float() would read it
            raise TypeError(f"{self.code!r} holds floats, not {value!r}")
        try:
            number: float = self._struct.unpack(self._struct.pack(float(value)))[0]
        except TypeError:
            raise TypeError(f"{self.code!r} holds floats, not {value!r}") from None
        except OverflowError:
            raise OverflowError(f"{value!r} is too large for {self.code!r}") from None
        return number


class _Bools(_Kind):
    __slots__ = ()

    def check(self, value: Any) -> bool:
        if isinstance(value, int | float) or hasattr(value, "__bool__"):  # so that NumPy's count
            return bool(value)
        raise TypeError(f"{self.code!r} holds True or False, not {value!r}")


class _Bytes(_Kind):
    __slots__ = ()

    def check(self, value: Any) -> bytes:
        if isinstance(value, bytes | bytearray) and len(value) == 1:
            return bytes(value)
        raise TypeError(f"{self.code!r} holds one byte such as b'x', not {value!r}")


class _Characters(_Kind):
    __slots__ = ()

    def check(self, value: Any) -> str:
        if isinstance(value, str) and len(value) == 1:
            return value
        raise TypeError(f"{self.code!r} holds one character, not {value!r}")

    def read(self, cell: memoryview[Any]) -> str:
        return chr(cell[0])

    def write(self, cell: memoryview[Any], value: str) -> None:
        cell[0] = ord(value)


KINDS: dict[str, Kind] = {
    **{code: _Integers(code) for code in "bBhHiIlLqQ"},
    **{code: _Floats(code) for code in "fd"},
    "?": _Bools("?"),
    "c": _Bytes("c"),
    "u": _Characters("u", "I"),
}
_OF_TYPE = {bool: "?", int: "q", float: "d"}


def kind_of_code(code: str) -> Kind:
    """Return the kind with that typecode, which exists."""
    return KINDS[code]


def kind_of(what: Any) -> Kind | None:
    """Return the kind for a typecode, for bool, int or float, or for a simple type of ctypes."""
    if isinstance(what, str):
        return KINDS.get(what)
    if isinstance(what, type):
        code = _OF_TYPE.get(what) or getattr(what, "_type_", None)  # where ctypes keeps it
        return KINDS.get(code) if isinstance(code, str) else None
    return None


def kind_for(value: Any) -> Kind | None:
    """Return the kind for an initial value: bool, int (64 bits), float or one byte."""
    for type_, code in _OF_TYPE.items():  # bool first: it is an int as well
        if isinstance(value, type_):
            return KINDS[code]
    if isinstance(value, bytes) and len(value) == 1:
        return KINDS["c"]
    return None
