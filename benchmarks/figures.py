"""Times of many rounds, and what is said of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """What one contestant took, round by round."""

    name: str
    ms: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one (ms)."""
        return statistics.median(self.ms)

    @property
    def p99(self) -> float:
        """The 99th percentile (ms); of less than 100 rounds the worst."""
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "rounds": len(self.ms),
            "median_ms": round(self.median, 3),
            "p99_ms": round(self.p99, 3),
            "all_ms": [round(each, 3) for each in self.ms],
        }


def ratio(one: Times, other: Times) -> float:
    """How many times longer `one` takes than `other`, by the medians."""
    return one.median / other.median


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)
