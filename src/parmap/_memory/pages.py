"""Memory for large things that arrive: mapped once, used again.

Fresh memory is dear: the system hands it out zeroed, page by page, each at the price of an
interruption, and a virtual machine pays twice.  For an array of 100 MB that is several times what
the copy costs.  So large things get mappings of their own, in large pages where the system has
them, and one that nobody looks at any more takes the next thing.

**When nobody looks at it.**  Whoever can read or write a mapping does so through a view of it, a
`memoryview`, or something made from one, as arrays are; and a mapping counts its views, for it must
not move or vanish under them.  `mmap.resize` refuses with BufferError while there is one; to the
size that it has, it does nothing else.  The mapping itself is given to nobody, so that no view can
come from anywhere but here.

**How much is kept.**  A mapping is remembered here, to be looked at again, as long as all that are
remembered stay below `MOST_BYTES`; the oldest is forgotten first.  When nothing large has come for
`KEEP_SECONDS`, all are.  One that is forgotten goes with its last view, at once if it has none.
"""

from __future__ import annotations

import mmap
from _thread import allocate_lock
from time import monotonic

# From here on; NumPy draws its line for large pages at the same place.
LARGE = 4 << 20
MOST_BYTES = 512 << 20
KEEP_SECONDS = 1.0
# It wastes no more than half of itself.
_ROOMY = 2

_IN_LARGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
_gate = allocate_lock()
_remembered: list[mmap.mmap] = []  # the one that was given out last is the last
_last_use = 0.0


def fresh(size: int) -> bytearray | memoryview:
    """Return writable memory that nobody else sees, for as long as there is a view of it.

    What is in it is not said.
    """
    if size < LARGE or _IN_LARGE_PAGES is None:
        return bytearray(size)
    mapping = None
    # Never waited for: a garbage collection in here may run code that comes here, too; and in a
    # forked child it may be held for ever.
    if _gate.acquire(False):
        try:
            mapping = _take(size)
        finally:
            _gate.release()
    if mapping is None:
        return bytearray(size)
    return memoryview(mapping)[:size]


def tidy() -> float | None:
    """Forget the mappings if they have not been needed for a while.

    Return the seconds after which to ask again; None: when there is something anew.
    """
    if not _remembered:
        return None
    left = _last_use + KEEP_SECONDS - monotonic()
    if left > 0:
        return left
    forget()
    return None


def forget() -> None:
    """Give back what nobody looks at, and leave the rest to those who do."""
    if _gate.acquire(False):
        try:
            _remembered.clear()
        finally:
            _gate.release()


def _take(size: int) -> mmap.mmap | None:
    global _last_use
    _last_use = monotonic()
    fitting = [m for m in _remembered if size <= len(m) <= _ROOMY * size and _is_unseen(m)]
    if fitting:
        mapping = min(fitting, key=len)
        _remembered.remove(mapping)
    else:
        made = _new(size)
        if made is None:
            return None
        mapping = made
        room = MOST_BYTES - len(mapping)
        while _remembered and sum(map(len, _remembered)) > room:
            del _remembered[0]
        if room < 0:
            return mapping
    _remembered.append(mapping)
    return mapping


def _is_unseen(mapping: mmap.mmap) -> bool:
    """Whether there is no view of it."""
    try:
        mapping.resize(len(mapping))
    except BufferError:
        return False
    return True


def _new(size: int) -> mmap.mmap | None:
    """A mapping in large pages; None if the system refuses."""
    assert _IN_LARGE_PAGES is not None
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None  # too many mappings; or no memory, which a bytearray says better
    try:
        mapping.madvise(_IN_LARGE_PAGES)
    except OSError:
        pass  # a kernel without large pages: those it has will do
    return mapping
