"""What numbers become: medians of rounds, ratios to a peer, percentiles, spread. Nothing here runs
anything."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Figures = dict[str, float]
# Of these more is better; of all others, times and sizes, less.
MORE_IS_BETTER = frozenset({"gb_per_s", "efficiency", "rate"})


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all (0 to 1) do not exceed; of the values themselves, never between
    two."""
    if not values:
        raise ValueError("no values: a percentile needs at least one")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def medians(rounds: Sequence[Mapping[str, float]]) -> Figures:
    """The median of each figure, over the rounds that have it."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {
        name: statistics.median(figures[name] for figures in rounds if name in figures)
        for name in names
    }


def ratio(ours: float, theirs: float) -> float | None:
    """Ours as a part of theirs; None where that says nothing (a clock too coarse gave zero)."""
    return ours / theirs if theirs > 0 else None


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a part of the median: how far two honest runs
    differ."""
    middle = statistics.median(values) if values else 0.0
    if len(values) < 2 or middle <= 0:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle


def makespan_bound(costs: Sequence[float], workers: int) -> float:
    """The least time in which `workers` can do the costs: no schedule beats the mean or the largest."""
    return max(sum(costs) / workers, max(costs, default=0.0))


def in_order_bound(costs: Sequence[float], workers: int) -> float:
    """The time of a greedy hand that deals item by item, in order, at no cost: it cannot look ahead."""
    free_at = [0.0] * workers
    for cost in costs:
        next_free = free_at.index(min(free_at))
        free_at[next_free] += cost
    return max(free_at)
