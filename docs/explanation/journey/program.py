"""Four items: two are squared, one raises, one is killed."""

import os
import signal

from parmap import parallel_map


def check(n: int) -> int:
    if n == 20:
        raise ValueError("twenty")
    if n == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return n * n


for outcome in parallel_map(check, [10, 20, 30, 40], on_error="return", max_workers=2):
    print(outcome)
