"""The default way: a fresh interpreter for each worker.

Nothing of the parent's state can deadlock it (no fork of a threaded process), and the user's
`__main__` is never imported, so a script needs no guard.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import parmap
from parmap._launch import lifeline
from parmap._launch.base import Child, Ending, pair_for_worker, reap_child
from parmap._memory.host import close_quietly, duplicate

if TYPE_CHECKING:
    from parmap._memory.fdpass import Link
    from parmap._memory.segment import Segment

# The worker must find this very parmap before it knows the caller's sys.path.
_HOME = str(Path(parmap.__file__).resolve().parent.parent)
_MAIN = "import sys; sys.path.insert(0, {home!r}); from parmap._worker.main import main; main{fds}"


class PopenLauncher:
    """Starts each worker with `subprocess.Popen`."""

    start_method = "popen"

    def start(self, name: str, control: Segment) -> tuple[Child, Link]:
        """Start a worker.  Raises OSError when the system refuses."""
        if not sys.executable:
            raise OSError("sys.executable is not set: this Python cannot start another one")
        with ExitStack() as undo:
            ours, theirs = pair_for_worker()
            undo.callback(ours.close)
            fds = [theirs.detach(), lifeline.for_worker(), duplicate(control.fileno())]
            with ExitStack() as ended:
                for fd in fds:
                    ended.callback(close_quietly, fd)
                process = self._popen(fds)
            child = Child(
                process.pid, lambda: _reap(process), lambda: _wait_without_reaping(process.pid)
            )
            undo.pop_all()
        return child, ours

    def _popen(self, fds: list[int]) -> subprocess.Popen[bytes]:
        code = _MAIN.format(home=_HOME, fds=tuple(fds))
        # -P: a file of the current folder must not shadow a module of the standard library.
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # multiprocessing uses it too
        if "-P" not in flags:
            flags.append("-P")
        return subprocess.Popen(
            [sys.executable, *flags, "-c", code], stdin=subprocess.DEVNULL, pass_fds=fds
        )


def _reap(process: subprocess.Popen[bytes]) -> Ending:
    ending = reap_child(process.pid)
    # Tell the Popen object, or its finaliser warns of a running process and tries to reap it.
    process.returncode = 0 if ending.exitcode is None else ending.exitcode
    return ending


def _wait_without_reaping(pid: int) -> None:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # reaped by a stranger: it is dead all the same
