"""`parmap.profile`: where the time of the calls in a block went, and what to do about it."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from parmap import options
from parmap._calls.profiling import Recording
from parmap._calls.recording import CallRecord, clock
from parmap._version import __version__
from parmap.observe._diagnosis import Diagnosis, diagnose
from parmap.observe._figures import costliest, grouped
from parmap.observe._summary import summary
from parmap.observe._timeline import timeline

if TYPE_CHECKING:
    from types import TracebackType

    from parmap.observe._timeline import Timeline


def profile() -> Profile:
    """Measure the parallel calls of a ``with`` block: where their time went, and what to change.

    ``with parmap.profile() as p:`` records `parallel_map`, `parallel_starmap`, `parallel_imap`,
    `Pool.submit` and all that is built on them, with parmap's own workers, with ``max_workers=0``
    and on foreign executors (of which less is known).  Recorded are the calls that its own thread
    or asyncio task makes in the block, and those of threads that have no profile of their own.
    Profiles nest: a call is in each that is open around it.

    Calls that go on after the block are recorded as far as they came.  While no profile is open,
    nothing is measured; while one is, each message costs some 10 µs more, which is little where
    chunks size themselves.  What it keeps is
    bounded, also for millions of items: sums, the ten slowest items of each call, up to 2,000
    chunks of each call (neighbours become one when there are more), 100 calls by themselves and the
    rest added up by function.  One item's arguments are kept until the next ones are sent.

    Items of 20 µs or more are timed one by one; shorter ones by the chunk.

    Returns:
        A `Profile`, to be used with ``with``; ask it afterwards, or in the block.

    Example:
        >>> import parmap
        >>> with parmap.profile() as p:
        ...     _ = parmap.parallel_map(abs, [-1, 2], max_workers=0)
        >>> p.diagnosis.fault
        'inline'
    """
    return Profile()


class Profile:
    """What `profile` gives: figures of the calls in its block.

    Thread-safe; each is opened once.  Asked within the block, it tells of the calls so far.
    """

    def __init__(self) -> None:
        self._recording = Recording()
        self._used = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            if self._used:
                raise RuntimeError("a profile is opened once: call parmap.profile() anew")
            self._used = True
        self._recording.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._recording.close()

    def summary(self) -> None:
        """Print where the time went, and one sentence of diagnosis, to stdout.

        ``str(profile)`` is the same text.  Shares of a worker are of the time that it was there for
        the calls.
        """
        sys.stdout.write(f"{self}\n")

    @property
    def diagnosis(self) -> Diagnosis:
        """One sentence about the function that took most of the time, and its kind."""
        group = costliest(grouped(self._recording.records))
        return diagnose(None if group is None else group.figures(options.usable_cpus()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline into a file, which is replaced if it exists.

        ``.html``: one self-contained page to look at, zoom and hover, with the summary; no network,
        nothing to install.  ``.json``: a Chrome trace, which https://ui.perfetto.dev opens.

        Args:
            path: where; its suffix says what.

        Raises:
            TypeError: `path` is no path.
            ValueError: another suffix.
            OSError: the file cannot be written.
        """
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
        target = Path(path)
        match target.suffix.lower():
            case ".html":
                from parmap.observe._page import page

                text = page(self._timeline(), str(self), self.diagnosis, _about())
            case ".json":
                from parmap.observe._chrome import chrome_trace

                text = json.dumps(chrome_trace(self._timeline(), _about()))
            case suffix:
                raise ValueError(
                    f"path must end in .html (a page to look at) or .json (a Chrome trace for"
                    f" Perfetto), not {suffix or target.name!r}"
                )
        target.write_text(text, encoding="utf-8")

    def _timeline(self) -> Timeline:
        recording = self._recording
        return timeline(recording.records, recording.began, recording.until or clock())

    @property
    def _records(self) -> list[CallRecord]:
        return self._recording.records

    def __str__(self) -> str:
        records = self._records
        return summary(records, grouped(records), self.diagnosis)

    def __repr__(self) -> str:
        state = "open" if self._recording.is_open else "over" if self._used else "not opened"
        return f"<Profile {state}: {len(self._records)} records>"


def _about() -> dict[str, Any]:
    return {
        "parmap": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpus": str(options.usable_cpus()),
    }
