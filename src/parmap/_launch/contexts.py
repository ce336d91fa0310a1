"""`multiprocessing`'s own start methods, for those who ask for one, and for Windows.

The stdlib's context starts the process and carries our descriptors over; from then on the worker is
the same as any other.  One thing is taken out: the child does not import the user's `__main__`,
since functions of `__main__` travel by value and a script therefore needs no guard.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from contextlib import contextmanager
from multiprocessing import connection, spawn
from typing import TYPE_CHECKING, Any

from parmap._launch import lifeline
from parmap._launch.base import Child, Ending, pair_for_worker, reap_child
from parmap._memory.fdpass import Link
from parmap._memory.transit import export_fd, import_fd
from parmap._worker.main import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from parmap._memory.segment import Segment
    from parmap._memory.transit import Ticket

# A forkserver's child is not ours: its exit code comes through the server, a moment after the death.
_EXITCODE_PATIENCE = 1.0


class ContextLauncher:
    """Starts workers through `multiprocessing.get_context(start_method)`."""

    def __init__(self, start_method: str) -> None:
        self.start_method = start_method
        self._context: BaseContext = multiprocessing.get_context(start_method)

    def start(self, name: str, control: Segment) -> tuple[Child, Link]:
        """Start a worker.  Raises OSError when the system refuses."""
        ours, theirs = pair_for_worker()
        sock = socket.socket(fileno=theirs.detach())
        line = lifeline.for_worker()
        try:
            process = self._process(name, (sock, Inherited(line), control))
            with _without_main():
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            sock.close()
            os.close(line)
        assert process.pid is not None
        is_ours = self.start_method != "forkserver" and hasattr(os, "wait4")
        child = Child(
            process.pid, lambda: _ending(process, is_ours=is_ours), lambda: _wait(process)
        )
        return child, ours

    def end(self) -> None:
        """Nothing to do: what multiprocessing keeps, it keeps for the whole program."""

    def _process(self, name: str, args: tuple[object, ...]) -> BaseProcess:
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]  # typeshed: on the subclasses only
            target=_run_worker, name=name, args=args
        )
        return process


class Inherited:
    """A descriptor on its way to the process that is being started."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherit, (export_fd(self._fd, "descriptor"),)

    def fileno(self) -> int:
        """The number in this process."""
        return self._fd


def _inherit(ticket: Ticket) -> Inherited:
    return Inherited(import_fd(ticket))


def _run_worker(sock: socket.socket, line: Inherited, control: Segment) -> None:
    """The child's side: the same worker as any other."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    if nothing != 0:  # the stdlib replaces `sys.stdin` only
        os.dup2(nothing, 0)
        os.close(nothing)
    serve(Link.from_fd(sock.detach()), line.fileno(), control)


def _ending(process: BaseProcess, *, is_ours: bool) -> Ending:
    peak_rss = None
    if is_ours and process.pid is not None:
        # multiprocessing asks for the status only; it finds the answer there, as if it had asked.
        exitcode, peak_rss = reap_child(process.pid)
        if exitcode is not None:
            process._popen.returncode = exitcode  # type: ignore[attr-defined]
    process.join(_EXITCODE_PATIENCE)
    exitcode = process.exitcode
    if exitcode is not None:
        process.close()
    return Ending(exitcode, peak_rss)


def _wait(process: BaseProcess) -> None:
    connection.wait([process.sentinel])


_dropping = threading.local()
_preparation_data = spawn.get_preparation_data


def _get_preparation_data(name: str) -> dict[str, Any]:
    data = _preparation_data(name)
    if getattr(_dropping, "main", False):
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that this thread starts in here do not import the user's `__main__`.

    The stdlib has no switch for that.  Its one function that says what the child imports is wrapped
    once, and answers as ever to everybody but this thread.
    """
    if spawn.get_preparation_data is not _get_preparation_data:
        spawn.get_preparation_data = _get_preparation_data
    _dropping.main = True
    try:
        yield
    finally:
        _dropping.main = False
