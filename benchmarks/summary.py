"""Times made into figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

Figures = dict[str, float]


def summary(times_ms: Iterable[float]) -> Figures:
    """Count, least, median, 99th percentile and most, in ms."""
    ordered = sorted(times_ms)
    late = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    found = {
        "min_ms": ordered[0],
        "median_ms": statistics.median(ordered),
        "p99_ms": late,
        "max_ms": ordered[-1],
    }
    return {"n": len(ordered), **{name: round(ms, 3) for name, ms in found.items()}}
