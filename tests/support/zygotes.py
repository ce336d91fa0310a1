"""What a worker can tell about itself, for comparison of one that was forked with one that was not."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
from typing import Any

# What a zygote imports for itself.
_OF_ZYGOTES = {"gc", "marshal", "select", "parmap._worker.zygote"}


def parent_of_worker(_: object = None) -> int:
    return os.getppid()


def facts(*, except_for: tuple[str, ...] = ()) -> dict[str, Any]:
    """What this process has from its start."""
    has_cloudpickle = "cloudpickle" in sys.modules
    umask = os.umask(0)
    os.umask(umask)
    parent = multiprocessing.parent_process()
    found = {
        "parent": os.getppid(),
        "multiprocessing parent": None if parent is None else parent.pid,
        "process": multiprocessing.current_process().name,
        "is daemon": multiprocessing.current_process().daemon,
        "threads": len(os.listdir("/proc/self/task")),
        "main thread": threading.current_thread() is threading.main_thread(),
        "flags": str(sys.flags),
        "warnings": sys.warnoptions,
        "argv": sys.argv,
        "main": sorted(vars(sys.modules["__main__"])),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "handlers": [str(signal.getsignal(number)).split(" at ")[0] for number in range(1, 32)],
        "stdin": os.readlink("/proc/self/fd/0"),
        "streams": [(s.encoding, s.errors, s.line_buffering) for s in (sys.stdout, sys.stderr)],
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "umask": umask,
        "hash of a string": hash("parmap") if os.environ.get("PYTHONHASHSEED") else None,
        "has cloudpickle": has_cloudpickle,
        "modules": sorted(sys.modules.keys() - _OF_ZYGOTES),
    }
    return {name: value for name, value in found.items() if name not in except_for}
