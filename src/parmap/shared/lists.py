"""SharedList: a list that processes share."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from operator import index as as_index
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

from parmap._memory.log import END
from parmap._wire.messages import SMALL, Parcel
from parmap.shared._items import LAST, Items
from parmap.shared._pairs import MISSING
from parmap.shared._replica import pack, unpack
from parmap.shared._values import close

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, SupportsIndex

    from parmap.shared._following import Copy

T = TypeVar("T")
_HUGE = 1 << 62


class SharedList(MutableSequence[T]):
    """A list that any number of processes read and change, as if it were one object.

    Made as `list` is: empty, or from an iterable.  It can be sent anywhere (an argument, a closure,
    through a `Channel`, inside another container) and lives as long as somebody has it; no server
    process stands behind it.

    **Order and atomicity.**  Each method is one step for all processes: a read sees every change
    that had returned before it, whoever made it, and no half of one; `extend`, slice assignment,
    `sort` and `reverse` are one step too.  Iterating goes through what was there when the iteration
    began.  An index may mean another item a moment later, if others insert or delete.

    **Values are copies.**  Reading a mutable value gives a fresh copy: changing that is seen by
    nobody, so ``l[i].append(x)`` does nothing and ``l[i] += 1`` may lose somebody's update.  Use
    `update_item`.  Any value that can be pickled will do, lambdas and classes of ``__main__`` too;
    handles in it (a `Channel`, another `SharedList`) stay alive with it.

    **Blocking, cost and threads** are as for `SharedDict`.

    Raises:
        SerializationError: a value cannot be pickled, or its handles cannot be kept alive (about
            270 values of one container can hold handles).  Nothing was changed.

    Example:
        >>> from parmap import SharedList, parallel_map
        >>> found = SharedList()
        >>> def look(n):
        ...     if n % 7 == 0:
        ...         found.append(n)
        >>> _ = parallel_map(look, range(1, 30))
        >>> sorted(found)
        [7, 14, 21, 28]
    """

    __slots__ = ("__weakref__", "_copy", "_replica")
    _copy: Copy
    _replica: Items

    def __init__(self, values: Iterable[T] = (), /) -> None:
        self._attach(Items.create())
        self.extend(values)

    # ------------------------------------------------------------------ reading

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[T]: ...
    def __getitem__(self, index: Any, /) -> Any:
        copy = self._copy
        if copy.words[END] != copy.seen:
            self._replica.catch_up()
        if type(index) is slice:
            return self._at_one_moment(index)
        form = copy.data[index]
        return form if type(form) is not tuple else self._replica.open(form, index)

    def __len__(self) -> int:
        copy = self._copy
        if copy.words[END] != copy.seen:
            self._replica.catch_up()
        return len(copy.data)

    def __iter__(self) -> Iterator[T]:
        replica = self._replica
        return map(replica.open, replica.steady(replica.forms))

    def __reversed__(self) -> Iterator[T]:
        replica = self._replica
        return map(replica.open, reversed(replica.steady(replica.forms)))

    def __contains__(self, value: object, /) -> bool:
        return any(value is one or value == one for one in self)

    def index(self, value: Any, start: int = 0, stop: int | None = None, /) -> int:
        """Return the first index of `value`, between `start` and `stop`.  Raises ValueError."""
        return self.copy().index(value, start, *(() if stop is None else (stop,)))

    def count(self, value: Any, /) -> int:
        """Return how often `value` is there."""
        return self.copy().count(value)

    def copy(self) -> list[T]:
        """Return a plain `list` with everything that is there at one moment."""
        return list(self)

    def __add__(self, other: list[T] | SharedList[T], /) -> list[T]:
        if not isinstance(other, list | SharedList):
            return NotImplemented
        return [*self, *other]

    def __radd__(self, other: list[T], /) -> list[T]:
        if not isinstance(other, list):
            return NotImplemented
        return [*other, *self]

    def __mul__(self, times: SupportsIndex, /) -> list[T]:
        return self.copy() * times

    __rmul__ = __mul__

    def __eq__(self, other: object, /) -> bool:
        if isinstance(other, SharedList):
            return other._replica is self._replica or self.copy() == other.copy()
        return self.copy() == other if isinstance(other, list) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as a list

    def __lt__(self, other: list[T] | SharedList[T], /) -> bool:
        if not isinstance(other, list | SharedList):
            return NotImplemented
        return self.copy() < list(other)

    def __le__(self, other: list[T] | SharedList[T], /) -> bool:
        if not isinstance(other, list | SharedList):
            return NotImplemented
        return self.copy() <= list(other)

    def __gt__(self, other: list[T] | SharedList[T], /) -> bool:
        if not isinstance(other, list | SharedList):
            return NotImplemented
        return self.copy() > list(other)

    def __ge__(self, other: list[T] | SharedList[T], /) -> bool:
        if not isinstance(other, list | SharedList):
            return NotImplemented
        return self.copy() >= list(other)

    def __repr__(self) -> str:
        return self._replica.show(self)

    # ------------------------------------------------------------------ changing

    def append(self, value: T, /) -> None:
        """Add `value` at the end."""
        replica = self._replica
        form = value if type(value) in SMALL else replica.encode(value)
        try:
            if type(form) is Parcel or not (replica._fast_put or replica.fast_put())(LAST, form):
                replica.change(replica.append, form)
        finally:
            if type(form) is Parcel:
                form.close()

    @overload
    def __setitem__(self, index: SupportsIndex, value: T, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[T], /) -> None: ...
    def __setitem__(self, index: Any, value: Any, /) -> None:
        if isinstance(index, slice):
            self._set_slice(index, value)
            return
        replica, place = self._replica, as_index(index)
        form = value if type(value) in SMALL else replica.encode(value)
        try:
            if (
                place < 0
                or type(form) is Parcel
                or not (replica._fast_put or replica.fast_put())(place, form)
            ):
                replica.change(replica.set, place, form)
        finally:
            close(form)

    def __delitem__(self, index: SupportsIndex | slice, /) -> None:
        replica = self._replica
        if isinstance(index, slice):
            replica.change(replica.delete, _plain(index))
        else:
            replica.change(replica.delete_one, as_index(index))

    def insert(self, index: SupportsIndex, value: T, /) -> None:
        """Put `value` in front of the item at `index`."""
        place = as_index(index)
        # -1 is in front of the last one, as a slice says it too.
        self._set_slice(slice(place, place), (value,))

    def update_item(self, index: SupportsIndex, fn: Callable[[T], T], default: T = MISSING) -> T:
        """Replace the item at `index` by what `fn` makes of it, as one step; return the new one.

        `fn` gets a copy of the item and returns the new one; it runs once, here, while nobody else
        can change the list: keep it short.  Others can read meanwhile, and so can `fn`; changing
        this list in `fn` raises RuntimeError.  If `fn` raises, or this process is killed in it,
        nothing has changed and nobody is held up.

        Args:
            index: which item.
            fn: takes the item, and returns the new one.
            default: what `fn` gets where `index` is just behind the end; its result is appended.

        Raises:
            IndexError: there is no such item.
            TypeError: `fn` has changed the list, dict or set it was given, and returned None.
            SerializationError: the new item cannot be pickled.

        Example:
            >>> from parmap import SharedList
            >>> totals = SharedList([1, 2])
            >>> totals.update_item(0, lambda n: n + 10)
            11
        """
        replica = self._replica
        return cast("T", replica.change(replica.update, as_index(index), fn, default))

    def pop(self, index: SupportsIndex = -1, /) -> T:
        """Remove the item at `index` and return it.  Raises IndexError if there is none."""
        return cast("T", self._replica.change(self._replica.pop, as_index(index)))

    def remove(self, value: T, /) -> None:
        """Remove the first item that is equal to `value`.  Raises ValueError if there is none."""
        self._replica.change(self._replica.remove, value)

    def clear(self) -> None:
        """Remove everything."""
        self._replica.change(self._replica.delete, slice(None))

    def extend(self, values: Iterable[T], /) -> None:
        """Add the values of an iterable at the end, as one step."""
        self._set_slice(_END, values)

    def reverse(self) -> None:
        """Turn the order round."""
        self._replica.change(self._replica.reverse)

    def sort(self, *, key: Callable[[T], Any] | None = None, reverse: bool = False) -> None:
        """Sort, stable, as `list.sort` does; `key` runs while nobody else can change the list."""
        self._replica.change(self._replica.sort, key, reverse)

    def __iadd__(self, values: Iterable[T], /) -> Self:
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex, /) -> Self:
        self._replica.change(self._replica.repeat, as_index(times))
        return self

    def __reduce__(self) -> tuple[Callable[..., SharedList[Any]], tuple[object, ...]]:
        return _arrive, (type(self), *pack(self._replica, "SharedList"))

    def _attach(self, replica: Items) -> None:
        self._replica, self._copy = replica, replica.copy

    def _at_one_moment(self, place: slice) -> list[T]:
        replica = self._replica
        forms = replica.steady(lambda: self._copy.data[place])
        return list(map(replica.open, forms))

    def _set_slice(self, place: slice, values: Iterable[T]) -> None:
        replica, place = self._replica, _plain(place)
        forms: list[Any] = []
        try:
            forms += map(replica.encode, list(values))
            replica.change(replica.set_slice, place, forms)
        finally:
            for form in forms:
                close(form)


_END = slice(_HUGE, _HUGE)  # behind all there are


def _plain(place: slice) -> slice:
    """Return a slice of plain numbers."""
    parts = (place.start, place.stop, place.step)
    return slice(*(None if part is None else as_index(part) for part in parts))


def _arrive(cls: type[SharedList[Any]], ticket: Any, keeper: Any) -> SharedList[Any]:
    made = cls.__new__(cls)
    made._attach(unpack(Items, ticket, keeper))
    return made
