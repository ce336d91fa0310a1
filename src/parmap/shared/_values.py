"""Values of a container: what stands for them in the copy, and those that stay in shared memory."""

from __future__ import annotations

import os

from parmap._memory.log import END, KEEPS_ORDER, STALE
from parmap._wire.messages import AS_PICKLE, ATOMS, SMALL, Parcel
from parmap.shared._following import LIMIT, TRIES, Following

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from parmap._memory.keeper import Keeper
    from parmap.shared._following import Form

    R = TypeVar("R")

_SHORT = LIMIT // 8  # a text of so many characters takes less


class Values(Following):
    """The part of a `Replica` that makes forms of values, and values of forms."""

    __slots__ = ()

    def encode(self, value: object) -> Form | Parcel:
        """Return the form of a value, or the parcel to `place`."""
        kind = type(value)
        if kind in SMALL or ((kind is str or kind is bytes) and len(value) <= _SHORT):  # type: ignore[arg-type]
            return value
        if (kind is tuple or kind is frozenset) and is_short(value):
            return (value,)
        message = self.messages.encode(value)
        return (message,) if type(message) is bytes else message

    def place(self, form: Form | Parcel) -> Form:
        """Return the form of what `encode` gave, a parcel written to its place."""
        if type(form) is not Parcel:
            return form
        tag = self._keep(form.fds) if form.fds else 0
        start = self.log.place(form.nbytes)
        placed = (form.form, start, form.nbytes, tag, len(form.fds))
        self._pending.append(placed)
        memory = self.log.memory(start + form.nbytes)
        if form.form == AS_PICKLE:
            form.write(memory, start)
        else:
            memory[start : start + form.nbytes] = form.segments[0]
        return placed

    def gain(self, form: Form) -> None:
        """A step has brought this value."""
        if type(form) is tuple and len(form) == 5:
            self.log.large.add(form[1], form[2])

    def lose(self, form: Form) -> None:
        """A step has dropped this value."""
        if type(form) is tuple and len(form) == 5:
            self.log.large.remove(form[1], form[2])
            self._gone.append(form)

    def _clean(self) -> None:
        """Let go of the parcels that this process has dropped."""
        gone, self._gone = self._gone, []
        for form in gone:
            if form[3] and self._keeper is not None:
                self._keeper.drop(form[3])
        self.log.thrift()

    def _keep(self, fds: Iterable[int]) -> int:
        """Have the keeper hold descriptors; return their tag."""
        keeper, fds = self._keeper, list(fds)
        tag = int.from_bytes(os.urandom(7), "little")
        if keeper is not None and (keeper.put(tag, fds) or self._make_room(keeper, tag, fds)):
            return tag
        from parmap.errors import SerializationError

        raise SerializationError(
            "this container cannot keep more handles alive: it holds about 270 values with parmap"
            " handles in them, fewer if a value has many; put several handles into one value"
        )

    def _make_room(self, keeper: Keeper, tag: int, fds: list[int]) -> bool:
        self._sweep(keeper)
        return keeper.put(tag, fds)

    def _sweep(self, keeper: Keeper) -> None:
        """Let go of descriptors that belong to no value: whose process was killed in between."""
        forms = [*self.forms(), *self._pending]
        keeper.keep_only({form[3] for form in forms if type(form) is tuple and len(form) == 5})

    def _give_up(self) -> None:
        """Parcels were placed, and are in no step: something has failed."""
        pending, self._pending = self._pending, []
        self.copy.seen = STALE
        self.catch_up()
        known = {form[3] for form in self.forms() if type(form) is tuple and len(form) == 5}
        for form in pending:
            if form[3] and form[3] not in known and self._keeper is not None:
                self._keeper.drop(form[3])

    def open(self, form: Form, place: Any = None) -> Any:
        """Return the value of a form, for this reader alone; `place` is where it was found."""
        if type(form) is not tuple:
            return form
        if len(form) == 1:
            value = form[0]
            return self.messages.decode(value) if type(value) is bytes else value
        return form[1] if len(form) == 2 else self._open_parcel(place)

    def _open_parcel(self, place: Any) -> Any:
        """Copy a parcel first, then see whether it still stood there afterwards."""
        for _ in range(TRIES if KEEPS_ORDER else 0):
            form = self.look(place)
            if type(form) is not tuple or len(form) != 5 or form[4]:
                break
            data = self._copy(form)
            if self.look(place) is form:
                return self.messages.decode_parcel(form[0], data, 0, form[2], ())
        form, taken, fds = self.locked(self._take_parcel, place)
        if taken is None:
            return self.open(form)
        return self.messages.decode_parcel(form[0], taken, 0, form[2], fds)

    def _take_parcel(self, place: Any) -> tuple[Form, bytes | None, list[int]]:
        form = self.look(place)
        if type(form) is not tuple or len(form) != 5:
            return form, None, []
        return form, self._copy(form), self._descriptors(form)

    def _copy(self, form: Form) -> bytes:
        end = form[1] + form[2]
        return self.log.memory(end)[form[1] : end]

    def _descriptors(self, form: Form) -> list[int]:
        if not form[4]:
            return []
        fds = None if self._keeper is None else self._keeper.copy(form[3])
        if fds is None or len(fds) != form[4]:
            from parmap.errors import InternalError

            raise InternalError("a handle in a container has lost its descriptors")
        return fds

    def steady(self, pick: Callable[[], list[Form]]) -> list[Form]:
        """Return the forms that `pick` finds at one moment, parcels opened."""
        for _ in range(TRIES if KEEPS_ORDER else 0):
            picked, at = self.at_one_moment(pick)
            parcels = self._parcels(picked)
            if any(form[4] for form in parcels.values()):
                break
            copies = {place: self._copy(form) for place, form in parcels.items()}
            if not parcels or self.words[END] == at:
                return self._opened(picked, copies, {})
        return self._opened(*self.locked(self._copy_all, pick))

    def _copy_all(
        self, pick: Callable[[], list[Form]]
    ) -> tuple[list[Form], dict[int, bytes], dict[int, list[int]]]:
        picked, _ = self.at_one_moment(pick)
        parcels = self._parcels(picked)
        copies = {place: self._copy(form) for place, form in parcels.items()}
        return picked, copies, {p: self._descriptors(form) for p, form in parcels.items()}

    def _parcels(self, picked: list[Form]) -> dict[int, Form]:
        if not self.log.large.weight:
            return {}
        return {
            place: form
            for place, form in enumerate(picked)
            if type(form) is tuple and len(form) == 5
        }

    def _opened(
        self, picked: list[Form], copies: dict[int, bytes], fds: dict[int, list[int]]
    ) -> list[Form]:
        for place, data in copies.items():
            form = picked[place]
            value = self.messages.decode_parcel(form[0], data, 0, form[2], fds.get(place, ()))
            picked[place] = (None, value)
        return picked


def is_short(values: Any) -> bool:
    """Whether a tuple or frozenset is flat, and cheaper kept than rebuilt."""
    return (
        len(values) <= 64
        and ATOMS.issuperset(map(type, values))
        and all(len(value) <= 256 for value in values if type(value) in _TEXTS)
    )


def close(made: Form | Parcel) -> None:
    """Let go of what `encode` gave: it was placed, or is given up."""
    if type(made) is Parcel:
        made.close()


_TEXTS = frozenset({str, bytes})
