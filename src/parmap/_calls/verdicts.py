"""Why the engine could not serve a call, as the error that the caller gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from parmap._core.commands import Loss
from parmap._wire.exceptions import decode_exception
from parmap._wire.pickling import Codec
from parmap.errors import (
    InternalError,
    PoolClosedError,
    TaskTimeoutError,
    WorkerLostError,
    WorkerStartError,
    death_in_words,
    start_refused,
)

if TYPE_CHECKING:
    from parmap._calls.news import Lost
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
            return start_refused(f"the system refused to start the workers of {pool}: {reason}")


def error_of_lost(lost: Lost) -> TaskTimeoutError | WorkerLostError:
    """The error of an item that has cost its worker."""
    dead = lost.dead
    stack = None if dead is None else dead.stack
    if lost.why is Loss.LATE:
        return TaskTimeoutError(index=lost.index, stack=stack)
    message = ""
    if lost.why is Loss.KILLED:
        while_ = "" if dead is not None else " while it waited for its next attempt"
        message = f"the task was ended by Pool.kill{while_}"
    return WorkerLostError(
        message,
        index=lost.index,
        exitcode=lost.exitcode,
        attempts=lost.attempts,
        stack=stack,
        peak_rss=None if dead is None else dead.peak_rss,
        oom_kills=None if dead is None else dead.oom_kills,
    )


def closed(pool: str, broken: BaseException | None) -> BaseException:
    """The error for calls that were open when the loop ended."""
    if broken is None:
        return PoolClosedError(f"{pool} was shut down while this call was open")
    error = InternalError(f"the engine of {pool} broke: {type(broken).__name__}: {broken}")
    error.__cause__ = broken
    return error


def refused(pool: str, broken: BaseException | None, owner: int) -> PoolClosedError:
    """The error for a call that comes to a closed pool, or to one of another process."""
    if owner != os.getpid():
        return PoolClosedError(
            f"{pool} belongs to the process that made it; make one of your own here"
        )
    cure = "make a new Pool, or stay inside its `with` block"
    told = f": {broken}" if broken else f" and takes no more work: {cure}"
    return PoolClosedError(f"{pool} has been shut down{told}")
