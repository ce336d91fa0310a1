"""A call with its arguments, as `Pool.submit` sends it."""

from __future__ import annotations

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Bound:
    """A call with its arguments.  Not a `functools.partial`: that would merge two of them."""

    __slots__ = ("args", "fn", "kwargs")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def __call__(self) -> Any:
        return self.fn(*self.args, **self.kwargs)


def frames_around(fn: Callable[..., Any]) -> int:
    """How many frames of ours a call of `fn` puts around the user's."""
    return 1 if type(fn) is Bound else 0
