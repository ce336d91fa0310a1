"""A worker of a group: one function, then the end of the process, with an exit code that tells."""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from parmap._wire import frames as fr
from parmap._wire.frames import Frame, pack_frame
from parmap._wire.payload import PayloadBuilder
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
            builder.add_error(error, skip_frames=1 + frames_around(fn))
        else:
            builder.add_value(value, _result, 0)
        flush_streams()
        self._send(fr.RESULTS, builder)
        return status

    def notify(self, value: object) -> None:
        """Tell the group that this worker is ready, with a value."""
        builder = PayloadBuilder(self._codec)
        builder.add_value(value, lambda place: "value", 0)
        self._send(fr.NOTICE, builder)

    def _send(self, kind: int, builder: PayloadBuilder) -> None:
        payload = builder.build()
        flags = fr.FLAG_LAST | (fr.FLAG_FAILURES if payload.failures else 0)
        frame = Frame(
            kind, call=self._call, count=1, flags=flags, segments=payload.segments, fds=payload.fds
        )
        with self._lock:
            self._link.send_all(pack_frame(frame), frame.fds)
        payload.close()


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
        with open("/proc/self/comm", "w") as comm:
            comm.write(name[:15])
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


def forget_in_children() -> None:
    """A process that the worker forks is no worker."""
    global current
    current = None


def _result(place: int) -> str:
    return "result"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_in_children)
