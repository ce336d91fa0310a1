"""Put exceptions together from records; see :mod:`parmap._wire.exceptions`."""

from __future__ import annotations

from parmap._failures import TaskFailure, attributes_of
from parmap._wire.anatomy import anatomy_of, find_class, full_name
from parmap._wire.records import (
    EXCEPTION,
    FAILURE,
    LIST,
    PICKLED,
    TUPLE,
    reason_of,
    set_args,
    set_cause,
    set_context,
    set_suppress,
    set_traceback,
)
from parmap._wire.tracebacks import rebuild_traceback
from parmap.errors import RemoteError

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from parmap._wire.records import Entry, Group, Loads, Record, Value


class _Lost:
    """Stands for a value that failed to unpickle."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Assembly:
    """Puts one exception and all that it refers to together.

    First every exception is made, empty; then the values, which may refer to them; then the
    exceptions are filled. So they may refer to each other in circles.
    """

    def __init__(self, records: list[Record], values: list[Value], loads: Loads) -> None:
        self.records = records
        self.values = values
        self.loads = loads
        self.made: list[BaseException | None] = [None] * len(records)
        self.loaded: dict[int, Any] = {}
        # The records whose exception is as its own hooks made it, and those with a stand-in.
        self.whole: set[int] = set()
        self.standing_in: set[int] = set()

    def run(self) -> BaseException:
        for number, record in enumerate(self.records):
            if record[13] is None:
                self.made[number] = self.make(number, record, None)
        for number in range(len(self.records)):
            if self.made[number] is None:
                self.make_group(number)
        if self.values:
            self.load_values()
        for number, record in enumerate(self.records):
            self.fill(number, self.exception(number), record)
        return self.exception(0)

    def exception(self, number: int) -> BaseException:
        made = self.made[number]
        assert made is not None, "every record makes one"
        return made

    def make_group(self, number: int) -> None:
        """Make a group, and before it the groups in it. They cannot contain each other."""
        waiting = [number]
        while waiting:
            number = waiting[-1]
            group = self.records[number][13]
            missing = [part for part in group[1] if self.made[part] is None] if group else None
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if self.made[number] is None:
                self.made[number] = self.make(number, self.records[number], group)

    def make(self, number: int, record: Record, group: Group | None) -> BaseException:
        place, name, _, _, whole, *_, losses = record
        if whole is not None:
            found = self.load(whole)
            # By name: a class that goes by value may be made anew by each unpickling.
            if issubclass(type(found), BaseException) and full_name(type(found)) == name:
                self.whole.add(number)
                rebuilt: BaseException = found
                return rebuilt
        try:
            cls = self.class_at(place)
            anatomy = anatomy_of(cls)
            if not anatomy.is_known:
                raise TypeError("only itself can make instances")
            if group is None:
                return anatomy.base.__new__(cls)
            return anatomy.base.__new__(cls, group[0], [*map(self.exception, group[1])])
        except BaseException as error:  # whatever unpickling a class may run
            if place is not None:
                losses.append(f"its class ({reason_of(error)})")
        return self.stand_in(number, record, group)

    def class_at(self, place: tuple[str, str] | int | None) -> type[BaseException]:
        found = self.load(place) if isinstance(place, int) else find_class(place or ("", ""))
        if isinstance(found, _Lost):
            raise TypeError(found.reason)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            raise TypeError(f"{found!r} is no exception class")
        return found

    def stand_in(self, number: int, record: Record, group: Group | None) -> BaseException:
        self.standing_in.add(number)
        _, name, text, formatted, *_ = record
        if group:
            # Not a RemoteError: what handles groups must still find the parts.
            stand_in = BaseExceptionGroup(group[0], [*map(self.exception, group[1])])
            record[-1].insert(0, f"its type {name}")
            return stand_in
        if formatted is None:
            formatted = _print(record)
        return RemoteError(name, text or "", formatted)

    def load(self, place: int) -> Any:
        """Return a pickled value, loaded once; a _Lost if it fails."""
        if place not in self.loaded:
            try:
                self.loaded[place] = self.loads(self.values[place][1])
            except BaseException as error:  # see the docstring of exceptions.py
                self.loaded[place] = _Lost(reason_of(error))
        return self.loaded[place]

    def load_values(self) -> None:
        for place, (kind, *_) in enumerate(self.values):
            if kind == PICKLED:
                self.load(place)
            elif kind == LIST:
                self.loaded[place] = []
            elif kind == FAILURE:
                self.loaded[place] = TaskFailure.__new__(TaskFailure)
        # Elements are never lists or tuples with elements of their own; see Disassembly.element.
        for place, (kind, *rest) in enumerate(self.values):
            if kind == TUPLE:
                self.loaded[place] = tuple(map(self.value_or_label, rest[0]))
            elif kind == LIST:
                self.loaded[place].extend(map(self.value_or_label, rest[0]))
            elif kind == FAILURE:
                index, error, attempts, others = rest
                state = (
                    index,
                    self.exception(error),
                    attempts,
                    tuple(map(self.loaded.get, others)),
                )
                self.loaded[place].__setstate__(state)

    def value(self, entry: Entry) -> object:
        if type(entry) is not tuple:
            return entry
        kind, number = entry
        return self.exception(number) if kind == EXCEPTION else self.loaded[number]

    def value_or_label(self, entry: Entry) -> object:
        value = self.value(entry)
        return f"<lost: {value.reason}>" if type(value) is _Lost else value

    def fill(self, number: int, exc: BaseException, record: Record) -> None:
        args, attributes, fields, notes, frames, cause, context, suppress, _, losses = record[5:]
        if number not in self.standing_in:
            if attributes:
                self.fill_attributes(exc, attributes, losses)
            if number not in self.whole:
                self.fill_args(exc, args, losses)
                if fields:
                    self.fill_fields(exc, fields, losses)
        if notes is not None:
            attributes_of(exc)["__notes__"] = [*map(self.value_or_label, notes)]
        if losses and number not in self.whole:
            _add_note(exc, f"(parmap) lost on the way from the worker: {'; '.join(losses)}")
        if frames:
            set_traceback(exc, rebuild_traceback(frames))
        if cause is not None:
            set_cause(exc, self.exception(cause))
        if context is not None:
            set_context(exc, self.exception(context))
        set_suppress(exc, suppress)  # last: setting a cause sets it

    def fill_args(self, exc: BaseException, args: tuple[Entry, ...], losses: list[str]) -> None:
        for entry in args:
            if type(entry) is tuple:
                break
        else:
            set_args(exc, args)
            return
        values = [*map(self.value, args)]
        for index, value in enumerate(values):
            if type(value) is _Lost:
                losses.append(f"args[{index}] ({value.reason})")
                values[index] = f"<lost: {value.reason}>"
        set_args(exc, tuple(values))

    def fill_attributes(
        self, exc: BaseException, attributes: Sequence[tuple[str, Entry]], losses: list[str]
    ) -> None:
        own = attributes_of(exc)
        for name, entry in attributes:
            value = self.value(entry)
            if type(value) is _Lost:
                losses.append(f"attribute {name!r} ({value.reason})")
            else:
                own.setdefault(name, value)  # what its own hooks made comes first

    def fill_fields(
        self, exc: BaseException, fields: Sequence[tuple[str, Entry]], losses: list[str]
    ) -> None:
        known = anatomy_of(type(exc)).fields
        for name, entry in fields:
            value = self.value(entry)
            plain = name.rpartition(".")[2]
            if type(value) is _Lost:
                if name != "AttributeError.obj":  # an extra
                    losses.append(f"attribute {plain!r} ({value.reason})")
                continue
            try:
                known[name][1](exc, value)
            except (KeyError, AttributeError, TypeError, ValueError) as error:
                losses.append(f"attribute {plain!r} ({reason_of(error)})")


def _add_note(exc: BaseException, note: str) -> None:
    notes = attributes_of(exc).setdefault("__notes__", [])
    if type(notes) is list:
        notes.append(note)


def _print(record: Record) -> str:
    import traceback  # slow to import, rarely needed

    head = ["Traceback (most recent call last):\n"]
    lines = traceback.format_tb(rebuild_traceback(record[9]))
    return "".join([*head, *lines, f"{record[1]}: {record[2] or ''}\n"])
