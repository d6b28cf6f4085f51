"""What a figure should be, and whether it is: the rows of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figures, table

HEAD = ("figure", "aim", "measured", "reached")


@dataclass(frozen=True, slots=True)
class Aim:
    """One row: which of a benchmark's figures, and its bound."""

    figure: str
    """In words; `{name}` stands for the benchmark's figure of that name."""
    path: str
    """Where it is among the benchmark's figures, groups parted by dots."""
    limit: float | str | None = None
    """The bound, or the path of the figure that is the bound; None: only told."""
    unit: str = ""
    at_least: bool = False
    """The bound is a lower one."""

    def row(self, found: Figures) -> tuple[str, str, str, str]:
        """As a row of the table; a figure that is not there is called missing."""
        name = self.figure.format_map(found)
        try:
            value = value_at(found, self.path)
            limit = value_at(found, self.limit) if isinstance(self.limit, str) else self.limit
        except KeyError:
            return name, self._bound(None), "missing", "no"
        if limit is None:
            return name, "", f"{told(value)}{self._unit}", ""
        reached = value >= limit if self.at_least else value <= limit
        return name, self._bound(limit), f"{told(value)}{self._unit}", "yes" if reached else "no"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _bound(self, limit: Any) -> str:
        if limit is None:
            return ""
        if limit == 0 and not self.at_least:
            return "0"
        return f"{'≥' if self.at_least else '≤'} {told(limit)}{self._unit}"


def value_at(found: Figures, path: str) -> Any:
    """A figure by its path; raises KeyError if there is none."""
    value: Any = found
    for name in path.split("."):
        value = value[name]
    return value


def told(value: Any) -> str:
    """A figure with three digits that count; several of them by name."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {told(part)}" for name, part in value.items())
    if isinstance(value, float):
        if abs(value) >= 100:
            return f"{value:.0f}"
        rounded = f"{value:.3g}"
        return rounded if "e" not in rounded else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def rows(
    aims: Sequence[Aim], name: str, outcome: Mapping[str, Any]
) -> list[tuple[str, str, str, str]]:
    """A benchmark's rows; one row for one that broke."""
    if "broken" in outcome:
        return [(name, "", f"broken: {outcome['broken']}", "no")]
    return [aim.row(outcome["figures"]) for aim in aims]


def aims_table(found: Sequence[tuple[str, str, str, str]]) -> str:
    """The table, as Markdown."""
    return table([HEAD, *found])
