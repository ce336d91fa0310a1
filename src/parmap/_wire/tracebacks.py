"""Tracebacks as plain data, and back: the worker's files, lines and functions, without its locals.

A frame cannot be made from outside, but an unstarted generator has one. Each foreign frame becomes
the frame of a generator whose code object carries the original's names and, in its line table, the
one place that matters. So ``traceback`` prints it like the original (``^^^^`` marks included) and
``pdb.post_mortem`` walks it. Frames are cached: the same line fails again and again.

Nothing here recurses, and nothing runs code of users.
"""

from __future__ import annotations

import sys
from itertools import islice
from types import FrameType, FunctionType, ModuleType, TracebackType

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType

    # The line, the line where the failed expression ends, its first and last column.
    Place = tuple[int, int | None, int | None, int | None]
    # file, name, qualified name, module, first line of the function; then the place
    FrameRecord = tuple[str, str, str, str | None, int, int, int | None, int | None, int | None]

# Above that the two ends are kept: a runaway recursion of 10^5 frames would cost more to send than
# anybody reads. The default recursion limit stays far below.
MAX_FRAMES = 3000

# The same line fails again and again, and each side remembers what it made of it: 20 µs per frame
# the first time, 0.3 µs later. Cleared when full, a plain bound on the memory.
_MAX_CACHED = 1024
# By (id of the code object, instruction); the code object is kept, or its id would pass on.
_records: dict[tuple[int, int], tuple[CodeType, FrameRecord]] = {}
# One frame may serve several tracebacks: it has no locals, and no f_back.
_frames: dict[FrameRecord, FrameType] = {}


def flatten_traceback(tb: TracebackType | None, skip: int = 0) -> list[FrameRecord]:
    """Return one record of plain data per frame, outermost first, without the first ``skip``."""
    steps = []
    while tb is not None:
        steps.append(tb)
        tb = tb.tb_next
    del steps[:skip]
    if len(steps) <= MAX_FRAMES:
        return _describe_all(steps)
    half = MAX_FRAMES // 2
    gap = f"({len(steps) - 2 * half} frames left out)"
    marker = ("<parmap>", gap, gap, None, 1, 1, None, None, None)
    return [*_describe_all(steps[:half]), marker, *_describe_all(steps[-half:])]


def _describe_all(steps: Sequence[TracebackType]) -> list[FrameRecord]:
    records = []
    for step in steps:
        frame = step.tb_frame
        code = frame.f_code
        key = (id(code), step.tb_lasti)
        module = dict.get(frame.f_globals, "__name__")
        if type(module) is not str:
            module = None
        known = _records.get(key)
        if known is None or known[1][3] != module or known[1][5] != step.tb_lineno:
            if len(_records) >= _MAX_CACHED:
                _records.clear()
            known = _records[key] = (code, _describe(code, step, module))
        records.append(known[1])
    return records


def _describe(code: CodeType, step: TracebackType, module: str | None) -> FrameRecord:
    place = next(islice(code.co_positions(), step.tb_lasti // 2, None), (None, None, None, None))
    # An instruction may have no line; ours must.
    line = step.tb_lineno or code.co_firstlineno
    _, end_line, column, end_column = place
    if place[0] != line:
        # Somebody gave the traceback a line of its own, as template engines do.
        end_line = column = end_column = None
    # str(): what compile() was given may be an instance of a subclass.
    file, name, qualname = map(str, (code.co_filename, code.co_name, code.co_qualname))
    first = code.co_firstlineno
    return (file, name, qualname, module, first, line, end_line, column, end_column)


def rebuild_traceback(records: Sequence[FrameRecord]) -> TracebackType | None:
    """Make a traceback of such records; None for no records."""
    tb = None
    for record in reversed(records):
        frame = _frames.get(record)
        if frame is None:
            if len(_frames) >= _MAX_CACHED:
                _frames.clear()
            frame = _frames[record] = _make_frame(*record)
        tb = TracebackType(tb, frame, 0, record[5])
    return tb


def reduce_traceback(tb: TracebackType) -> tuple[object, ...]:
    """Reduce a traceback that sits in user data, as ``Pickler.reducer_override`` wants it."""
    return (rebuild_traceback, (flatten_traceback(tb),))


def _make_frame(
    file: str, name: str, qualname: str, module: str | None, first: int, *place: int | None
) -> FrameType:
    code = _template.replace(
        co_filename=file,
        co_name=name,
        co_qualname=qualname,
        co_firstlineno=first,
        co_linetable=_line_table(first, *place),
    )
    # The generator never starts: then its frame has no f_back, and keeps nothing of ours alive.
    frame: FrameType = FunctionType(code, _globals_of(module, file))().gi_frame
    return frame


def _globals_of(module: str | None, file: str) -> dict[str, object]:
    found: dict[str, object] = {"__name__": module or "?", "__file__": file}
    here = sys.modules.get(module) if module else None
    if type(here) is ModuleType:
        # Lets linecache find the source of a module that was imported from a zip file.
        spec = here.__dict__.get("__spec__")
        found["__spec__"] = spec
        found["__loader__"] = getattr(spec, "loader", None)
    return found


def _stub() -> Iterator[None]:
    yield  # pragma: no cover - only its code object is used


_template: CodeType = _stub.__code__
_units = len(_template.co_code) // 2


def _line_table(
    first: int,
    line: int | None = None,
    end_line: int | None = None,
    column: int | None = None,
    end_column: int | None = None,
) -> bytes:
    """Encode a line table in which every instruction of the template sits in that place.

    The format is CPython's (Objects/locations.md), the same since 3.11: per up to 8 instructions a
    byte with kind and count, then the line as a signed difference, then for kind 14 the rest.
    """
    line = first if line is None else line
    kind, rest = 13, b""
    if end_line is not None and column is not None and end_column is not None and end_line >= line:
        kind, rest = 14, b"".join(map(_varint, (end_line - line, column + 1, end_column + 1)))
    table, difference = b"", line - first
    for done in range(0, _units, 8):
        count = min(_units - done, 8)
        signed = -difference << 1 | 1 if difference < 0 else difference << 1
        table += bytes([0x80 | kind << 3 | count - 1]) + _varint(signed) + rest
        difference = 0
    return table


def _varint(number: int) -> bytes:
    """Encode as 6-bit groups, least first; bit 6 says that more follow."""
    groups = []
    while number >= 64:
        groups.append(number & 63 | 64)
        number >>= 6
    return bytes([*groups, number])
