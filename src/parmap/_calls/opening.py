"""What a call over workers is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from parmap._calls import surroundings
from parmap._calls.captured import warn_of_size
from parmap._calls.references import named
from parmap._calls.remote import RemoteCall, encode_function, has_terms
from parmap._limits import NO_LIMITS, Limits
from parmap._wire.mapped import in_file
from parmap._wire.pickling import Codec
from parmap._wire.variables import carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._calls.engine import Engine
    from parmap._core.events import OnFailure

AnyCall = TypeVar("AnyCall", bound=RemoteCall)


def remote_call(
    kind: type[AnyCall],
    engine: Engine,
    fn: Callable[..., Any],
    *,
    star: bool,
    cap: int,
    chunksize: int | None,
    on_failure: OnFailure,
    limits: Limits,
) -> AnyCall:
    """Encode the function; the engine does not know the call yet."""
    codec = Codec("to worker")
    variables = carried()
    name = named(fn)
    # What a worker keeps comes without limits.
    kept = name if limits == NO_LIMITS and not variables else None
    function = kept or encode_function(codec, fn, "fn", limits, variables)
    warn_of_size(fn, function, cap)
    here = surroundings.of_call()
    return kind(
        engine,
        in_file(function, cap),
        star=star,
        cap=cap,
        chunksize=chunksize,
        on_failure=on_failure,
        surroundings=here,
        codec=codec,
        by_reference=kept is not None,
        known_as=None if name is None else bytes(name.data),
        limits=limits,
        has_terms=has_terms(limits, variables),
    )
