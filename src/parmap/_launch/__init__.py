"""The operating system's processes: started, watched, ended.

* `crew`       the workers of one pool, and the one wait for all of them
* `peer`       one worker as the parent holds it
* `ear`        the pipe into which workers speak
* `base`       what every way to start a worker gives: a `Child` and the `Link` to it
* `watch`      how the parent learns of a death (a pidfd, or a thread where there is none)
* `lifeline`   how a worker learns of its parent's death
* `zygote`     the default on Linux: a helper process that forks workers on request
* `popen`      the default elsewhere: a fresh interpreter for each worker
* `heritage`   what a process passes on to those that it starts
* `contexts`   `multiprocessing`'s own start methods: fork, spawn, forkserver
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# Now: a fork during a first call must find it done.
from parmap._launch.popen import PopenLauncher
from parmap._launch.watch import has_pidfds
from parmap._launch.zygote import ZygoteLauncher
from parmap._memory.host import BARE, portable_level

if TYPE_CHECKING:
    from parmap._launch.base import Launcher


def launcher_for(start_method: str | None) -> Launcher:
    """The launcher of a start method; None is the platform's default, never a fork of
    this process."""
    if start_method is None and portable_level() < BARE:
        return ZygoteLauncher() if has_pidfds() else PopenLauncher()
    from parmap._launch.contexts import ContextLauncher

    return ContextLauncher(start_method or "spawn")
