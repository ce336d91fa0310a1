"""The reading end of the pipe into which all workers of a pool speak."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from parmap._memory.host import close_quietly, make_pipe
from parmap._wire.utterance import Assembly, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parmap._wire.utterance import Utterance

_READ_BYTES = 64 * 1024
# More than a pipe holds: whatever was in it at the beginning has been read then.
_MOST_READS = 4


class Ear:
    """Owned by the thread that drives.  Never blocks."""

    def __init__(self) -> None:
        self._end, self.mouth = make_pipe()
        os.set_blocking(self._end, False)
        self._assembly = Assembly()
        self.listens = False  # whether the crew waits for it, too

    def fileno(self) -> int:
        """Readable when somebody has said something."""
        return self._end

    def hear(self) -> list[Utterance]:
        """All that has been said until now."""
        return joined(self._read())

    def _read(self) -> Iterator[Utterance]:
        for _ in range(_MOST_READS):
            try:
                data = os.read(self._end, _READ_BYTES)
            except BlockingIOError:
                return
            yield from self._assembly.feed(data)
            if len(data) < _READ_BYTES:
                return

    def close(self) -> None:
        """Nobody is left to speak."""
        for fd in (self._end, self.mouth):
            if fd >= 0:
                close_quietly(fd)
        self._end = self.mouth = -1
