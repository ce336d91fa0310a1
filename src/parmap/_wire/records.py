"""The records that stand for exceptions on the way, and access to the parts of a live exception.

A record is a tuple of plain data, which ``marshal`` takes; ``Record`` below lists its parts. A
value in it is an *entry*: an atom stands for itself, ``(EXCEPTION, n)`` for the exception of record
``n``, ``(VALUE, n)`` for place ``n`` of the table of values.
"""

from __future__ import annotations

from parmap.errors import short_repr

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parmap._wire.tracebacks import FrameRecord

    Dumps = Callable[[object], bytes]
    Loads = Callable[[bytes], object]
    Entry = Any
    Value = tuple[Any, ...]  # its kind, then what that needs
    Group = tuple[str, list[int]]
    Record = tuple[
        tuple[str, str] | int | None,  # where its class is: by name, in the table, nowhere
        str,  # the class's full name
        str | None,  # str() of it, unless the class is found by name
        str | None,  # its printed traceback, if the class is nowhere
        int | None,  # the place in the table of the exception as its own hooks pickle it
        tuple[Entry, ...],  # args
        list[tuple[str, Entry]],  # attributes
        list[tuple[str, Entry]],  # C fields and slots
        list[Entry] | None,  # notes
        Sequence[FrameRecord],  # traceback
        int | None,  # the number of its cause
        int | None,  # the number of its context
        bool,  # whether the context is suppressed
        Group | None,  # message and numbers of the parts
        list[str],  # what was lost on the way, in words
    ]

# Entries.
EXCEPTION, VALUE = 0, 1
# Kinds of values in the table.
PICKLED, LIST, TUPLE, FAILURE = range(4)
# Exact types that marshal keeps as they are; by id, for a metaclass may define hash() in any way.
ATOMS = frozenset(map(id, (str, int, float, bool, type(None), bytes, complex)))

# Users' exceptions may override attribute access in any way, so theirs is not asked.
_parts = BaseException.__dict__
get_args, set_args = _parts["args"].__get__, _parts["args"].__set__
get_cause, set_cause = _parts["__cause__"].__get__, _parts["__cause__"].__set__
get_context, set_context = _parts["__context__"].__get__, _parts["__context__"].__set__
get_suppress = _parts["__suppress_context__"].__get__
set_suppress = _parts["__suppress_context__"].__set__
get_traceback, set_traceback = _parts["__traceback__"].__get__, _parts["__traceback__"].__set__
get_message = BaseExceptionGroup.__dict__["message"].__get__
get_exceptions = BaseExceptionGroup.__dict__["exceptions"].__get__


def plain_record(
    name: str, text: str, formatted: str, frames: Sequence[FrameRecord], lost: str
) -> Record:
    """Return the record of an exception of which nothing but this can be sent."""
    alone = (None, None, False, None)
    return (None, name, text, formatted, None, (), [], [], None, frames, *alone, [lost])


def reason_of(error: BaseException) -> str:
    """Say in a few words why a piece was lost."""
    name = type(error).__name__
    try:
        text = str(error).strip().partition("\n")[0]
    except BaseException:  # a user's __str__
        text = ""
    return f"{name}: {text[:200]}" if text else name


def text_of(exc: BaseException) -> str:
    """Return ``str(exc)``, whatever its ``__str__`` does."""
    try:
        return str.__str__(str(exc))  # str() may return an instance of a subclass
    except BaseException as error:  # a user's __str__
        return f"<its __str__ raised {type(error).__name__}; args are {short_repr(get_args(exc))}>"
