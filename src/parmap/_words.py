"""What errors say: how a process ended, and values shown so that they cannot repaint a screen."""

from __future__ import annotations

_SIGNALS_IN_WORDS = {
    "SIGSEGV": "segmentation fault",
    "SIGABRT": "it aborted itself",
    "SIGBUS": "bus error: often a full /dev/shm, or a file that shrank",
    "SIGILL": "illegal instruction",
    "SIGFPE": "arithmetic fault",
    "SIGXCPU": "CPU time limit reached",
    "SIGTERM": "somebody asked it to end",
    "SIGHUP": "its terminal is gone",
}


def signal_name(exitcode: int | None) -> str | None:
    """Return the name of the signal that a negative exit code stands for, None for others."""
    if exitcode is None or exitcode >= 0:
        return None
    import signal  # only after a death: it imports enum

    try:
        return signal.Signals(-exitcode).name
    except ValueError:  # real-time signals between the first and the last have no member
        return f"signal {-exitcode}"


def death_in_words(exitcode: int | None, *, oom_kills: int | None = None) -> str:
    """Say how a process ended, as the end of a sentence about it.

    Args:
        exitcode: as :attr:`multiprocessing.Process.exitcode` gives it.
        oom_kills: by how much the kernel's count of out-of-memory kills rose meanwhile, if that
            could be read.

    Example:
        >>> death_in_words(3)
        'exited with status 3'
        >>> death_in_words(-9)
        'was killed by SIGKILL, probably out of memory'
        >>> death_in_words(-9, oom_kills=1)
        'was killed by SIGKILL: out of memory'
    """
    name = signal_name(exitcode)
    if name is None:
        return "ended, nobody knows how" if exitcode is None else f"exited with status {exitcode}"
    if name == "SIGKILL":
        told = {
            None: ", probably out of memory",
            0: ", and not out of memory: the kernel has counted no such kill",
        }
        ending = told.get(oom_kills, ": out of memory")
        return f"was killed by SIGKILL{ending}"
    words = _SIGNALS_IN_WORDS.get(name)
    return f"was killed by {name} ({words})" if words else f"was killed by {name}"


# C0 without tab and newline, DEL, C1, and the marks that turn the direction of text: what a
# task's name could use to repaint the terminal that an error is printed on.
_CONTROLS = (
    *range(9),
    *range(11, 32),
    *range(127, 160),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}


def printable(text: str) -> str:
    """Return the text with control characters escaped, newlines and tabs kept."""
    return text.translate(_ESCAPES)


def short_repr(value: object, limit: int = 80) -> str:
    r"""Return a one-line ``repr`` of at most ``limit`` characters; safe to print, never raises.

    Example:
        >>> short_repr("x" * 100, limit=9)
        "'xxx...x'"
        >>> short_repr("\x1b[2J")
        "'\\x1b[2J'"
    """
    try:
        text = printable(repr(value)).replace("\n", "\\n")
    except BaseException as error:
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    if len(text) <= limit:
        return text
    return f"{text[: limit - 5]}...{text[-2:]}"
