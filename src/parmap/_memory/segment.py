"""A piece of memory that several processes see, without a name.

It is a file that exists only through descriptors and mappings: the kernel frees it with the last
of them, so nobody's death, not even everybody's, leaves anything behind, and there is nothing for
a resource tracker to track.

A process maps one segment only once: when the same one arrives a second time, the `Segment` that
is there is returned.
"""

from __future__ import annotations

import mmap
import os
import sys
from _thread import RLock
from _weakref import ref

from parmap._memory.host import anonymous_file, close_quietly, extend, too_many
from parmap._memory.transit import export_fd, import_fd

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._memory.lockfile import LockFile
    from parmap._memory.transit import Ticket

PAGE = mmap.PAGESIZE
_IN_USE = "this shared memory is still in use: release the arrays and views of it first"


class Segment:
    """Shared memory, mapped into this process. Make it with `create`, `from_fd`, or by unpickling.

    It is this process's one object for that memory: whoever refers to it keeps it mapped, and it
    is unmapped when it and all views of `buf` are gone. Thread-safe. In a forked child it goes on
    working.
    """

    __slots__ = ("__weakref__", "_close", "_fd", "_map", "_old", "key", "lock_file", "size")

    def __init__(self, fd: int, key: tuple[int, int]) -> None:
        """Internal: `create` and `from_fd` make sure that there is only one."""
        self._fd = fd
        self._close: Callable[[int], None] = (
            close_quietly  # module globals may be gone when `__del__` runs
        )
        self._map: mmap.mmap | None = None
        self._old: list[ref[mmap.mmap]] = []
        self.key = key
        self.lock_file: LockFile | None = None  # owned by the module lockfile
        self.size = 0
        self._remap()

    @classmethod
    def create(cls, size: int) -> Segment:
        """Return new memory of zeros, `size` bytes rounded up to whole pages."""
        if size < 0:
            raise ValueError("size must not be negative")
        return cls.from_fd(anonymous_file(whole_pages(size)))

    @classmethod
    def from_fd(cls, fd: int) -> Segment:
        """Return the segment behind a descriptor, which it takes over: keeps, or closes."""
        try:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino)
            with _registry_lock:
                known = _registry.get(key)
                segment = None if known is None else known()
                if segment is None:
                    segment = cls(fd, key)
                    _registry[key] = ref(segment, lambda gone: _forget(key, gone))
                    return segment
        except BaseException:
            close_quietly(fd)
            raise
        close_quietly(fd)
        return segment

    @property
    def buf(self) -> mmap.mmap:
        """The memory as this process has it mapped: `size` bytes.

        A view of it stays valid, and shows the same memory, after the segment has grown.
        """
        if self._map is None:
            raise ValueError("this segment is closed")
        return self._map

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._fd

    def grow(self, size: int) -> None:
        """Make the segment at least `size` bytes long, for all. New bytes are zeros."""
        if self._map is None:
            raise ValueError("this segment is closed")
        if size > self.size:
            extend(self._fd, whole_pages(size))
            self.refresh()

    def refresh(self) -> int:
        """Map what another process has added; return the size."""
        if self._map is None:
            raise ValueError("this segment is closed")
        with _registry_lock:
            if os.fstat(self._fd).st_size > self.size:
                self._remap()
        return self.size

    def close(self) -> None:
        """Unmap now, for all in this process. Rarely needed: garbage collection does it.

        Raises BufferError while a view of the memory lives: unmapping under it would be a crash.
        """
        with _registry_lock:
            for old in self._old:
                if old() is not None:
                    raise BufferError(_IN_USE)
            if self._map is not None:
                try:
                    self._map.close()
                except BufferError:
                    raise BufferError(_IN_USE) from None
            self._map = None
            _registry.pop(self.key, None)
            fd, self._fd = self._fd, -1
            if self.lock_file is not None:
                self.lock_file.forget_source()
                self.lock_file = None
        if fd >= 0:
            self._close(fd)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def __reduce__(self) -> tuple[Callable[[Ticket], Segment], tuple[Ticket]]:
        """Pickle as a ticket for the descriptor; see `transit`."""
        if self._fd < 0:
            raise ValueError("this segment is closed")
        return _arrive, (export_fd(self._fd, "piece of shared memory"),)

    def __repr__(self) -> str:
        return f"<Segment {'closed' if self._fd < 0 else f'{self.size} bytes'}>"

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            self._fd = -1
            self._close(fd)

    def _remap(self) -> None:
        """Map the file as long as it is now. The mapping before lives on in its views."""
        size = os.fstat(self._fd).st_size
        new = map_file(self._fd, size)
        self._old = [old for old in self._old if old() is not None]
        if self._map is not None:
            self._old.append(ref(self._map))
        self._map, self.size = new, size


# This process's segments by (device, inode). While one is mapped its inode cannot be given to
# another file.
_registry: dict[tuple[int, int], ref[Segment]] = {}
# Reentrant, since a garbage collection inside may run `Segment.__del__` and so come back.
_registry_lock = RLock()


def _forget(key: tuple[int, int], gone: ref[Segment]) -> None:
    if _registry.get(key) is gone:
        del _registry[key]


def _arrive(ticket: Ticket) -> Segment:
    return Segment.from_fd(import_fd(ticket))


def whole_pages(size: int) -> int:
    """The size rounded up to whole pages, one at the least."""
    return max(PAGE, (size + PAGE - 1) // PAGE * PAGE)


def map_file(fd: int, size: int, access: int = mmap.ACCESS_DEFAULT) -> mmap.mmap:
    """Map a file, shared unless `access` says otherwise.  The descriptor stays the caller's."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(
            fd, size, access=access, trackfd=False
        )  # else each mapping keeps a second descriptor open
    try:
        return mmap.mmap(fd, size, access=access)
    except OSError as error:
        too_many(error)


def _renew_lock() -> None:
    """In a forked child: the thread that held the lock may not exist here."""
    global _registry_lock
    _registry_lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
