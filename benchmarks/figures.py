"""Times of many rounds, and what is said of them."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]
"""What a benchmark found, as JSON knows it; groups are dictionaries themselves."""


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

    @property
    def spread(self) -> float:
        """How far the middle half of them lies apart (ms)."""
        low, _, high = statistics.quantiles(self.ms, n=4, method="inclusive")
        return high - low

    def to_dict(self) -> Figures:
        """For JSON."""
        return {
            "name": self.name,
            "rounds": len(self.ms),
            "least_ms": round(min(self.ms), 3),
            "median_ms": round(self.median, 3),
            "p99_ms": round(self.p99, 3),
            "most_ms": round(max(self.ms), 3),
        }


def times(name: str, taken_ms: Iterable[float]) -> Figures:
    """Times as figures."""
    return Times(name, tuple(taken_ms)).to_dict()


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)


def printed(measure: Callable[..., Mapping[str, Any]]) -> None:
    """Measure as much as the command line says (whole numbers), and print the figures as JSON."""
    print(json.dumps(measure(*map(int, sys.argv[1:])), indent=2))
