"""Numbers as a person reads them."""

from __future__ import annotations


def percent(share: float) -> str:
    """A part of the whole; never more than that."""
    return f"{100 * min(1.0, share):.0f} %"


def seconds(duration: float) -> str:
    """A duration."""
    for unit, one in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if duration >= one:
            return f"{duration / one:.3g} {unit}"
    return f"{duration / 1e-9:.0f} ns"


def size(nbytes: float) -> str:
    """A number of bytes."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= one:
            return f"{nbytes / one:.3g} {unit}"
    return f"{nbytes:.0f} B"
