"""The handler of a worker's root logger.  Imported once `logging` is."""

from __future__ import annotations

import logging
import marshal
from _pickle import dumps

from parmap._wire.exceptions import encode_exception
from parmap._wire.records import ATOMS
from parmap._wire.utterance import LOG, NONE

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._worker.output import Outlet


def take_in(outlet: Outlet) -> None:
    """Send the parent what comes to the root logger.

    Handlers that are there already were inherited by a fork.  They are the parent's, who will see
    to them: what they would do here they would do twice.
    """
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.root.handlers[:] = [ToParent(outlet)]


class ToParent(logging.Handler):
    """Sends records; not those that a handler of the worker's own is there for."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._out = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, as complete as it can travel."""
        if self._has_its_own(record.name):
            return
        try:
            payload = self._packed(record)
        except Exception:  # arguments that do not fit the message, as in any handler
            self.handleError(record)
        else:
            self._out.send(LOG, payload)

    def _has_its_own(self, name: str) -> bool:
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(
                each is not self and type(each) is not logging.NullHandler
                for each in logger.handlers
            ):
                return True
            logger = logger.parent if logger.propagate else None
        return False

    def _packed(self, record: logging.LogRecord) -> bytes:
        values: dict[str, Any] = dict(record.__dict__)
        message = record.getMessage()
        error = None
        if (exc_info := values.pop("exc_info", None)) and exc_info[1] is not None:
            values["exc_text"] = record.exc_text or _formatter.formatException(exc_info)
            error = encode_exception(exc_info[1], dumps)
        if "parmap_index" not in values:  # it comes from no worker of this one's own
            _, index = (NONE, NONE) if self._out.place is None else self._out.place()
            values["parmap_index"] = None if index == NONE else index
            values["processName"] = self._out.name
        plain = {key: value for key, value in values.items() if id(type(value)) in ATOMS}
        rest = {key: value for key, value in values.items() if key not in plain}
        return marshal.dumps((plain, _pickled(rest, plain, message), error, message))


_formatter = logging.Formatter()


def _pickled(rest: dict[str, Any], plain: dict[str, Any], message: str) -> bytes:
    """The rest; what of it cannot be pickled is text in `plain` instead."""
    try:
        return dumps(rest)
    except Exception:  # noqa: S110 - whichever part it is
        pass
    sound: dict[str, bytes] = {}
    for key, value in rest.items():
        try:
            dumps(value)
        except Exception:
            if key in ("args", "msg"):
                plain["msg"], plain["args"] = message, None
            else:
                plain[key] = repr(value)
        else:
            sound[key] = value
    return dumps({key: value for key, value in sound.items() if key not in plain})
