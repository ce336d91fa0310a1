"""Take exceptions apart into records; see :mod:`parmap._wire.exceptions`."""

from __future__ import annotations

from parmap._failures import TaskFailure, attributes_of
from parmap._wire.anatomy import anatomy_of
from parmap._wire.records import (
    ATOMS,
    EXCEPTION,
    FAILURE,
    LIST,
    PICKLED,
    TUPLE,
    VALUE,
    get_args,
    get_cause,
    get_context,
    get_exceptions,
    get_message,
    get_suppress,
    get_traceback,
    plain_record,
    reason_of,
    text_of,
)
from parmap._wire.tracebacks import flatten_traceback
from parmap._words import short_repr

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from parmap._wire.anatomy import Anatomy
    from parmap._wire.records import Dumps, Entry, Group, Record, Value
    from parmap._wire.tracebacks import FrameRecord

# An AttributeError refers to the object that lacked the attribute, for "Did you mean"; a bigger
# one is not worth sending.
_MAX_EXTRA = 65536
_MAX_SPARE_TEXT = 10_000


class _Unsendable(Exception):  # noqa: N818 - says what the value is
    """One value cannot be pickled; says why."""


class Disassembly:
    """Takes one exception apart. ``seen`` and ``values`` grow while the records are written."""

    def __init__(self, dumps: Dumps) -> None:
        self.dumps = dumps
        self.seen: list[BaseException] = []
        self.numbers: dict[int, int] = {}
        self.values: list[Value] = []
        self.places: dict[int, int] = {}
        # What was met stays alive until the end, or its id could be given to another object.
        self.alive: list[object] = []

    def run(self, exc: BaseException, skip_frames: int) -> tuple[list[Record], list[Value]]:
        """Return the records, the exception's own first, and the table of values."""
        self.number(exc)
        records: list[Record] = []
        # The list grows meanwhile: each record numbers what it refers to.
        while len(records) < len(self.seen):
            records.append(self.record(self.seen[len(records)], 0 if records else skip_frames))
        return records, self.values

    def record(self, exc: BaseException, skip_frames: int) -> Record:
        frames = flatten_traceback(get_traceback(exc), skip_frames)
        try:
            anatomy = anatomy_of(type(exc))
        except BaseException as error:  # a metaclass that raises
            lost = f"its class ({reason_of(error)})"
            return plain_record(
                "an exception", text_of(exc), _formatted(exc, skip_frames), frames, lost
            )
        try:
            return self.full_record(exc, anatomy, frames, skip_frames)
        except Exception as error:  # such as a TaskFailure that was never initialised
            lost = f"its parts ({reason_of(error)})"
            return plain_record(
                anatomy.name, text_of(exc), _formatted(exc, skip_frames), frames, lost
            )

    def number_if_any(self, exc: BaseException | None) -> int | None:
        return None if exc is None else self.number(exc)

    def number(self, exc: BaseException) -> int:
        """Return the number of an exception's record, which may still have to be written."""
        known = self.numbers.get(id(exc))
        if known is None:
            known = self.numbers[id(exc)] = len(self.seen)
            self.seen.append(exc)
        return known

    def full_record(
        self,
        exc: BaseException,
        anatomy: Anatomy,
        frames: Sequence[FrameRecord],
        skip_frames: int,
    ) -> Record:
        losses: list[str] = []
        attributes = attributes_of(exc)
        args = self.arguments(get_args(exc), losses)
        kept = self.attributes(attributes, losses) if attributes else []
        fields = self.fields(exc, anatomy, losses) if anatomy.fields else []
        notes = self.notes(attributes.get("__notes__"), losses) if attributes else None
        place: tuple[str, str] | int | None = anatomy.place
        text = formatted = whole = None
        if place is None:
            whole = self.whole(exc, anatomy, losses)
            place = self.class_place(exc, anatomy, whole, losses)
            text = text_of(exc)
            if place is None:
                formatted = _formatted(exc, skip_frames)
            else:
                text = text[:_MAX_SPARE_TEXT]  # only for the case that the class is not found
        return (
            place,
            anatomy.name,
            text,
            formatted,
            whole,
            args,
            kept,
            fields,
            notes,
            frames,
            self.number_if_any(get_cause(exc)),
            self.number_if_any(get_context(exc)),
            get_suppress(exc),
            self.group(exc) if anatomy.is_group else None,
            losses,
        )

    def group(self, exc: BaseException) -> Group:
        message: str = str.__str__(get_message(exc))  # strips a subclass
        return (message, [self.number(part) for part in get_exceptions(exc)])

    def whole(self, exc: BaseException, anatomy: Anatomy, losses: list[str]) -> int | None:
        """Return where the exception is in the table as its own hooks pickle it, if that helps.

        Part by part it arrives exactly as it was raised, so that comes first. Its hooks are asked
        where a part would be lost, for they may know how to make it anew; not for a group, whose
        parts would lose their tracebacks.
        """
        if anatomy.is_known and not (losses and anatomy.has_hooks and not anatomy.is_group):
            return None
        try:
            return self.pickled(exc)
        except _Unsendable:
            return None

    def class_place(
        self, exc: BaseException, anatomy: Anatomy, whole: int | None, losses: list[str]
    ) -> int | None:
        if whole is None and not anatomy.is_known:
            losses.append("its class (an extension's, of which only itself can make instances)")
            return None
        try:
            return self.pickled(type(exc))
        except _Unsendable as reason:
            losses.append(f"its class ({reason})")
            return None

    def arguments(self, args: tuple[object, ...], losses: list[str]) -> tuple[Entry, ...]:
        for value in args:
            if id(type(value)) not in ATOMS:
                return tuple(
                    self.entry_or_label(value, f"args[{index}]", losses)
                    for index, value in enumerate(args)
                )
        return args

    def attributes(
        self, attributes: dict[str, object], losses: list[str]
    ) -> list[tuple[str, Entry]]:
        entries = []
        for name, value in attributes.copy().items():
            if name == "__notes__" and type(value) is list:
                continue
            if type(name) is not str:
                losses.append(f"attribute {short_repr(name)} (its name is not a str)")
                continue
            try:
                entries.append((name, self.entry(value)))
            except _Unsendable as reason:
                losses.append(f"attribute {name!r} ({reason})")
        return entries

    def fields(
        self, exc: BaseException, anatomy: Anatomy, losses: list[str]
    ) -> list[tuple[str, Entry]]:
        entries = []
        for name, (get, _, starts_as_none) in anatomy.fields.items():
            try:
                value = get(exc)
                if value is not None or not starts_as_none:
                    is_extra = name == "AttributeError.obj"
                    entries.append((name, self.entry(value, is_extra=is_extra)))
            except AttributeError:
                continue  # never set
            except _Unsendable as reason:
                # Python's own pickling leaves obj out as well.
                if name != "AttributeError.obj":
                    losses.append(f"attribute {name.rpartition('.')[2]!r} ({reason})")
        return entries

    def notes(self, notes: object, losses: list[str]) -> list[Entry] | None:
        if type(notes) is not list:
            return None  # a weird one is an attribute like others
        return [
            note if type(note) is str else self.entry_or_label(note, f"__notes__[{index}]", losses)
            for index, note in enumerate(notes)
        ]

    def entry_or_label(self, value: object, name: str, losses: list[str]) -> Entry:
        """Return what stands for a value; where it cannot be sent, its repr, for others to read."""
        try:
            return self.entry(value)
        except _Unsendable as reason:
            losses.append(f"{name}, here as text ({reason})")
            return short_repr(value, limit=1000)

    def entry(self, value: Any, *, is_extra: bool = False) -> Entry:
        """Return what stands for a value; raises _Unsendable."""
        cls = type(value)
        if id(cls) in ATOMS:
            if is_extra and (cls is str or cls is bytes) and len(value) > _MAX_EXTRA:
                raise _Unsendable("too big")
            return value
        if issubclass(cls, BaseException):
            return (EXCEPTION, self.number(value))
        if cls is TaskFailure:
            return (VALUE, self.failure(value))
        if cls is list or cls is tuple:
            return (VALUE, self.sequence(value, is_extra=is_extra))
        return (VALUE, self.pickled(value, is_extra=is_extra))

    def table(self, value: object, item: Value) -> int:
        place = self.places[id(value)] = len(self.values)
        self.values.append(item)
        self.alive.append(value)
        return place

    def pickled(self, value: object, *, is_extra: bool = False) -> int:
        known = self.places.get(id(value))
        if known is not None:
            return known
        try:
            data = self.dumps(value)
        except BaseException as error:  # see the module's docstring
            raise _Unsendable(reason_of(error)) from None
        if is_extra and len(data) > _MAX_EXTRA:
            raise _Unsendable("too big")
        return self.table(value, (PICKLED, data))

    def failure(self, failure: TaskFailure) -> int:
        known = self.places.get(id(failure))
        if known is not None:
            return known
        others: list[int] = []
        number = self.number(failure.error)
        place = self.table(failure, (FAILURE, failure.index, number, failure.attempts, others))
        others += [self.failure(other) for other in failure.others]
        return place

    def sequence(self, value: list[object] | tuple[object, ...], *, is_extra: bool = False) -> int:
        """Encode a list or tuple element by element if exceptions are in it, else as a whole.

        They often are: in a group's ``args`` and ``results``, in ``errors`` attributes. The
        exceptions must stay the same objects, with their tracebacks.
        """
        known = self.places.get(id(value))
        if known is not None:
            return known
        if not any(issubclass(type(part), (BaseException, TaskFailure)) for part in value):
            return self.pickled(value, is_extra=is_extra)
        entries: list[Entry] = []
        place = self.table(value, (LIST if type(value) is list else TUPLE, entries))
        entries += [self.element(part) for part in value]
        return place

    def element(self, value: object) -> Entry:
        """Return the entry of a list's element; containers in containers go as a whole."""
        try:
            if type(value) is list or type(value) is tuple:
                return (VALUE, self.pickled(value))
            return self.entry(value)
        except _Unsendable as reason:
            return f"<lost: {reason}>"


def _formatted(exc: BaseException, skip_frames: int) -> str:
    """Print the exception alone; what it refers to travels by itself."""
    import traceback  # slow to import, rarely needed

    tb = get_traceback(exc)
    while tb is not None and skip_frames:
        tb, skip_frames = tb.tb_next, skip_frames - 1
    try:
        return "".join(traceback.format_exception(type(exc), exc, tb, chain=False))
    except BaseException as error:  # a user's __str__
        return f"(could not be printed: {reason_of(error)})"
