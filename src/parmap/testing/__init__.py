"""For tests of code that uses parmap."""

from __future__ import annotations

from parmap.testing.leaks import nothing_left_behind

__all__ = ["nothing_left_behind"]
