"""How long the item that a worker is at has run, as far as the parent can tell.

The worker is not asked while all goes well: deadlines cost the fast path nothing.  Only when its
oldest chunk has been out for long is its control page looked at.

* Items that are marked leave their index and the instant of their beginning there, so that one look
  tells when the next is due: exactly `limit` seconds after that.
* Of tiny items nobody knows which one runs.  The worker is asked (by a signal), and answers as soon
  as it is in Python.  So a question without an answer means that no item has begun since it was
  asked, and an answer tells of a moment after its question.  Such chunks are looked at, and their
  worker is asked again, every `limit / 8`.

An item is never given up early; one of a chunk of tiny items may be given up 3/8 of its limit late.
"""

from __future__ import annotations

from dataclasses import dataclass

from parmap._core.events import IDLE, UNKNOWN

LOOKS = 8  # at chunks of tiny items, within the time that one of them may take
# A worker that has a chunk and begins nothing of it for so long is broken: stopped by somebody, or
# stuck in an import.  As long as the start of a worker may take.
BEGIN_WITHIN = 120.0
# Seconds that are waited for at a time, however far off a deadline is: selectors take no more than
# 2**31 milliseconds, locks and queues of some systems not much more.
LONGEST_WAIT = 1e6


@dataclass(slots=True)
class ItemClock:
    """The limit of one item's run, at one worker.  Restarted whenever the worker was heard."""

    limit: float
    look_at: float = 0.0
    _at: int = IDLE  # which item was running at the last look
    _since: float = 0.0  # it has been running since then at the latest
    _until: float = 0.0  # and until then at the earliest
    _asked: float | None = None  # when the open question was asked
    _begin_by: float = 0.0

    def restart(self, now: float, *, marked: bool) -> None:
        """The next item of the oldest chunk can begin now, and not earlier."""
        self._at, self._asked = IDLE, None
        self._begin_by = now + BEGIN_WITHIN
        self.look_at = now + (self.limit if marked else self.limit / LOOKS)

    def saw(self, running: int, began: float | None, now: float) -> None:
        """A look shows what runs, and since when (if that is known).

        UNKNOWN: the last question, asked now if there was none, has no answer yet.
        """
        if running == IDLE:
            self._at, self.look_at = IDLE, min(now + self.limit, self._begin_by)
        elif began is not None:
            self._at, self._since, self._until, self._asked = running, began, now, None
            self.look_at = began + self.limit
        elif running == UNKNOWN:
            if self._asked is None or self._at == IDLE:
                self._at, self._asked = UNKNOWN, now
            self.look_at = min(now + self.limit / LOOKS, self._asked + self.limit)
        else:
            asked = self._asked if self._asked is not None else now
            if running != self._at:
                self._at, self._since = running, now
            self._until, self._asked = asked, now
            self.look_at = now + self.limit / LOOKS

    def is_broken(self, now: float) -> bool:
        """Whether the worker should have begun long ago."""
        return self._at == IDLE and now >= self._begin_by

    def late(self, now: float) -> int | None:
        """The item whose time is over; UNKNOWN if it is one of the chunk's; None if there is none."""
        if self._at == IDLE:
            return None
        if self._asked is not None and now >= self._asked + self.limit:
            return UNKNOWN
        return self._at if self._until >= self._since + self.limit else None
