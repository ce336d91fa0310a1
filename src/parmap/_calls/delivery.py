"""Delivery of what a worker has said: to `sys.stdout` as it is now, to loggers, to warnings' filters.

User code (handlers, filters, replaced streams) runs here, and may raise.  None of that is the fault
of the call whose worker has spoken: it is shown, and the call goes on.
"""

from __future__ import annotations

import logging
import marshal
import os
import pickle
import sys
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from parmap._wire.exceptions import decode_exception
from parmap._wire.utterance import ERR, LOG, NONE, OUT, WARNING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from parmap._wire.utterance import Utterance


def _nothing_else(stream: TextIO) -> AbstractContextManager[object]:
    return nullcontext()


# Around each writing of text: whoever draws on the same terminal makes room.
making_room: Callable[[TextIO], AbstractContextManager[object]] = _nothing_else


def _forget_in_child() -> None:
    """What draws on the terminal is the parent's."""
    global making_room
    making_room = _nothing_else


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

# Of modules that only workers have imported.
_registries: dict[str, dict[Any, Any]] = {}


def deliver(said: Utterance) -> None:
    """Deliver it, once.  Raises nothing but what is no Exception (Ctrl-C)."""
    try:
        _WAYS[said.kind](said)
    except Exception:  # the user's handler, filter or stream
        _show_failure()


def _show_failure() -> None:
    try:
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()
    except (OSError, ValueError):  # stderr is closed: there is nowhere to say so
        return


def _print(said: Utterance) -> None:
    stream = sys.stdout if said.kind == OUT else sys.stderr
    if stream is None:
        return
    text = said.payload.decode("utf-8", "surrogateescape")
    with making_room(stream):
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError):  # closed, or nobody reads it: as if it had not been printed
            return
        stream.flush()


def _log(said: Utterance) -> None:
    plain, rest, error, message = marshal.loads(said.payload)  # noqa: S302 - from our own worker
    try:
        values = {**plain, **pickle.loads(rest)}
    except Exception:  # a class that is not there, or refuses to be rebuilt
        values = {"args": None, "msg": message, **plain}
    if values["args"] is None:
        values["msg"] = message
    if error is not None:
        rebuilt = decode_exception(error, pickle.loads)
        values["exc_info"] = type(rebuilt), rebuilt, rebuilt.__traceback__
    logger = logging.getLogger(None if values["name"] == "root" else values["name"])
    if logger.isEnabledFor(values["levelno"]):
        logger.handle(logging.makeLogRecord(values))


def _warn(said: Utterance) -> None:
    told = marshal.loads(said.payload)  # noqa: S302 - from our own worker
    text, category, filename, lineno, name, worker = told
    warning = _rebuilt(text, category)
    index = None if said.index == NONE else said.index
    mark = {"parmap_worker": worker, "parmap_pid": said.pid, "parmap_index": index}
    warning.__dict__.update(mark)
    module = sys.modules.get(name)
    registry = (
        _registries.setdefault(name or filename, {})
        if module is None
        else module.__dict__.setdefault("__warningregistry__", {})
    )
    try:
        warnings.warn_explicit(warning, None, filename, lineno, module=name, registry=registry)
    except Warning as error:
        if error is not warning:
            raise
        # A filter of now, not of the call's beginning: the item is over, and nobody could catch it.
        warnings.showwarning(warning, type(warning), filename, lineno)


def _rebuilt(text: str, category: bytes) -> Warning:
    try:
        kind = pickle.loads(category)
    except Exception:  # its module is not there
        kind = UserWarning
    warning: Warning
    try:
        warning = kind(text)
        if str(warning) == text:
            return warning
    except Exception:  # noqa: S110 - its __init__ takes something else
        pass
    warning = kind.__new__(kind, text)
    return warning


_WAYS = {OUT: _print, ERR: _print, LOG: _log, WARNING: _warn}
