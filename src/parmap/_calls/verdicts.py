"""Why the engine could not serve a call, as the error that the caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parmap._wire.exceptions import decode_exception
from parmap._wire.pickling import Codec
from parmap.errors import InternalError, PoolClosedError, WorkerStartError, death_in_words

if TYPE_CHECKING:
    from parmap._core.commands import FailCall


def error_of(command: FailCall, pool: str) -> BaseException:
    """The error for a call that the core has failed."""
    match command.reason:
        case "closed":
            return PoolClosedError(f"{pool} was shut down while this call was open")
        case "initializer":
            assert isinstance(command.payload, bytes)
            return decode_exception(command.payload, Codec("to worker").loads_inline)
        case "timeout":
            return WorkerStartError(
                f"the workers of {pool} did not come up in time",
                hint="something that Python runs at every start (sitecustomize, a .pth file) hangs",
            )
        case "died":
            return WorkerStartError(
                f"the workers of {pool} died before they were ready:"
                f" {death_in_words(command.exitcode)}",
                exitcode=command.exitcode,
                hint="look at what they wrote to stderr; an initializer may have ended the process,"
                " or this Python cannot start another one (sys.executable)",
            )
        case reason:
            return WorkerStartError(
                f"the system refused to start the workers of {pool}: {reason}",
                hint="the limits of processes, memory or open files (ulimit -u, -v, -n) are reached",
            )


def closed(pool: str, broken: BaseException | None) -> BaseException:
    """The error for calls that were open when the loop ended."""
    if broken is None:
        return PoolClosedError(f"{pool} was shut down while this call was open")
    error = InternalError(f"the engine of {pool} broke: {type(broken).__name__}: {broken}")
    error.__cause__ = broken
    return error
