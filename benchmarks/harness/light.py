"""What the workers of some scenarios run: a module that imports next to nothing, since each new worker
imports it, and what that costs is not the cost of a worker."""

import os
import time


def meet(folder: str, _item: int) -> int:
    """Say that one is here, and wait for the others."""
    with open(f"{folder}/here", "wb", buffering=0) as here:
        here.write(b"x")
    with open(f"{folder}/go", "rb", buffering=0) as go:
        go.read(1)
    return os.getpid()


def die(doom: str) -> float:
    """Killed at once, late for ever, or fine; the moment at which a fine one began."""
    if doom == "killed":
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
    if doom == "late":
        time.sleep(60)
    return time.perf_counter()  # one clock for all processes
