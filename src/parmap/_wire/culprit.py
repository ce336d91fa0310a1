"""Which part of an object cannot be pickled? Its path goes into the error: ``args[1].lock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap.errors import SerializationError

if TYPE_CHECKING:
    from parmap._wire.pickling import Codec


def refusal(codec: Codec, obj: object, what: str, error: BaseException) -> SerializationError:
    """Return the error to raise for `obj`, which `error` has kept from being pickled."""
    path = what
    reason = f"{type(error).__name__}: {error}"
    message = f"{path} cannot be sent {codec.direction}: {reason}"
    return SerializationError(message, direction=codec.direction, path=path)
