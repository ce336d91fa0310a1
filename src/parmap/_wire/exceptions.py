"""Exceptions as bytes, and back: type, attributes, causes, notes, groups and tracebacks.

Neither direction ever raises, whatever the exception does. What cannot travel costs only itself:
an attribute is dropped and a note says so; a class is replaced by a ``RemoteError`` that carries
its name, its text and its frames, with everything around it intact.

An exception and all that it refers to become one flat list of records, so that a chain of 100,000
does not recurse; records are plain data (``marshal``). Whatever else is in them goes through the
caller's pickler, each distinct object alone: then one that fails to unpickle, which only the other
side can find out, costs only itself.

User code runs in pickling, unpickling and ``str()``. It may raise anything, SystemExit and
KeyboardInterrupt included, and that is a failure of the piece at hand, hence ``except
BaseException`` around these calls. A real Ctrl-C that arrives inside one cannot be told from that
and is lost with the piece; everywhere else it passes, for the outer nets catch only ``Exception``.
"""

from __future__ import annotations

import marshal

from parmap._wire.assembly import Assembly
from parmap._wire.disassembly import Disassembly
from parmap._wire.records import plain_record, reason_of, text_of
from parmap._wire.tracebacks import reduce_traceback
from parmap.errors import RemoteError

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from parmap._wire.records import Dumps, Loads

__all__ = ["decode_exception", "encode_exception", "reduce_traceback"]


def encode_exception(exc: BaseException, dumps: Dumps, *, skip_frames: int = 0) -> bytes:
    """Encode an exception and everything it refers to; never raises.

    Args:
        exc: any exception.
        dumps: pickles one object; may raise anything.
        skip_frames: how many of the outermost frames to leave out: parmap's own.
    """
    try:
        return marshal.dumps(Disassembly(dumps).run(exc, skip_frames))
    except Exception as error:
        # Our bug, or no memory left. The caller must still hear that its task failed.
        lost = f"all but this text ({reason_of(error)})"
        return marshal.dumps(([plain_record("an exception", text_of(exc), "", [], lost)], []))


def decode_exception(data: bytes, loads: Loads) -> BaseException:
    """Rebuild what :func:`encode_exception` made; never raises, gives a ``RemoteError`` at worst.

    Args:
        data: the encoded exception.
        loads: unpickles one object; may raise anything.
    """
    try:
        records, values = marshal.loads(data)  # noqa: S302 - it comes from our own worker
        return Assembly(records, values, loads).run()
    except Exception as error:
        return RemoteError("an exception", f"which could not be decoded ({reason_of(error)})")
