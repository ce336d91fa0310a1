"""The semaphores of a mutex, and where each of its words lies."""

from __future__ import annotations

from parmap._memory.words import WORD

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._memory.segment import Segment

# Words of a mutex.
LOCK = 0  # the kernel's, for claims and takeovers
ABANDONED = 1
COUNT = 2  # how many slots were ever claimed
READY = 3  # the semaphores are there, and are to be used
WAITERS = 4
SEMAPHORE, BELL = 8, 12  # 32 bytes each
HEADER = 16
SLOT = 2  # an intent, and its process

RECURSIVE, PLAIN = 0, 1  # kinds: one knows its owner, and lets nobody else release it
MANY = 1 << 20


class Place:
    """Where a mutex lies in this process; the memory stays there while this lives."""

    __slots__ = ("_anchor", "address")

    def __init__(self, segment: Segment, at: int) -> None:
        # What lies under ctypes, which itself would cost each worker 5 ms.
        from _ctypes import _SimpleCData, addressof

        kind: Any = type("_Byte", (_SimpleCData,), {"_type_": "c"})
        self._anchor = kind.from_buffer(segment.buf, at)
        self.address: int = addressof(self._anchor)

    def semaphore(self, word: int, kind: int, most: int = 1) -> Any:
        """Return an object of the standard library's over this very memory.

        It raises ValueError where its own `release` would make it more than `most`.
        """
        from _multiprocessing import SemLock  # type: ignore[import-not-found]  # it has no stubs

        rebuild: Any = SemLock._rebuild  # multiprocessing's own way
        return rebuild(self.address + word * WORD, kind, most, None)


def initialise(segment: Segment, at: int) -> bool:
    """Make the two semaphores of a mutex; whether this system can."""
    return begin(segment, at + SEMAPHORE * WORD, 1) and begin(segment, at + BELL * WORD, 0)


def begin(segment: Segment, at: int, value: int) -> bool:
    """Make a semaphore in 32 bytes; whether this system can."""
    try:
        import ctypes

        where = ctypes.c_void_p(Place(segment, at).address)
        return bool(ctypes.CDLL(None).sem_init(where, 1, value) == 0)
    except (ImportError, OSError, AttributeError):
        return False  # no such C library here
