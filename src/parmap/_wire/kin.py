"""What `multiprocessing`'s children have from their parent, and our workers need as well.

* The authkey: a proxy of a Manager proves with it that it belongs to the family.
* The resource tracker, the process that removes named memory and semaphores which nobody has
  removed.  A worker with a tracker of its own would see the parent's memory removed at its end.

Neither exists before somebody has imported `multiprocessing`, and nobody imports it because of
this: a worker that has not is told what to do when it will.
"""

from __future__ import annotations

import os
import sys

from parmap import _nesting
from parmap._memory.host import close_quietly, is_same_file, passes_descriptors

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_PROCESS = "multiprocessing.process"
_TRACKER = "multiprocessing.resource_tracker"


def authkey() -> bytes | None:
    """The key of this process, if it has one by now; of a class that refuses to be pickled."""
    process = _there(_PROCESS, "_current_process")
    key: bytes | None = None if process is None else process._config.get("authkey")
    return key


def tracker_fd() -> int | None:
    """The descriptor that leads to this process's tracker, if it has one; not the caller's.

    Who has imported `shared_memory` will have one: then it starts now, before a worker that shall
    have the same one begins to need it.
    """
    tracker = _there(_TRACKER, "_resource_tracker")
    if tracker is None:
        return None
    fd: int | None = tracker._fd
    if fd is None and "multiprocessing.shared_memory" in sys.modules and passes_descriptors():
        return running_tracker()
    return fd


def _there(module: str, name: str) -> Any:
    """What a module has, if it was imported; another thread may be importing it just now."""
    return getattr(sys.modules.get(module), name, None)


def running_tracker() -> int:
    """The same, of a tracker that is started if need be."""
    from multiprocessing import resource_tracker

    fd = resource_tracker.getfd()
    assert fd is not None
    return fd


def take_over(key: bytes | None, fds: Sequence[int]) -> None:
    """In a worker: become kin of its parent.  Takes the descriptors over: the tracker's, if any."""
    if key is not None:
        _when_imported(_PROCESS, lambda process: _set_authkey(process, key))
    for fd in fds:
        _told.append(fd)
        _when_imported(_TRACKER, _set_first_tracker)


# The ways to trackers that this worker was told of, and has not needed yet.
_told: list[int] = []


def _set_first_tracker(module: Any) -> None:
    while _told:
        _set_tracker(module, _told.pop(0))


def _set_authkey(process: Any, key: bytes) -> None:
    process.current_process().authkey = key


def _set_tracker(module: Any, fd: int) -> None:
    tracker = module._resource_tracker
    if tracker._fd is not None:
        close_quietly(fd)  # that one stays: it may watch over something already
    else:
        tracker._fd = fd  # as multiprocessing does in the children that it spawns


def meet_tracker(fd: int, name: str, attach: Callable[[], Any]) -> Any:
    """Attach to memory that the tracker behind `fd` (which is taken over) watches over.

    Nearly always it is our own.  If not, one of the two has to forget the memory: in a worker ours,
    for the parent is answerable; else the sender's, for what a worker makes is to outlive it.
    """
    from multiprocessing import resource_tracker

    own = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    if own is None:
        _set_tracker(resource_tracker, fd)
        return attach()
    try:
        memory = attach()
        if not is_same_file(own, fd):
            forgets = fd if _nesting.budget is None else own
            os.write(forgets, f"UNREGISTER:{name}:shared_memory\n".encode("ascii"))
    finally:
        close_quietly(fd)
    return memory


# What is to be done once a module is there.
_waiting: dict[str, Callable[[ModuleType], None]] = {}


def _when_imported(name: str, act: Callable[[ModuleType], None]) -> None:
    module = sys.modules.get(name)
    if module is not None:
        act(module)
        return
    _waiting[name] = act
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder:
    """Finds what others find, and acts when it has been loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        act = _waiting.pop(name, None)
        if act is None:
            return None
        from importlib.util import find_spec

        try:
            spec = find_spec(name)  # asks all finders, this one too
        finally:
            _waiting[name] = act
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_act(module: ModuleType) -> None:
            load(module)
            if (waiting := _waiting.pop(name, None)) is not None:
                waiting(module)

        spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


_finder = _Finder()
