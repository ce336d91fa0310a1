"""The portable way: a fresh interpreter for each worker.

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
_MAIN = "import sys; sys.path.insert(0, {home!r}); from {module} import main; main{fds}"


class PopenLauncher:
    """Starts each worker with `subprocess.Popen`."""

    start_method = "popen"

    def start(self, name: str, control: Segment) -> tuple[Child, Link]:
        """Start a worker.  Raises OSError when the system refuses."""
        with ExitStack() as undo:
            ours, theirs = pair_for_worker()
            undo.callback(ours.close)
            fds = [theirs.detach(), lifeline.for_worker(), duplicate(control.fileno())]
            with ExitStack() as ended:
                for fd in fds:
                    ended.callback(close_quietly, fd)
                process = run_main("parmap._worker.main", fds)
            child = Child(
                process.pid, lambda: _reap(process), lambda: _wait_without_reaping(process.pid)
            )
            undo.pop_all()
        return child, ours

    def end(self) -> None:
        """Nothing to do: no worker has anything in common with another."""


def run_main(module: str, fds: list[int], *, output: int | None = None) -> subprocess.Popen[bytes]:
    """Run `module.main(*fds)` in a fresh interpreter like this one.  Raises OSError."""
    if not sys.executable:
        raise OSError("sys.executable is not set: this Python cannot start another one")
    code = _MAIN.format(home=_HOME, module=module, fds=tuple(fds))
    return subprocess.Popen(
        [sys.executable, *interpreter_flags(), "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=fds,
    )


def interpreter_flags() -> list[str]:
    """The options of Python that make another interpreter like this one."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # multiprocessing uses it too
    # -P: a file of the current folder must not shadow a module of the standard library.
    return flags if "-P" in flags else [*flags, "-P"]


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
