"""What shall be done: the commands that the shell obeys, in order.  Frozen, imperative."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process under this number; answer with `WorkerUp`/`WorkerReady` or a death."""

    worker: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Send the items `start .. stop - 1` of a call to a worker as one chunk.

    `marked`: the worker notes each item's index before it runs it, so that its death is known to
    the item.  `stop_on_failure`: the worker gives the rest back once an item has failed.  `attempt`
    counts the runs of each of its items, this one included.
    """

    worker: int
    chunk: int
    call: int
    start: int
    stop: int
    marked: bool
    stop_on_failure: bool
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class DropChunks:
    """Tell the worker to give back what it has not run of its chunks up to this one."""

    worker: int
    chunk: int


@dataclass(frozen=True, slots=True)
class CutChunks:
    """As `DropChunks`, but what comes back is still wanted: others shall run it.

    Answer with `ChunkCut` as soon as the worker says where it has stopped.
    """

    worker: int
    chunk: int


@dataclass(frozen=True, slots=True)
class LookAt:
    """Read the worker's control page (and ask, if its items are not marked); answer with `Looked`."""

    worker: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Ask an idle worker to leave."""

    worker: int


@dataclass(frozen=True, slots=True)
class TerminateWorker:
    """Interrupt the worker's task (SIGTERM: its `finally` blocks run) and end the worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndLateWorker:
    """End the worker and its descendants, but let it write its stack down first: it is stuck."""

    worker: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker at once (SIGKILL).  `family`: and all its descendants with it."""

    worker: int
    family: bool = False


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give these outcomes to the caller: `payload` holds items `first .. first + count - 1`, which
    have been run `attempt` times each.
    """

    call: int
    first: int
    count: int
    payload: object
    attempt: int = 1


class Loss(Enum):
    """Why an item has no outcome of its own."""

    DIED = "died"  # its worker did
    LATE = "late"  # it ran longer than its call allows
    KILLED = "killed"  # its owner ended it


@dataclass(frozen=True, slots=True)
class SettleLost:
    """This item has cost its worker, or was ended while it rested (`who` is None); tell the caller."""

    call: int
    index: int
    who: object
    exitcode: int | None
    attempts: int
    why: Loss = Loss.DIED


@dataclass(frozen=True, slots=True)
class FinishCall:
    """Nothing of this call runs any more and nothing else will come."""

    call: int


@dataclass(frozen=True, slots=True)
class FailCall:
    """The engine cannot serve this call: no worker could be started, or it was shut down.

    `payload` is the encoded error of the initializer, where that was the reason.
    """

    call: int
    reason: str
    exitcode: int | None = None
    payload: object = None


# About a worker that has been started.
AboutWorker = (
    DropChunks | CutChunks | LookAt | StopWorker | TerminateWorker | EndLateWorker | KillWorker
)
Command = StartWorker | Assign | AboutWorker | Deliver | SettleLost | FinishCall | FailCall
