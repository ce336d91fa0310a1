"""Debugging a program that is stuck: what environment variables switch on.

* ``PARMAP_DEBUG=1``: the core checks its books after each event.
* ``PARMAP_TRACE=file``: every event is written there, a line of JSON each, by all processes that have
  pools; ``python -m parmap.testing replay file`` runs them through the core again.
* ``PARMAP_STACKS=1``: SIGUSR1 dumps the stacks of all threads of this process and its workers to
  stderr.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from parmap._core.scheduler import Scheduler
from parmap._hold import runs_at_once

if TYPE_CHECKING:
    from parmap._core.events import Event


def new_scheduler(name: str, **options: Any) -> Scheduler:
    """The scheduler of a pool, watched if the environment says so."""
    checked, path = os.environ.get("PARMAP_DEBUG") == "1", os.environ.get("PARMAP_TRACE")
    if not checked and not path:
        return Scheduler(**options)
    from parmap._core.trace import WatchedScheduler, to_plain

    if not path:
        return WatchedScheduler(checked=checked, **options)
    core = f"{os.getpid()}/{name}"

    def tell(now: float, event: Event) -> None:
        _append(path, {"core": core, "now": now, **to_plain(event)})

    _append(path, {"core": core, "now": 0.0, "options": options})
    return WatchedScheduler(checked=checked, tell=tell, **options)


def _append(path: str, line: dict[str, object]) -> None:
    # One write in append mode, so that the lines of several processes do not mix.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(fd)


def dump_stacks_on_request() -> None:
    """Install the handler of SIGUSR1, if the environment asks for it (in the main thread only)."""
    if os.environ.get("PARMAP_STACKS") != "1" or not hasattr(faulthandler, "register"):
        return
    if threading.current_thread() is not threading.main_thread() or sys.stderr is None:
        return
    if signal.getsignal(signal.SIGUSR1) is not _forward:
        signal.signal(signal.SIGUSR1, _forward)
        # In C and at once, also where Python is stuck; then, chained, the workers.
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)


@runs_at_once
def _forward(signum: int, frame: object) -> None:
    from parmap._living import signal_all_workers

    signal_all_workers(signal.SIGUSR1)
