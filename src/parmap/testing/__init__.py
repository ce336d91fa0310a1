"""For tests of code that uses parmap.

`nothing_left_behind` finds leaks; `chaos` kills and delays workers, reproducibly; `InlinePool` runs
everything in this process, and `FakeBackend` only what and when the test says.
"""

from __future__ import annotations

from parmap._calls.inline import InlinePool
from parmap.testing.fake import FakeBackend, FakeTask
from parmap.testing.leaks import nothing_left_behind
from parmap.testing.trouble import chaos

__all__ = ["FakeBackend", "FakeTask", "InlinePool", "chaos", "nothing_left_behind"]
