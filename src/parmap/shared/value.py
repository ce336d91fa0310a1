"""`SharedValue`: one number, bool or character that many processes read and change.

It is one aligned store of at most 8 bytes: who reads takes no lock, and never sees half of it. All
that changes it has the lock, and changes it by that one store, at its end: who is killed in the
middle of `update` has changed nothing, and the lock is free again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from parmap._memory.arena import arrive, default_arena
from parmap._memory.mutex import mutex_of, prepare, size_of
from parmap.shared._kinds import KINDS, kind_for, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _SimpleCData
    from typing import Any, Literal, Never, NoReturn, overload

    from parmap._memory.arena import Block
    from parmap._memory.transit import Ticket
    from parmap.shared._kinds import Kind

    Integers = Literal["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q"]
    Floats = Literal["f", "d"]

T = TypeVar("T")

# Bytes of the block.
_VALUE = 0
_LOCK = 64  # a line of its own: who waits for it does not slow those who read


class SharedValue(Generic[T]):
    """One value that any process can read at any time, and change without losing an update.

    ``SharedValue(0.0)`` takes its type from the initial value: bool, int (64 bits), float or one
    byte. ``SharedValue("i", 10)`` names it, with a typecode of `multiprocessing.Value` (``"?"`` is
    bool) or a simple type of ctypes; without a value it begins with zero.

    Reading takes no lock. `set`, `update`, `fetch_add` and `compare_exchange` wait for the lock
    while another one changes the value; who dies in the middle has changed nothing and keeps nobody
    waiting. None of them can be called again from inside `update`'s function: RuntimeError.

    It can be sent anywhere, and lives as long as somebody has it. Any thread may use it; a forked
    child goes on using it.

    Raises:
        TypeError: When there is no such type, or `value` is not of it.
        OverflowError: When `value` does not fit the type. Nothing wraps round.

    Example:
        >>> from parmap import SharedValue, parallel_map
        >>> highest = SharedValue(0)
        >>> def look(n):
        ...     highest.update(lambda h: max(h, n * n))
        >>> _ = parallel_map(look, range(-3, 3), max_workers=2)
        >>> highest.value
        9
    """

    __slots__ = ("__weakref__", "_block", "_cell", "_kind", "_lock")

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: SharedValue[bool], typecode: Literal["?"], value: bool = ..., /
        ) -> None: ...
        @overload
        def __init__(self: SharedValue[float], typecode: Floats, value: float = ..., /) -> None: ...
        @overload
        def __init__(
            self: SharedValue[bytes], typecode: Literal["c"], value: bytes = ..., /
        ) -> None: ...
        @overload
        def __init__(
            self: SharedValue[str], typecode: Literal["u"], value: str = ..., /
        ) -> None: ...
        @overload
        def __init__(self: SharedValue[int], typecode: Integers, value: int = ..., /) -> None: ...
        @overload
        def __init__(self, typecode: type[_SimpleCData[T]], value: T = ..., /) -> None: ...
        @overload
        def __init__(self, typecode: type[T], value: T = ..., /) -> None: ...
        @overload
        def __init__(self, value: T, /) -> None: ...

    def __init__(self, *arguments: Any) -> None:
        kind, value = _kind_and_value(arguments)
        self._open(default_arena().allocate(_LOCK + size_of()), kind)
        prepare(self._block.segment, self._block.offset + _LOCK)
        if value is not None:
            kind.write(self._cell, value)

    @property
    def value(self) -> T:
        """The value now. Takes no lock and never waits; assigning to it is refused."""
        return self._kind.read(self._cell)  # type: ignore[no-any-return]  # that is what the kind says

    @value.setter
    def value(self, value: Never) -> NoReturn:
        raise AttributeError(
            "a SharedValue is not changed by assigning value, since between reading and assigning"
            " others may have changed it: use set, fetch_add or update"
        )

    def set(self, value: T) -> None:
        """Store `value`, whatever was there.

        Raises:
            TypeError: When it is not of the type. Nothing was changed.
            OverflowError: When it does not fit the type. Nothing was changed.
        """
        value = self._kind.check(value)
        with self._lock:
            self._kind.write(self._cell, value)

    def update(self, fn: Callable[[T], T], /) -> T:
        """Store ``fn(value)`` and return it; nobody else changes the value meanwhile.

        `fn` runs once, here and under the lock, so keep it short. If it raises, or its process is
        killed in it, the value is what it was.

        Raises:
            TypeError: When `fn` is none, or what it returned is not of the type. Nothing was changed.
            OverflowError: When it does not fit the type. Nothing was changed.
            RuntimeError: When `fn` itself changes this value.
        """
        if not callable(fn):
            raise TypeError(f"fn must be a function of the value, not {type(fn).__name__}: see set")
        kind, cell = self._kind, self._cell
        with self._lock:
            value: T = kind.check(fn(kind.read(cell)))
            kind.write(cell, value)
        return value

    def fetch_add(self, n: T, /) -> T:
        """Add `n`, and return what the value was before: no two callers get the same.

        Raises:
            TypeError: When the type is no number, or `n` is none. Nothing was changed.
            OverflowError: When the sum does not fit the type. Nothing was changed.
        """
        kind, cell = self._kind, self._cell
        if not kind.number:
            raise TypeError(f"a SharedValue of {kind.code!r} is no number: use update")
        with self._lock:
            before: Any = kind.read(cell)
            kind.write(cell, kind.check(before + n))
        return before  # type: ignore[no-any-return]  # that is what the kind says

    def compare_exchange(self, old: T, new: T, /) -> bool:
        """Store `new` if the value is `old`; return whether it was.

        A NaN is equal to a NaN here, or a loop around this would never end.

        Raises:
            TypeError: When `old` or `new` is not of the type. Nothing was changed.
            OverflowError: When one does not fit the type. Nothing was changed.
        """
        kind, cell = self._kind, self._cell
        old, new = kind.check(old), kind.check(new)
        with self._lock:
            now = kind.read(cell)
            if now != old and (now == now or old == old):  # noqa: PLR0124 - NaN
                return False
            kind.write(cell, new)
        return True

    def __reduce__(self) -> tuple[Callable[..., SharedValue[Any]], tuple[object, ...]]:
        return _arrive, (self._kind, *self._block.tickets("SharedValue"))

    def __repr__(self) -> str:
        return f"<SharedValue {self._kind.code!r} {self.value!r}>"

    def _open(self, block: Block, kind: Kind) -> None:
        self._block = block
        self._kind = kind
        self._cell = block.bytes()[_VALUE : _VALUE + kind.size].cast(kind.format)  # type: ignore[call-overload]

    def __getattr__(self, name: str) -> Any:
        """Make the lock's object when it is first used: many processes only read."""
        if name != "_lock":
            raise AttributeError(f"'SharedValue' object has no attribute {name!r}")
        self._lock = mutex_of(self._block.segment, self._block.offset + _LOCK)
        return self._lock


def _arrive(kind: Kind, ticket: Ticket, number: int) -> SharedValue[Any]:
    value: SharedValue[Any] = SharedValue.__new__(SharedValue)
    value._open(arrive(ticket, number), kind)
    return value


def _kind_and_value(arguments: tuple[Any, ...]) -> tuple[Kind, Any]:
    """Return what a SharedValue is to hold, and begin with; None: zero."""
    if not 1 <= len(arguments) <= 2:
        raise TypeError("SharedValue takes an initial value, or a typecode and an initial value")
    first = arguments[0]
    kind = kind_of(first)
    if kind is not None:
        return kind, kind.check(arguments[1]) if len(arguments) == 2 else None
    kind = kind_for(first) if len(arguments) == 1 else None
    if kind is not None:
        return kind, kind.check(first)
    raise TypeError(
        f"a SharedValue cannot hold {first!r}: its type comes from an initial value (bool, int, float"
        f" or one byte) or from a typecode, one of {' '.join(KINDS)}; anything that can be pickled"
        " goes into a SharedDict or SharedList"
    )
