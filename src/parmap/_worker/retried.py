"""What of the errors of a call is retried.  Judged here, where the error is: it is rebuilt nowhere."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

# Errors of ours whose import is slow (see `parmap.errors`) travel as their names.
_SLOW = "parmap._slow_errors"


class Retried:
    """The classes of `Retry.on`, as they came to this worker."""

    __slots__ = ("_classes",)

    def __init__(self, classes: Sequence[type[BaseException] | str]) -> None:
        self._classes = classes

    def __bool__(self) -> bool:
        return bool(self._classes)

    def covers(self, error: BaseException) -> bool:
        """Whether an item that raised this is to be run again."""
        return any(isinstance(error, cls) for cls in map(_resolved, self._classes) if cls)


def to_send(classes: Sequence[type[BaseException]]) -> list[type[BaseException] | str]:
    """The classes, as they go to a worker."""
    slow = sys.modules.get(_SLOW)
    return [cls.__name__ if getattr(slow, cls.__name__, None) is cls else cls for cls in classes]


def _resolved(cls: type[BaseException] | str) -> type[BaseException] | None:
    if not isinstance(cls, str):
        return cls
    # Nobody has imported it here: no error can be one of it.
    found: type[BaseException] | None = getattr(sys.modules.get(_SLOW), cls, None)
    return found
