"""A worker of a group: one function, then the end of the process, with an exit code that tells."""

from __future__ import annotations

import marshal
import os
import sys
from _thread import allocate_lock

from parmap._wire import frames as fr
from parmap._wire.frames import Frame, pack_frame
from parmap._wire.payload import PayloadBuilder
from parmap._worker import output
from parmap._worker.bound import frames_around
from parmap._worker.hygiene import Terminated, flush_streams

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap._memory.fdpass import Link
    from parmap._wire.pickling import Codec

# The member that this process is, once its function is about to run.
current: Member | None = None


class Member:
    """What this process tells the group, from any of its threads."""

    def __init__(self, link: Link, codec: Codec, call: int) -> None:
        self._link = link
        self._codec = codec
        self._call = call
        self._lock = allocate_lock()

    def run(self, fn: Callable[[], Any]) -> int:
        """Run the function and report; returns the exit code."""
        status, value = 0, None
        error: BaseException | None = None
        obeying = False
        try:
            value = fn()
        except Terminated:
            raise
        except SystemExit as exit_:
            status = exit_code(exit_)
            error = exit_ if status else None
        except BaseException as failure:  # whatever it is, the group is told
            status, error = 1, failure
        builder = PayloadBuilder(self._codec)
        if error is not None:
            obeying = _raised_on_the_way_out(error)
            builder.add_error(error, skip_frames=1 + frames_around(fn))
        else:
            builder.add_value(value, _result, 0)
        flush_streams()
        failed = self._send(fr.RESULTS, builder, obeying=obeying)
        _leave_as_processes_do()
        return 1 if failed and not status else status

    def notify(self, value: object) -> None:
        """Tell the group that this worker is ready, with a value."""
        builder = PayloadBuilder(self._codec)
        builder.add_value(value, lambda place: "value", 0)
        self._send(fr.NOTICE, builder)

    def tell_parked(self, claims: list[tuple[int, int, int]]) -> None:
        """Tell the group what this worker waits for, if it can do nothing else meanwhile."""
        if not _alone():
            return
        data = marshal.dumps(claims)
        with self._lock:
            self._link.send_all(pack_frame(Frame(fr.PARKED, call=self._call, segments=[data])))

    def _send(self, kind: int, builder: PayloadBuilder, *, obeying: bool = False) -> bool:
        """Send what was built; whether that is a failure, say of pickling."""
        payload = builder.build()
        frame = Frame(
            kind,
            call=self._call,
            count=1,
            flags=fr.FLAG_LAST
            | (fr.FLAG_FAILURES if payload.failures else 0)
            | (fr.FLAG_WROTE if output.took_word() else 0),
            extra=int(obeying),
            segments=payload.segments,
            fds=payload.fds,
        )
        with self._lock:
            self._link.send_all(pack_frame(frame), frame.fds)
        payload.close()
        return payload.failures


def _alone() -> bool:
    """Whether this process has no other thread and no children that could act."""
    threading = sys.modules.get("threading")
    process = sys.modules.get("multiprocessing.process")
    return (threading is None or threading.active_count() == 1) and not (
        process is not None and process._children
    )


def report_ready(value: object = None) -> None:
    """Tell the group that this worker is ready; `WorkerGroup.ready` returns `value` then.

    Call it in a worker that `WorkerGroup.start` or `run_workers` started, from any thread, as often
    as you like: the latest value counts.  Never waits for the parent.

    Args:
        value: anything that can be pickled: a port, an address, a channel's end.

    Raises:
        RuntimeError: this process is no worker of a group.
        SerializationError: `value` cannot be pickled (raised by `WorkerGroup.ready`).

    Example:
        >>> import parmap
        >>> def serve():
        ...     parmap.report_ready("listening")
        >>> with parmap.WorkerGroup() as group:
        ...     group.ready(group.start(serve))
        'listening'
    """
    if current is None:
        raise RuntimeError("report_ready is for workers of a WorkerGroup, and this process is none")
    current.notify(value)


def become(name: str, parent: tuple[str, int], lifeline: int) -> None:
    """Let `multiprocessing`, `ps` and log records tell the truth about this process."""
    from multiprocessing import process

    me = process.current_process()
    me.name = name
    me._parent_pid = parent[1]  # type: ignore[attr-defined]  # as multiprocessing's own children have
    process._parent_process = process._ParentProcess(*parent, lifeline)  # type: ignore[attr-defined]
    try:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(name.encode(errors="replace")[:15])
    except OSError:
        return  # not Linux: `ps` shows the interpreter


def exit_code(error: SystemExit) -> int:
    """The status that Python would leave with."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _raised_on_the_way_out(error: BaseException | None) -> bool:
    """Whether SIGTERM had come before: the error is then of a `finally` block or a handler."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, Terminated):
            return True
        seen.add(id(error))
        error = error.__context__
    return False


def _leave_as_processes_do() -> None:
    """What Python does at the end of a process, and `os._exit` does not.

    As `multiprocessing`'s children: threads that are no daemons finish, queues are flushed, daemonic
    children are ended.  The group has the report by then: if this takes too long, it is killed.
    """
    # Only what has been imported can have left something to do.  Pools and groups go before
    # multiprocessing, which waits for its children, and theirs may be among them.
    last = (
        ("threading", "_shutdown"),
        ("parmap._living", "finish_all"),
        ("parmap._worker.hygiene", "leave_barriers"),
        ("multiprocessing.util", "_exit_function"),
    )
    try:
        for module, function in last:
            if module in sys.modules:
                getattr(sys.modules[module], function)()
    except Terminated:
        raise
    except BaseException as error:  # what a finalizer raises is shown, as at any process's end
        sys.excepthook(type(error), error, error.__traceback__)


def forget_in_children() -> None:
    """A process that the worker forks is no worker."""
    global current
    current = None


def _result(place: int) -> str:
    return "result"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_in_children)
