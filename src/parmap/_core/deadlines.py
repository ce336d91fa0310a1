"""How long the item that a worker is at has run, as far as the parent can tell.

The worker is not asked while all goes well: deadlines cost the fast path nothing.  Only when its
oldest chunk has been out for long is its control page looked at.

* Items that are marked leave their index and the instant of their beginning there, so that one look
  tells when the next is due: exactly `limit` seconds after that.
* Of tiny items nobody knows which one runs.  The worker is asked (by a signal), and answers as soon
  as it is in Python.  So a question without an answer means that no item has begun since it was
  asked.  Such chunks are looked at every `limit / 8`.

An item is never given up early; one of a chunk of tiny items may be given up `limit / 4` late.
"""

from __future__ import annotations

from dataclasses import dataclass

from parmap._core.events import IDLE, UNKNOWN

LOOKS = 8  # at chunks of tiny items, within the time that one of them may take
# A worker that has a chunk and begins nothing of it for so long is broken: stopped by somebody, or
# stuck in an import.  As long as the start of a worker may take.
BEGIN_WITHIN = 120.0


@dataclass(slots=True)
class ItemClock:
    """The limit of one item's run, at one worker.  Restarted whenever the worker was heard."""

    limit: float
    look_at: float = 0.0
    _at: int = IDLE  # which item was running at the last look
    _since: float = 0.0  # it has been running since then at the latest
    _unanswered: float | None = None  # a question is open since then at the latest
    _begin_by: float = 0.0

    def restart(self, now: float, *, marked: bool) -> None:
        """The next item of the oldest chunk can begin now, and not earlier."""
        self._at, self._unanswered = IDLE, None
        self._begin_by = now + BEGIN_WITHIN
        self.look_at = now + (self.limit if marked else self.limit / LOOKS)

    def saw(self, running: int, began: float | None, now: float) -> None:
        """A look shows what runs, and since when (if that is known)."""
        if running == IDLE:
            self._at, self.look_at = IDLE, min(now + self.limit, self._begin_by)
        elif began is not None:
            self._at, self._since, self._unanswered = running, began, None
            self.look_at = began + self.limit
        elif running == UNKNOWN:
            if self._unanswered is None:
                self._unanswered = now
            self._at = UNKNOWN if self._at == IDLE else self._at
            self.look_at = min(now + self.limit / LOOKS, self._unanswered + self.limit)
        else:
            if running != self._at:
                self._at, self._since = running, now
            self._unanswered = None
            self.look_at = min(now + self.limit / LOOKS, self._since + self.limit)

    def is_broken(self, now: float) -> bool:
        """Whether the worker should have begun long ago."""
        return self._at == IDLE and now >= self._begin_by

    def late(self, now: float) -> int | None:
        """The item whose time is over; UNKNOWN if it is one of the chunk's; None if there is none."""
        if self._at == IDLE:
            return None
        if self._unanswered is not None:
            return UNKNOWN if now >= self._unanswered + self.limit else None
        return self._at if now >= self._since + self.limit else None
