"""Whether a group would wait for ever: its workers wait for messages that nobody can send any more.

A worker whose only thread has been waiting for a message for long tells its group so once: on which
channels, and how many messages had been sent through each by then.  It goes on only if one more is
sent.  So if that number has not changed when we look, it has been waiting all the time in between.
If that is true of every worker of this process, then at the moment before we looked nobody ran who
could have sent anything, but for this thread, which waits for them.

In doubt there is no verdict: another thread, a process of plain `multiprocessing`, a running call
of a pool, or a channel that came from elsewhere, all might still send something.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from parmap._launch.watch import WatchThread
from parmap._living import living_loops
from parmap.errors import ChannelError

if TYPE_CHECKING:
    from parmap._channel.core import Core
    from parmap._loop import Claims, Loop


def deadlock(group: str) -> ChannelError | None:
    """Return why the group of that name would wait for ever, naming the channel; or None."""
    loops = living_loops()
    claims: Claims = []
    for loop in loops:
        parked = loop.parked()
        if parked is None:
            return None
        if loop.name == group and not parked:
            return None  # its workers have ended, and so will it: it is others that wait
        claims += parked
    cores = _still_empty(claims)
    if not cores or _others_may_send(loops):
        return None
    from parmap._channel.local import is_ours_to_end

    for core in cores:
        if is_ours_to_end(core):
            whose = "this process is the only sender left" if core.had_sender else "nobody sends"
            return ChannelError(
                f"{group} would wait for ever: its workers wait for messages of <Channel:"
                f" {len(core.ring)} of {core.ring.capacity} items> (made at {core.made_at}), and"
                f" {whose}: close() it when everything is sent, or send inside"
                " `with channel.sender as sender:`"
            )
    return None


def _still_empty(claims: Claims) -> list[Core]:
    """The channels that are waited for; none if anybody may have something to receive."""
    core_module = sys.modules.get("parmap._channel.core")
    found: list[Core] = []
    for device, inode, sent in claims:
        core = None if core_module is None else core_module.find((device, inode))
        if core is None or core.made_at is None or core.is_ready() or core.sent != sent:
            return []
        found.append(core)
    return found


def _others_may_send(loops: list[Loop[Any, Any]]) -> bool:
    harmless = {loop.thread for loop in loops} | {threading.current_thread()}
    threads = set(threading.enumerate()) - harmless
    if not all(isinstance(thread, WatchThread) for thread in threads):
        return True
    return _has_other_children({pid for loop in loops for pid in loop.pids()})


def _has_other_children(ours: set[int | None]) -> bool:
    """Whether plain `multiprocessing` has started processes that still run."""
    import multiprocessing.process

    children = list(multiprocessing.process._children)  # type: ignore[attr-defined]  # `active_children()` would bury ours
    return any(child.pid not in ours and child.is_alive() for child in children)
