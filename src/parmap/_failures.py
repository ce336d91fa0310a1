"""The values that stand for failed items, and the group of them; public in :mod:`parmap.errors`."""

from __future__ import annotations

from parmap._words import short_repr

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn, Self, TypeVar

    _X = TypeVar("_X", bound=Exception)
    _B = TypeVar("_B", bound=BaseException)


class TaskErrorGroup(ExceptionGroup[Exception]):
    """Every failure of a call made with ``on_error="group"``, or of a worker group.

    ``split``, ``subgroup`` and ``except*`` keep ``results``. It is not a
    :class:`~parmap.errors.ParmapError`, so that ``except*`` catches only what it names.

    Attributes:
        results: what ``on_error="return"`` would have given: one entry per item, failures as
            :class:`TaskFailure`.

    Example:
        >>> group = TaskErrorGroup("1 of 2 items failed", [ValueError("bad")], results=[10, None])
        >>> group.subgroup(ValueError).results
        [10, None]
    """

    __module__ = "parmap.errors"
    results: list[object]

    # BaseExceptionGroup.__new__ refuses an argument that it does not know.
    def __new__(
        cls,
        message: str,
        exceptions: Sequence[Exception],
        results: Iterable[object] = (),
    ) -> Self:
        return super().__new__(cls, message, exceptions)

    def __init__(
        self, message: str, exceptions: Sequence[Exception], results: Iterable[object] = ()
    ) -> None:
        super().__init__(message, exceptions)
        # A list is kept as it is: every part that split() makes refers to the same one.
        self.results = results if type(results) is list else list(results)

    def derive(self, excs: Sequence[_X], /) -> TaskErrorGroup:  # type: ignore[override]
        """Make the group that ``split`` returns: fewer exceptions, the same results."""
        return TaskErrorGroup(self.message, excs, self.results)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_group, (type(self), self.message, self.exceptions), attributes_of(self))


def _rebuild_group(
    cls: type[TaskErrorGroup], message: str, exceptions: Sequence[Exception]
) -> TaskErrorGroup:
    return cls(message, exceptions)


class TaskFailure:
    """What stands for a failed item in the results of ``on_error="return"``; a frozen value.

    Attributes:
        index: the item's position in the input (for ``run_workers`` the rank).
        error: the exception it failed with, as the worker raised it, traceback included.
        attempts: how many times it was run.
        others: the failures of its siblings, where a call ends at the first of several.

    Example:
        >>> failure = TaskFailure(3, ValueError("bad"))
        >>> failure
        <TaskFailure of item 3: ValueError('bad')>
        >>> failure.reraise()
        Traceback (most recent call last):
        ...
        ValueError: bad
    """

    __module__ = "parmap.errors"
    __slots__ = ("attempts", "error", "index", "others")
    __match_args__ = ("index", "error")

    index: int
    error: BaseException
    attempts: int
    others: tuple[TaskFailure, ...]

    def __init__(
        self,
        index: int,
        error: BaseException,
        attempts: int = 1,
        others: Iterable[TaskFailure] = (),
    ) -> None:
        self.__setstate__((index, error, attempts, tuple(others)))

    def reraise(self) -> NoReturn:
        """Raise :attr:`error`, with the traceback that it had in the worker."""
        raise self.error

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a TaskFailure is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a TaskFailure is frozen: cannot delete {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        # Empty first, filled later: the error refers back to its failure, which the pickler must
        # have met by then.
        return (_blank_failure, (), (self.index, self.error, self.attempts, self.others))

    def __setstate__(self, state: tuple[int, BaseException, int, tuple[TaskFailure, ...]]) -> None:
        for name, value in zip(("index", "error", "attempts", "others"), state, strict=True):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        tries = "" if self.attempts == 1 else f", after {self.attempts} attempts"
        more = f", and {len(self.others)} more" if self.others else ""
        return f"<TaskFailure of item {self.index}: {short_repr(self.error)}{tries}{more}>"


def _blank_failure() -> TaskFailure:
    return TaskFailure.__new__(TaskFailure)


# Exceptions cannot be weakly referenced, so the failure sits in the exception.
FAILURE_KEY = "__parmap_failure__"
# Users' exceptions may override attribute access in any way, so theirs is not asked.
_get_dict = BaseException.__dict__["__dict__"].__get__


def attributes_of(exc: BaseException) -> dict[str, object]:
    """Return the exception's own ``__dict__``, whatever its class overrides (internal)."""
    attributes: dict[str, object] = _get_dict(exc)
    return attributes


def failure_of(exc: BaseException) -> TaskFailure | None:
    """Return which item raised this exception; None if it did not come out of a parmap call.

    Example:
        >>> failure_of(ValueError("never sent anywhere")) is None
        True
    """
    found = attributes_of(exc).get(FAILURE_KEY)
    return found if type(found) is TaskFailure else None


def attach_failure(exc: _B, failure: TaskFailure) -> _B:
    """Make ``failure_of(exc)`` find this failure, even if the exception refuses attributes."""
    attributes_of(exc)[FAILURE_KEY] = failure
    return exc


failure_of.__module__ = "parmap.errors"
