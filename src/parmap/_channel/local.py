"""Ends as this process holds them: one descriptor each, so the kernel knows who is left."""

from __future__ import annotations

import os
import sys
from _thread import RLock
from _weakref import ref

from parmap._channel import ends
from parmap._channel.core import RECEIVER, SENDER, Core, live_cores, renew_lock
from parmap._memory.host import close_quietly

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_SIDES = ("sender", "receiver")


class End:
    """One end: a presence on one side of a channel, while it is open.

    Collected, it is closed.  A finaliser may run anywhere, so closing takes no lock.
    """

    __slots__ = ("__weakref__", "_close", "core", "fd", "role", "state")

    def __init__(self, core: Core, role: int, fd: int = -1) -> None:
        """Take over `fd`, a descriptor of `Core.join`; without one the end joins when it is used."""
        self._close: Callable[[int], None] = close_quietly  # globals may be gone in `__del__`
        self.core = core
        self.role = role
        self.fd = fd
        self.state = ends.MADE if fd < 0 else ends.OPEN
        _ends[id(self)] = ref(self, _forget_end(id(self)))

    def use(self) -> End:
        """Be open, joining if need be; raise `ClosedChannelError` if it was closed."""
        if self.fd < 0:
            self._join()
        return self

    def _join(self) -> None:
        if self.state == ends.CLOSED:
            self.refuse()
        with _joining:  # one descriptor, though two threads use it for the first time
            if self.fd < 0:
                self.fd = self.core.join(self.role)
                self.state = ends.after(self.state, ends.JOIN)

    def refuse(self) -> NoReturn:
        """Raise: it is closed."""
        from parmap.errors import ClosedChannelError

        raise ClosedChannelError(f"this {_SIDES[self.role]} is closed")

    def clone(self) -> End:
        """Return another end of the same side."""
        with _joining:
            return End(self.core, self.role, self.use().core.join(self.role))

    def sends_to(self, core: Core) -> bool:
        """Whether it counts as a sender of that channel now."""
        return self.core is core and self.role == SENDER and self.fd >= 0

    def close(self) -> None:
        """Be gone.  May be called twice."""
        fd, self.fd = self.fd, -1
        self.state = ends.after(self.state, ends.CLOSE)
        if fd >= 0:
            self._close(fd)
            self.core.closed(self.role)

    def leave_to_parent(self) -> None:
        """In a child that parmap forked: the parent's end is not ours, until we use it."""
        fd, self.fd = self.fd, -1
        self.state = ends.after(self.state, ends.FORK)
        if fd >= 0:
            self._close(fd)

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            self.fd = -1
            self._close(fd)
            if not _finalizing():
                self.core.closed(self.role)

    def __repr__(self) -> str:
        return f"<{_SIDES[self.role]} {self.state}>"


class Neutral:
    """What one process sends and receives itself through a `Channel`; shared by all its objects.

    It counts on a side from the first use on, until `close` or until the last `Channel` is gone.
    """

    __slots__ = ("__weakref__", "core", "receiver", "sender")

    def __init__(self, core: Core) -> None:
        self.core = core
        self.sender = End(core, SENDER)
        self.receiver = End(core, RECEIVER)

    def draining(self) -> End:
        """Be a receiver, also after `close`."""
        receiver = self.receiver
        if receiver.fd < 0:
            if receiver.state == ends.CLOSED:
                receiver = self.receiver = End(self.core, RECEIVER)
            receiver.use()
        return receiver

    def close(self) -> None:
        """Take back this process's own sending and receiving."""
        self.sender.close()
        self.receiver.close()
        self.core.ring.end_if_alone()


def is_ours_to_end(core: Core) -> bool:
    """Whether this process alone keeps a stream open: by its ends, or because there never was one."""
    ours = [e for weak in list(_ends.values()) if (e := weak()) is not None and e.sends_to(core)]
    with _joining:
        return core.ring.locked(_is_nobody_else_there, core, ours)


def _is_nobody_else_there(core: Core, ours: list[End]) -> bool:
    presence = core.presences[SENDER]
    for end in ours:
        os.close(end.fd)
        end.fd = -1
    alone = not presence.anyone()
    for end in ours:
        end.fd = presence.join()
    return alone


def neutral_of(core: Core) -> Neutral:
    """Return this process's one `Neutral` of a channel."""
    with _joining:
        neutral: Neutral | None = None if core.neutral is None else core.neutral()
        if neutral is None:
            neutral = Neutral(core)
            core.neutral = ref(neutral)
        return neutral


def neutrals() -> list[Neutral]:
    """Return those of this process."""
    found = [None if core.neutral is None else core.neutral() for core in live_cores()]
    return [neutral for neutral in found if neutral is not None]


def leave_all_to_parent() -> None:
    """In a child that parmap forked: hide no end of a stream from others."""
    for weak in list(_ends.values()):
        end = weak()
        if end is not None:
            end.leave_to_parent()


# All ends of this process, for the fork handlers.
_ends: dict[int, ref[End]] = {}
_finalizing = sys.is_finalizing
# Held while a descriptor is opened that no end has yet, and while this process is forked: the child
# would inherit one that it does not know of, and keep the stream open.
_joining = RLock()


def _forget_end(key: int) -> Callable[[ref[End]], None]:
    def forget(gone: ref[End]) -> None:
        if _ends.get(key) is gone:
            del _ends[key]

    return forget


def _before_fork() -> None:
    _joining.acquire()


def _after_fork_in_parent() -> None:
    _joining.release()


def _after_fork_in_child() -> None:
    global _joining
    _joining = RLock()
    renew_lock()
    for core in live_cores():
        core.renew()
    for neutral in neutrals():  # the child has not used it
        neutral.sender.leave_to_parent()
        neutral.receiver.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
