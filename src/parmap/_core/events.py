"""What happened: the events that the shell tells the scheduler.  Frozen, past tense."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from parmap._core.retry import ONCE, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Hashable


class OnFailure(Enum):
    """What a call does once one of its items has failed."""

    STOP = "stop"  # nothing else is wanted: the failure ends the call
    FINISH_EARLIER = (
        "finish earlier"  # items before the failed one are still wanted (ordered stream)
    )
    CONTINUE = "continue"  # every item is wanted


@dataclass(frozen=True, slots=True)
class CallOpened:
    """A caller opened a call; at most `cap` workers may serve it at a time.

    No item of it may run for longer than `task_timeout` seconds.
    `items`: how many there are, if it has them all; None: `ItemsAdded` and `InputEnded` follow.
    `name`: calls of the same name cost the same per item, as far as anybody can know.
    """

    call: int
    cap: int
    chunksize: int | None
    on_failure: OnFailure
    task_timeout: float | None = None
    retry: RetryPolicy = ONCE
    items: int | None = None
    name: Hashable = None


@dataclass(frozen=True, slots=True)
class SentAhead:
    """All items of a new call were sent to this worker as this chunk, as `send_ahead` has allowed."""

    opened: CallOpened
    worker: int
    chunk: int


@dataclass(frozen=True, slots=True)
class ItemsAdded:
    """The next `count` items of a call are there; their indexes follow the earlier ones.

    `skipped`: so many before them have an outcome already and are not run (a checkpoint had it).
    """

    call: int
    count: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class InputEnded:
    """No more items will come for this call."""

    call: int


@dataclass(frozen=True, slots=True)
class ItemCancelled:
    """One item that may still wait is no longer wanted (a cancelled future)."""

    call: int
    index: int


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """The caller gave the call up.  `hurry` shortens the patience (Ctrl-C)."""

    call: int
    hurry: bool = False


@dataclass(frozen=True, slots=True)
class WaitingDropped:
    """What no worker holds of a call is no longer wanted, nor is more input; what was sent goes on."""

    call: int


@dataclass(frozen=True, slots=True)
class TaskKilled:
    """The owner of a call of one item wants that item ended, whatever it costs its worker."""

    call: int


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """The process answered for the first time; its initializer may still run."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker can take work."""

    worker: int


@dataclass(frozen=True, slots=True)
class InitializerFailed:
    """The worker's initializer raised; `payload` is that error, encoded."""

    worker: int
    payload: object


@dataclass(frozen=True, slots=True)
class ResultsArrived:
    """Outcomes of the items `first .. first + count - 1` of a chunk, in order.

    `failed` are the indexes among them that failed.  `retried`: the one item of this report failed
    with something that its call wants to be retried.  `last` closes the chunk: what it has not
    reported was not run.  `bloated`: the worker has outgrown the memory it may have.  `elapsed`
    (seconds of running) and `nbytes` (of the arguments or of the results, whatever is more) are of
    this report; `payload` is opaque here.
    """

    worker: int
    chunk: int
    first: int
    count: int
    failed: tuple[int, ...] = ()
    retried: bool = False
    last: bool = False
    bloated: bool = False
    elapsed: float = 0.0
    nbytes: int = 0
    payload: object = None


@dataclass(frozen=True, slots=True)
class ChunkCut:
    """As `CutChunks` has told it, the worker will run nothing from item `stop` on of this chunk, and
    nothing of the chunk behind it; both are still to be closed."""

    worker: int
    chunk: int
    stop: int


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The process is gone and everything that it had written has been handled.

    `running` is what its control page said: the index of the item being run, `IDLE` when no chunk
    had been begun, `UNKNOWN` when a chunk had been begun but nobody knows where in it.
    """

    worker: int
    exitcode: int | None
    running: int
    who: object = None  # opaque: whatever the shell wants to be told about it in `SettleLost`


IDLE = -1
UNKNOWN = -2


@dataclass(frozen=True, slots=True)
class Looked:
    """What a worker's control page says, as in `WorkerDied`; `began`: since when, for marked items."""

    worker: int
    running: int
    began: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerNotStarted:
    """The operating system refused to start the process."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The instant that `next_deadline` named has come."""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """No new call will come.  With `cancel` the open ones are given up, else they are finished."""

    cancel: bool


Event = (
    CallOpened
    | SentAhead
    | ItemsAdded
    | InputEnded
    | ItemCancelled
    | CallCancelled
    | WaitingDropped
    | TaskKilled
    | WorkerUp
    | WorkerReady
    | InitializerFailed
    | ResultsArrived
    | ChunkCut
    | WorkerDied
    | Looked
    | WorkerNotStarted
    | DeadlinePassed
    | ShutdownRequested
)


def told(event: Event) -> object:
    """The event as a story remembers it: without a payload, which may be large."""
    if not isinstance(event, ResultsArrived):
        return event
    return "results", event.worker, event.chunk, event.first, event.count, event.last
