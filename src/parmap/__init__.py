"""parmap: a parallel call behaves like the `for` loop it replaces, only faster.

    >>> from parmap import parallel_map
    >>> parallel_map(lambda x: x * x, range(5), max_workers=2)
    [0, 1, 4, 9, 16]

The house, floor by floor; imports lead down only::

    mapping  observe  testing    one call; what is seen of it; what helps testing
    pool                         workers with a lifetime: an Executor
    _driver                      the one loop: wait, events, core, commands, launcher
    _calls  _launch              a call as its caller lives it; processes: started, watched, ended
    _worker  channel             the worker's side; what processes say to each other
    _wire  options  shared       bytes and objects; what is checked at the door; shared state
    _memory  _core  errors       the system's memory and descriptors; the decisions; errors

Everything public is imported here, when it is first used (PEP 562), so that `import parmap` is light.
"""

from __future__ import annotations

from importlib import import_module

from parmap._version import __version__ as __version__

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._calls.stream import ResultIterator as ResultIterator
    from parmap._limits import Retry as Retry
    from parmap._task import current_task as current_task
    from parmap._task import in_worker as in_worker
    from parmap._worker.member import report_ready as report_ready
    from parmap.channel import Channel as Channel
    from parmap.channel import Duplex as Duplex
    from parmap.channel import Receiver as Receiver
    from parmap.channel import Sender as Sender
    from parmap.channel import select as select
    from parmap.errors import BrokenChannelError as BrokenChannelError
    from parmap.errors import CallTimeoutError as CallTimeoutError
    from parmap.errors import ChannelEmpty as ChannelEmpty
    from parmap.errors import ChannelError as ChannelError
    from parmap.errors import ChannelFull as ChannelFull
    from parmap.errors import ClosedChannelError as ClosedChannelError
    from parmap.errors import EndOfChannel as EndOfChannel
    from parmap.errors import InternalError as InternalError
    from parmap.errors import ParmapError as ParmapError
    from parmap.errors import PoolClosedError as PoolClosedError
    from parmap.errors import RemoteError as RemoteError
    from parmap.errors import SerializationError as SerializationError
    from parmap.errors import TaskErrorGroup as TaskErrorGroup
    from parmap.errors import TaskFailure as TaskFailure
    from parmap.errors import TaskTimeoutError as TaskTimeoutError
    from parmap.errors import WorkerLostError as WorkerLostError
    from parmap.errors import WorkerStartError as WorkerStartError
    from parmap.errors import failure_of as failure_of
    from parmap.mapping import parallel_imap as parallel_imap
    from parmap.mapping import parallel_map as parallel_map
    from parmap.mapping import parallel_starmap as parallel_starmap
    from parmap.observe.profile import profile as profile
    from parmap.observe.progress import Progress as Progress
    from parmap.options import Restart as Restart
    from parmap.pool import Pool as Pool
    from parmap.pool import shutdown as shutdown
    from parmap.shared.array import SharedArray as SharedArray
    from parmap.shared.barrier import Barrier as Barrier
    from parmap.shared.condition import Condition as Condition
    from parmap.shared.counter import SharedCounter as SharedCounter
    from parmap.shared.dicts import SharedDict as SharedDict
    from parmap.shared.events import Event as Event
    from parmap.shared.lists import SharedList as SharedList
    from parmap.shared.locks import Lock as Lock
    from parmap.shared.locks import RLock as RLock
    from parmap.shared.semaphores import Semaphore as Semaphore
    from parmap.shared.value import SharedValue as SharedValue
    from parmap.workers import Worker as Worker
    from parmap.workers import WorkerGroup as WorkerGroup
    from parmap.workers import run_workers as run_workers

_HOMES = {
    "parallel_map": "parmap.mapping",
    "parallel_starmap": "parmap.mapping",
    "parallel_imap": "parmap.mapping",
    "ResultIterator": "parmap._calls.stream",
    "Pool": "parmap.pool",
    "shutdown": "parmap.pool",
    "run_workers": "parmap.workers",
    "WorkerGroup": "parmap.workers",
    "Worker": "parmap.workers",
    "Restart": "parmap.options",
    "Retry": "parmap._limits",
    "current_task": "parmap._task",
    "in_worker": "parmap._task",
    "report_ready": "parmap._worker.member",
    "Channel": "parmap.channel",
    "Sender": "parmap.channel",
    "Receiver": "parmap.channel",
    "Duplex": "parmap.channel",
    "select": "parmap.channel",
    "Lock": "parmap.shared.locks",
    "RLock": "parmap.shared.locks",
    "Semaphore": "parmap.shared.semaphores",
    "Event": "parmap.shared.events",
    "Condition": "parmap.shared.condition",
    "Barrier": "parmap.shared.barrier",
    "SharedCounter": "parmap.shared.counter",
    "SharedValue": "parmap.shared.value",
    "SharedArray": "parmap.shared.array",
    "SharedDict": "parmap.shared.dicts",
    "SharedList": "parmap.shared.lists",
    "Progress": "parmap.observe.progress",
    "profile": "parmap.observe.profile",
    "CallTimeoutError": "parmap.errors",
    "TaskTimeoutError": "parmap.errors",
    "ParmapError": "parmap.errors",
    "WorkerLostError": "parmap.errors",
    "WorkerStartError": "parmap.errors",
    "SerializationError": "parmap.errors",
    "RemoteError": "parmap.errors",
    "PoolClosedError": "parmap.errors",
    "ChannelError": "parmap.errors",
    "ClosedChannelError": "parmap.errors",
    "BrokenChannelError": "parmap.errors",
    "EndOfChannel": "parmap.errors",
    "ChannelFull": "parmap.errors",
    "ChannelEmpty": "parmap.errors",
    "InternalError": "parmap.errors",
    "TaskErrorGroup": "parmap.errors",
    "TaskFailure": "parmap.errors",
    "failure_of": "parmap.errors",
}

__all__ = [  # pyright wants the literal names
    "Barrier",
    "BrokenChannelError",
    "CallTimeoutError",
    "Channel",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "ClosedChannelError",
    "Condition",
    "Duplex",
    "EndOfChannel",
    "Event",
    "InternalError",
    "Lock",
    "ParmapError",
    "Pool",
    "PoolClosedError",
    "Progress",
    "RLock",
    "Receiver",
    "RemoteError",
    "Restart",
    "ResultIterator",
    "Retry",
    "Semaphore",
    "Sender",
    "SerializationError",
    "SharedArray",
    "SharedCounter",
    "SharedDict",
    "SharedList",
    "SharedValue",
    "TaskErrorGroup",
    "TaskFailure",
    "TaskTimeoutError",
    "Worker",
    "WorkerGroup",
    "WorkerLostError",
    "WorkerStartError",
    "current_task",
    "failure_of",
    "in_worker",
    "parallel_imap",
    "parallel_map",
    "parallel_starmap",
    "profile",
    "report_ready",
    "run_workers",
    "select",
    "shutdown",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'parmap' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
