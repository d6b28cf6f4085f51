"""What a process uses: read from /proc, again and again, and compared for growth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MEMORY_MARGIN_MB = 8.0
"""What a daemon may grow: phrases kept in memory (2 MB), reports of the last day, fragmentation."""
COUNT_MARGIN = 3
"""Threads and files: workers of the executor are made when they are first needed."""
FEWEST_SAMPLES = 9
"""A life with fewer says nothing about growth."""


class Vitals(NamedTuple):
    """One look at a process."""

    memory_mb: float
    files: int
    threads: int
    children: int


def vitals_of(pid: int) -> Vitals:
    """A look at it now; raises OSError when it has gone."""
    proc = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
    )
    if "VmRSS" not in status:
        raise ProcessLookupError(f"{pid} has ended")
    children = sum(
        len((task / "children").read_text().split()) for task in (proc / "task").iterdir()
    )
    return Vitals(
        memory_mb=int(status["VmRSS"].split()[0]) / 1000,
        files=sum(1 for _ in (proc / "fd").iterdir()),
        threads=int(status["Threads"]),
        children=children,
    )


def floors(samples: list[Vitals]) -> tuple[Vitals, Vitals]:
    """The least of everything in the first third of a life, and in the last."""
    third = max(1, len(samples) // 3)
    first, last = samples[:third], samples[-third:]
    return Vitals(*map(min, zip(*first, strict=True))), Vitals(*map(min, zip(*last, strict=True)))


def growth(samples: list[Vitals]) -> str:
    """What grew beyond its margin; empty when nothing did, or nothing can be said."""
    if len(samples) < FEWEST_SAMPLES:
        return ""
    first, last = floors(samples)
    grew = (
        last.memory_mb > first.memory_mb + MEMORY_MARGIN_MB
        or last.files > first.files + COUNT_MARGIN
        or last.threads > first.threads + COUNT_MARGIN
        or last.children > first.children
    )
    return f"{first} became {last}" if grew else ""
