"""How far a call is: a bar on the terminal, or a callback.

Both are fed by the thread that waits for the call, between results. Neither may slow it down: an
update that comes right after another is held back, and a later one, or the end, tells it too.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# A person sees no difference above 20 updates per second; a callback may draw something costly.
SECONDS_BETWEEN_UPDATES = 0.05


@dataclass(frozen=True, slots=True)
class Progress:
    """What a `progress` callback is told: how much of a call is over, and how long it took so far.

    Attributes:
        done: Items that are over, the failed ones included.
        failed: Items that ended in an error.
        total: How many items there are in all, or `None` where the input does not tell.
        elapsed: Seconds since the call began.
    """

    done: int
    failed: int
    total: int | None
    elapsed: float


class ProgressReporter:
    """Tell one call's progress to a bar or a callback; used by one thread only.

    The first update is told at once, the last one by `close`, and those between not more often than
    every 50 ms. An exception of the callback comes out of `update`, `flush` or `close`; after that
    the callback is not called again.

    Args:
        progress: `False` for nothing, `True` or a label for a bar, or a callback. A bar is shown on
            a terminal or in a notebook; `PARMAP_PROGRESS=1` shows it anywhere, `0` nowhere.
        total: How many items there will be, if that is known.
        clock: Where "now" comes from.
    """

    def __init__(
        self,
        progress: bool | str | Callable[[Progress], object],
        total: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._total = total
        self._next_due = self._started
        self._held_back: tuple[int, int] | None = None
        self._bar: _Bar | None = None
        self._tell: Callable[[Progress], object] | None = None
        if callable(progress):
            self._tell = progress
        elif not isinstance(progress, bool | str):
            raise TypeError(f"progress is a bool, a label or a callback, not {progress!r}")
        elif progress is not False and _bar_is_wanted():
            self._bar = _Bar(progress if isinstance(progress, str) else None, total)
            self._tell = self._bar.show

    def update(self, done: int, failed: int) -> None:
        """Note that *done* items are over, *failed* of them in error, and tell it if it is time."""
        if self._tell is None:
            return
        self._held_back = (done, failed)
        if self._clock() >= self._next_due:
            self.flush()

    def seconds_until_due(self) -> float | None:
        """How long until `flush` should tell what was held back; `None` if nothing was.

        For the loop that waits for results: when none comes, the last ones are still to be shown.
        """
        if self._held_back is None:
            return None
        return max(0.0, self._next_due - self._clock())

    def flush(self) -> None:
        """Tell what was held back, now."""
        tell, state, self._held_back = self._tell, self._held_back, None
        if tell is None or state is None:
            return
        now = self._clock()
        self._tell = None  # not again, if it raises
        tell(Progress(*state, self._total, now - self._started))
        self._tell = tell
        # From its end: a slow callback must not be called again at once, for ever.
        self._next_due = self._clock() + SECONDS_BETWEEN_UPDATES

    def close(self) -> None:
        """Tell the last update, if it was held back, and end the bar. May be called again."""
        try:
            self.flush()
        finally:
            self._tell = None
            if self._bar is not None:
                self._bar.close()


class _Bar:
    """tqdm's bar, set to our absolute numbers."""

    def __init__(self, label: str | None, total: int | None) -> None:
        # miniters and mininterval: what we tell is rare enough to be shown each time.
        from parmap._calls import delivery  # here, for a call without a bar needs none

        self._bar = _bar_class()(
            desc=label, total=total, miniters=1, mininterval=0, dynamic_ncols=True
        )
        delivery.making_room = _bar_class().external_write_mode

    def show(self, progress: Progress) -> None:
        if progress.failed:
            self._bar.set_postfix(failed=progress.failed, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


@cache
def _bar_class() -> Any:
    """Make tqdm's class for terminal or notebook start no thread and no semaphore."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        # tqdm's monitor thread redraws bars that are stuck; ours is fed by a loop that wakes up.
        monitor_interval = 0

    if not hasattr(tqdm, "_lock"):
        # The default lock holds a multiprocessing one, and with it a semaphore and a helper
        # process; a user who shares a screen between processes has called tqdm.set_lock before.
        Bar.set_lock(threading.RLock())
    return Bar


def _bar_is_wanted() -> bool:
    choice = os.environ.get("PARMAP_PROGRESS")
    if choice in {"0", "1"}:
        return choice == "1"
    # A notebook's stderr is no terminal, but a bar looks well there.
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
