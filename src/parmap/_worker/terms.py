"""What a call tells its workers beside the function: what is retried, the seed, context variables."""

from __future__ import annotations

from _contextvars import ContextVar, copy_context

from parmap._wire.variables import variable_at
from parmap._worker.retried import Retried

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from _contextvars import Context
    from collections.abc import Callable, Sequence
    from typing import Any

    from parmap._wire.variables import Carried, Place


class Terms:
    """As they came to this worker."""

    __slots__ = ("context", "retried", "seed")

    def __init__(
        self,
        reasons: Sequence[type[BaseException] | str] = (),
        seed: int | None = None,
        carried: Sequence[Carried | None] = (),
    ) -> None:
        """Of `carried`, None stands for what could not travel."""
        self.retried = Retried(reasons)
        self.seed = seed
        self.context: Context | None = None  # of which each item gets a copy
        pairs = [pair for each in carried if each and (pair := _found(*each))]
        if pairs:
            self.context = copy_context()
            for variable, value in pairs:
                self.context.run(variable.set, value)

    def around(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the caller's context variables set; one frame more."""
        context = self.context
        assert context is not None
        return lambda *args: context.copy().run(fn, *args)


def _found(
    places: list[Place] | None, variable: Any, value: object
) -> tuple[ContextVar[Any], object] | None:
    if places is not None:
        try:
            variable = variable_at(places)
        except BaseException:
            return None  # it can be imported from nowhere: then nothing here can read it either
    return (variable, value) if isinstance(variable, ContextVar) else None
