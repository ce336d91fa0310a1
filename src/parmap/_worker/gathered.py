"""What the items of a chunk have come to, until it is reported."""

from __future__ import annotations

from parmap._wire.payload import PayloadBuilder, pack_values

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from parmap._wire.payload import Payload
    from parmap._wire.pickling import Codec


class Raised:
    """An outcome that is an error.  One object, so that it is there as a whole or not at all."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def pack_outcomes(
    outcomes: Sequence[Any], codec: Codec, skip_frames: int, *, errors: bool
) -> Payload:
    """`errors`: there may be some among them."""
    if not errors:
        return pack_values(outcomes, codec, _result)
    builder = PayloadBuilder(codec)
    for place, value in enumerate(outcomes):
        if type(value) is Raised:
            builder.add_error(value.error, skip_frames=skip_frames)
        else:
            builder.add_value(value, _result, place)
    return builder.build()


def _result(place: int) -> str:
    return "result"
