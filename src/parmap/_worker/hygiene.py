"""What a worker does about signals, its parent's death, and processes that its tasks fork."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from _thread import start_new_thread as _start_new_thread

from parmap._memory.host import LINUX, lift, portable_level

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

EXIT_TERMINATED = 143  # as a shell reports SIGTERM

# Asks a worker which of its tiny items it is at, and whether the parent wants the rest of its chunk
# back: look into the control page.  Ignored where nobody handles it, so one that comes
# too early or too late does no harm.
ASK_SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)
# Makes a worker write its stack down and die of it.  It ends a process that does not handle it, which
# is meant; so it is one that nobody uses: a real-time signal, or where there are none, a rare one.
DUMP_SIGNAL: int | None = (
    signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGXCPU", None)
)
_PR_SET_CHILD_SUBREAPER = 36


class Terminated(SystemExit):
    """The parent has told this worker to go (SIGTERM).  `finally` blocks of the task run.

    A SystemExit, so that code that lets `sys.exit()` pass lets this pass too.
    """


def die_of_sigterm() -> NoReturn:
    """End as the signal would have ended this process: that is the truth about its exit."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(EXIT_TERMINATED)


# Whoever swallows `Terminated` (a task that catches everything, a `__reduce__` within a pickling)
# delays the end by what it is doing, no more.
told_to_go = False


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    global told_to_go
    told_to_go = True
    raise Terminated(EXIT_TERMINATED)


def _not_lost_in_a_finaliser(unraisable: sys.UnraisableHookArgs) -> None:
    """Python swallows what strikes inside a finaliser: if that was SIGTERM, let it come again.

    From another thread and a little later, or it would strike in here, and be swallowed, too.
    """
    if unraisable.exc_type is Terminated:
        _start_new_thread(_terminate_again, ())
    else:
        sys.__unraisablehook__(unraisable)


def _terminate_again() -> None:
    time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


def _ignored(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C reaches the whole foreground group; the parent decides what it means.

    A handler that does nothing, not SIG_IGN: programs that a task starts would inherit the latter
    and could not be interrupted.
    """


# Whoever runs a chunk puts in here how to say which item they are at, and how to cut the chunk short.
tell_where: Callable[[], None] | None = None
on_cut: Callable[[], None] | None = None
# Whether the signal reaches a handler here.  Else whoever runs a chunk has to look by themselves.
hears_cuts = False


def _asked(signum: int, frame: FrameType | None) -> None:
    if on_cut is not None:
        on_cut()
    if tell_where is not None:
        tell_where()


def take_over_signals() -> None:
    """Install the handlers, then let signals in that the parent has held back until now."""
    global hears_cuts
    signal.signal(signal.SIGINT, _ignored)
    signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = _not_lost_in_a_finaliser
    if ASK_SIGNAL is not None:
        signal.signal(ASK_SIGNAL, _asked)
        signal.siginterrupt(ASK_SIGNAL, False)
        hears_cuts = True
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def write_stacks_to(fd: int) -> None:
    """Have the stack of a crash, or of an item that takes too long, written to a file.

    In C, so that it works wherever the worker is stuck.  Behind the dump the signal's own action
    follows (`chain`), which ends the process: its parent need not guess when the dump is complete.
    """
    os.lseek(fd, 0, os.SEEK_END)
    faulthandler.enable(file=fd)
    if hasattr(faulthandler, "register") and DUMP_SIGNAL is not None:
        faulthandler.register(DUMP_SIGNAL, file=fd, all_threads=True, chain=True)


def dump_stacks_on_request() -> None:
    """PARMAP_STACKS=1: the parent passes SIGUSR1 on, and every worker shows its stacks, too."""
    asked = os.environ.get("PARMAP_STACKS") == "1" and sys.stderr is not None
    if asked and hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)


def keep_descendants() -> None:
    """Adopt grandchildren whose parent dies, so that a deadline finds them (Linux)."""
    global _keeps_descendants
    if _keeps_descendants or portable_level() != LINUX:
        return
    _keeps_descendants = True
    import ctypes  # only calls with a limit make a worker pay for it

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_keeps_descendants = False


def die_with_parent(lifeline: int) -> None:
    """Be killed when the writing end of `lifeline` closes: when the parent is dead.

    On Linux the kernel does it (a signal of our choice on hang-up), so it also ends a task that runs
    in C and never looks up.  Elsewhere a thread waits; it needs the interpreter to run.
    """
    if portable_level() == LINUX and (own := _reopened(lifeline)) is not None:
        import fcntl

        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
        _die_if_dead_already(own)
    else:
        _start_new_thread(_wait_for_hangup, (lifeline,))


def _reopened(lifeline: int) -> int | None:
    """The same pipe, opened anew.

    Who is signalled belongs to the open file, which all workers inherit as one: each needs its own.
    """
    try:
        return lift(
            os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        )
    except OSError:  # no /proc here
        return None


def _die_if_dead_already(lifeline: int) -> None:
    """The hang-up may have come before the kernel was asked to signal it."""
    try:
        os.read(lifeline, 1)
    except BlockingIOError:
        return  # nothing to read, and nobody has hung up
    os._exit(EXIT_TERMINATED)


def _wait_for_hangup(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(EXIT_TERMINATED)


def leave_inherited_ends() -> None:
    """In a worker that was forked: the ends of channels that it has inherited are its parent's.

    They would keep streams open that the parent has closed.  One that the task uses opens anew.
    """
    local = sys.modules.get("parmap._channel.local")
    if local is not None:
        local.leave_all_to_parent()


def close_in_forked_children(fds: list[int]) -> None:
    """A process that a task forks must not hold the worker's socket: it would hide its death."""

    def close() -> None:
        for fd in fds:
            try:
                os.close(fd)
            except OSError:  # the task itself may have closed it
                continue

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)


def flush_streams() -> None:
    """Workers leave by `os._exit`, which flushes nothing; and what a task printed is to be seen."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody listens any more; there is nowhere to say so
                continue


def finish_multiprocessing() -> None:
    """What a task has put into a queue of `multiprocessing` gets there: a thread may be at it yet.

    And managers are told that this process needs nothing of theirs any more.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._run_finalizers()


def leave_barriers() -> None:
    """A worker that ends in peace is no dead party; one that knows no barrier imports none."""
    barrier = sys.modules.get("parmap.shared.barrier")
    if barrier is not None:
        barrier.leave_all()
