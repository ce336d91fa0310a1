"""Processes told apart by pid and time of start, since pids are used again."""

from __future__ import annotations

import os

from parmap._memory.host import LINUX, portable_level, too_many

_PID_BITS = 22


def is_alive(owner: int) -> bool:
    """Whether the process of that identity lives; in doubt it does."""
    if not owner:
        return False  # it has given back what was its own
    pid = owner & (1 << _PID_BITS) - 1
    if portable_level() != LINUX:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True
    try:
        return _identity_of(pid) == owner
    except OSError:
        return True  # it cannot be looked at: no descriptor is free


_identity = 0


def identity() -> int:
    """Return this process's identity.  OSError: it has no free descriptor to learn it with."""
    return _identity or _learn_identity()


def _learn_identity() -> int:
    global _identity
    pid = os.getpid()
    try:
        _identity = _identity_of(pid) if portable_level() == LINUX else pid
    except OSError as error:
        too_many(error)
    return _identity


def _identity_of(pid: int) -> int:
    """Return the identity of the process that has this pid now; 0 if there is none.

    OSError: that cannot be said, since no descriptor is free.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return 0  # dead, and not yet buried
    return pid | int(fields[19]) << _PID_BITS


def _forget_identity() -> None:
    global _identity
    _identity = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_identity)
