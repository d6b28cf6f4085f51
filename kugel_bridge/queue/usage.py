"""What a day's speech cost."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

KEPT_DAYS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage:
    """Speech of one day: what the bridge bought, or what one key of the gateway used."""

    day: datetime.date
    characters: int = 0
    audio_s: float = 0.0
    cost_cents: float = 0.0
    requests: int = 0

    def __add__(self, other: DayUsage) -> DayUsage:
        return DayUsage(
            day=self.day,
            characters=self.characters + other.characters,
            audio_s=self.audio_s + other.audio_s,
            cost_cents=self.cost_cents + other.cost_cents,
            requests=self.requests + other.requests,
        )


class UsageBook:
    """Usage by day, for the last `KEPT_DAYS` days that had any."""

    def __init__(self) -> None:
        self._days: dict[datetime.date, DayUsage] = {}

    def __bool__(self) -> bool:
        return bool(self._days)

    def add(self, usage: DayUsage) -> None:
        """Count it in."""
        known = self._days.get(usage.day)
        self._days[usage.day] = usage if known is None else known + usage
        if len(self._days) > KEPT_DAYS:
            del self._days[min(self._days)]

    def newest(self, days: int) -> list[DayUsage]:
        """The last `days` days that had any, newest first."""
        return [self._days[day] for day in sorted(self._days, reverse=True)[:days]]

    def clear(self) -> None:
        """Forget everything."""
        self._days.clear()
