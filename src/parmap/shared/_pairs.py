"""The steps of a shared dict.

A plain key (numbers, texts, tuples of them) is in a step as it is.  Another one is odd: in a step it
is ``[record]``, a list, which no key can be.  Two records may stand for equal keys, if two processes
have pickled them; the first one stays.
"""

from __future__ import annotations

from parmap._memory.log import END
from parmap._wire.messages import ATOMS, Parcel
from parmap.shared._fast import PUT
from parmap.shared._replica import Replica

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from parmap.shared._following import Form

SET = PUT
DELETE, MANY, CLEAR, RESET, RESET_ODD = range(1, 6)
MISSING: Any = object()


class Unreadable:
    """Stands for a key that cannot be rebuilt in this process; all else can be used."""

    __slots__ = ("error", "record")

    def __init__(self, record: bytes, error: Exception) -> None:
        self.record = record
        self.error = error

    def refuse(self) -> NoReturn:
        """Raise: somebody wants to see it."""
        from parmap.errors import SerializationError

        raise SerializationError(
            f"a key of this shared dict cannot be rebuilt here: {self.error}"
        ) from self.error


class Pairs(Replica):
    """A shared dict as one process has it."""

    __slots__ = ("known", "odd")

    def new(self) -> dict[Any, Form]:
        self.odd: dict[Any, bytes] = {}
        self.known: dict[bytes, Any] = {}
        return {}

    def forms(self) -> list[Form]:
        return list(self.copy.data.values())

    def snapshot(self) -> tuple[Any, ...]:
        if not self.odd:
            return RESET, self.copy.data
        flat: list[Any] = []
        for key, form in self.copy.data.items():
            record = self.odd.get(key)
            flat += (key if record is None else [record], form)
        return RESET_ODD, flat

    def take(self, data: dict[Any, Form], step: tuple[Any, ...]) -> None:
        kind = step[0]
        if kind == SET:
            self._set(data, step[1], step[2])
        elif kind == DELETE:
            self._delete(data, step[1])
        elif kind in (MANY, RESET_ODD):
            pairs = iter(step[1])
            for key, form in zip(pairs, pairs, strict=True):
                self._set(data, key, form)
        elif kind == CLEAR:
            for form in data.values() if self.log.large.weight else ():
                self.lose(form)
            data.clear()
            self.odd.clear()
            self.known.clear()
        else:  # RESET: to an empty copy
            data |= step[1]
            for form in data.values():
                self.gain(form)

    def _set(self, data: dict[Any, Form], key: Any, form: Form) -> None:
        if type(key) is list:
            record = key[0]
            key = self._rebuilt(record)
            if key not in data:  # a plain key may be equal to it: that one stays
                self.odd[key] = record
        if self.log.large.weight:
            self.lose(data.get(key))
        if type(form) is tuple:
            self.gain(form)
        data[key] = form

    def _delete(self, data: dict[Any, Form], key: Any) -> None:
        if type(key) is list:
            key = self._rebuilt(key[0])
        if self.odd and (record := self.odd.pop(key, None)) is not None:
            self.known.pop(record, None)
        self.lose(data.pop(key))

    def _rebuilt(self, record: bytes) -> Any:
        """Return the key that a record stands for, always the same object."""
        key = self.known.get(record)
        if key is None:
            try:
                key = self.messages.decode(record)
                hash(key)
            except Exception as error:  # only this key is out of reach
                key = Unreadable(record, error)
            self.known[record] = key
        return key

    # ------------------------------------------------------------------ keys

    def key(self, key: Any) -> Any:
        """Return how a key stands in a step.  Raises TypeError if it cannot be one."""
        if is_plain(key):
            return key
        if type(key) is Unreadable:
            return [key.record]
        hash(key)  # raises TypeError as a dict does
        if self.words[END] != self.copy.seen:
            self.catch_up()
        return [self.odd.get(key) or self._record_of(key)]

    def _record_of(self, key: Any) -> bytes:
        record = self.messages.encode(key)
        if isinstance(record, Parcel):
            handles = len(record.fds)
            record.close()
            what = "holds a parmap handle" if handles else f"takes {record.nbytes} bytes"
            raise TypeError(
                f"a key of a shared dict must be small and without handles: this {what}"
            )
        copy = self.messages.decode(record)
        if copy != key or hash(copy) != hash(key):
            raise TypeError(
                f"this key of a shared dict, a {type(key).__name__}, is not equal to its own copy, so"
                " no process could find it: give its class __eq__ and __hash__, or use a text or"
                " number instead"
            )
        self.known.setdefault(record, copy)
        return record

    # ------------------------------------------------------------------ changes

    def set(self, key: Any, form: Form | Parcel) -> None:
        self.put(SET, key, self.place(form))

    def set_many(self, pairs: Iterable[tuple[Any, Form | Parcel]]) -> None:
        flat: list[Any] = []
        for key, form in pairs:
            flat += key, self.place(form)
        if flat:
            self.put(MANY, flat)

    def delete(self, key: Any) -> None:
        if key not in self.copy.data:
            raise KeyError(key)
        self.put(DELETE, self.key(key))

    def pop(self, key: Any, default: Any) -> Any:
        form = self.copy.data.get(key, MISSING)
        if form is MISSING:
            if default is MISSING:
                raise KeyError(key)
            return default
        value = self.open(form, key)
        self.put(DELETE, self.key(key))
        return value

    def pop_item(self) -> tuple[Any, Any]:
        if not self.copy.data:
            raise KeyError("popitem(): the shared dict is empty")
        key = next(reversed(self.copy.data))
        return shown(key), self.pop(key, MISSING)

    def set_default(self, key: Any, wire: Any, form: Form | Parcel) -> Any:
        if key not in self.copy.data:
            self.put(SET, wire, self.place(form))
        return self.open(self.copy.data[key], key)

    def clear(self) -> None:
        if self.copy.data:
            self.put(CLEAR)

    def update(self, key: Any, wire: Any, fn: Callable[[Any], Any], default: Any) -> Any:
        form = self.copy.data.get(key, MISSING)
        if form is MISSING:
            if default is MISSING:
                raise KeyError(key)
            form = self.fresh(default)
        return self.replace(SET, wire, form, key, fn)


def is_plain(key: Any) -> bool:
    """Whether `marshal` gives this key back, equal and immutable."""
    kind = type(key)
    if kind in ATOMS:
        return True
    if kind is tuple:
        return all(map(is_plain, key))
    return kind is frozenset and ATOMS.issuperset(map(type, key))


def shown(key: Any) -> Any:
    """Return a key that a user shall see; raise if it cannot be rebuilt here."""
    if type(key) is Unreadable:
        key.refuse()
    return key
