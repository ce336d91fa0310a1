"""The steps of a shared list."""

from __future__ import annotations

from parmap.shared._fast import PUT
from parmap.shared._pairs import MISSING
from parmap.shared._replica import Replica
from parmap.shared._values import close

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from parmap._wire.messages import Parcel
    from parmap.shared._following import Form

ONE = PUT  # an index, or LAST to append
SLICE, DELETE, REVERSE, ORDER, RESET = range(1, 6)
LAST = -1


class Items(Replica):
    """A shared list as one process has it."""

    __slots__ = ()

    def new(self) -> list[Form]:
        return []

    def forms(self) -> list[Form]:
        return list(self.copy.data)

    def snapshot(self) -> tuple[Any, ...]:
        return RESET, self.copy.data

    def take(self, data: list[Form], step: tuple[Any, ...]) -> None:
        kind = step[0]
        if kind == ONE:
            self._take_one(data, step[1], step[2])
        elif kind == SLICE:
            _, start, stop, stride, forms = step
            place = slice(start, stop, stride)
            self._lose(data, place)
            data[place] = forms
            for form in forms:
                self.gain(form)
        elif kind == DELETE:
            _, start, stop, stride = step
            self._lose(data, slice(start, stop, stride))
            del data[start:stop:stride]
        elif kind == REVERSE:
            data.reverse()
        elif kind == ORDER:
            data[:] = [data[index] for index in step[1]]
        else:  # RESET: to an empty copy
            data += step[1]
            for form in data:
                self.gain(form)

    def _take_one(self, data: list[Form], index: int, form: Form) -> None:
        if index == LAST:
            data.append(form)
        else:
            self.lose(data[index])
            data[index] = form
        self.gain(form)

    def _lose(self, data: list[Form], place: slice) -> None:
        for form in data[place] if self.log.large.weight else ():
            self.lose(form)

    # ------------------------------------------------------------------ changes

    def append(self, form: Form | Parcel) -> None:
        self.put(ONE, LAST, self.place(form))

    def set(self, index: int, form: Form | Parcel) -> None:
        self.put(ONE, self.index(index, "assignment "), self.place(form))

    def set_slice(self, place: slice, forms: list[Form | Parcel]) -> None:
        count = len(range(*place.indices(len(self.copy.data))))
        if place.step not in (None, 1) and len(forms) != count:
            raise ValueError(
                f"attempt to assign sequence of size {len(forms)} to extended slice of size {count}"
            )
        if forms or count:
            placed = [self.place(form) for form in forms]
            self.put(SLICE, place.start, place.stop, place.step, placed)

    def delete(self, place: slice) -> None:
        if range(*place.indices(len(self.copy.data))):
            self.put(DELETE, place.start, place.stop, place.step)

    def delete_one(self, index: int) -> None:
        index = self.index(index, "assignment ")
        self.put(DELETE, index, index + 1, None)

    def pop(self, index: int) -> Any:
        if not self.copy.data:
            raise IndexError("pop from empty list")
        try:
            index = self.index(index)
        except IndexError:
            raise IndexError("pop index out of range") from None
        value = self.open(self.copy.data[index], index)
        self.put(DELETE, index, index + 1, None)
        return value

    def remove(self, value: object) -> None:
        for index, form in enumerate(self.forms()):
            one = self.open(form, index)
            if one is value or self.call(_equal, one, value):
                self.put(DELETE, index, index + 1, None)
                return
        raise ValueError("list.remove(x): x not in list")

    def repeat(self, times: int) -> None:
        if times < 1:
            self.delete(slice(None))
        elif times > 1:
            values = [self.open(form, index) for index, form in enumerate(self.forms())]
            self.extend(values * (times - 1))

    def extend(self, values: Iterable[object]) -> None:
        forms: list[Any] = []
        try:
            forms += map(self.encode, values)
            end = len(self.copy.data)
            self.set_slice(slice(end, end), forms)
        finally:
            for form in forms:
                close(form)

    def reverse(self) -> None:
        if self.copy.data:
            self.put(REVERSE)

    def sort(self, key: Callable[[Any], Any] | None, reverse: bool) -> None:
        values = [self.open(form, index) for index, form in enumerate(self.forms())]
        keys = values if key is None else [self.call(key, value) for value in values]
        order = self.call(_order, keys, reverse)
        if order != list(range(len(order))):
            self.put(ORDER, order)

    def update(self, index: int, fn: Callable[[Any], Any], default: Any) -> Any:
        if default is not MISSING and index == len(self.copy.data):
            return self.replace(ONE, LAST, self.fresh(default), None, fn)
        index = self.index(index)
        return self.replace(ONE, index, self.copy.data[index], index, fn)

    def index(self, index: int, what: str = "") -> int:
        """Return an index that counts from the front.  Raises IndexError."""
        length = len(self.copy.data)
        if not -length <= index < length:
            raise IndexError(f"list {what}index out of range")
        return index + length if index < 0 else index


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


def _order(keys: list[Any], reverse: bool) -> list[int]:
    return sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
