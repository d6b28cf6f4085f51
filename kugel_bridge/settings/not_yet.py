"""What the manual names but the program cannot do yet: better refused than silently ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kugel_bridge.settings.sink import SinkAddress, SinkKind

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotYet:
    """One setting, and which of its values are refused."""

    path: str
    """Dotted; `*` stands for any name."""
    refused: Callable[[Any], bool]
    instead: str
    """What to do about it."""


def _on(value: Any) -> bool:
    return value is True


def _given(value: Any) -> bool:
    return value is not None


def _any(value: Any) -> bool:
    return True


NOT_YET: tuple[NotYet, ...] = (
    NotYet("device.area", _given, "remove it; it is for Home Assistant's discovery"),
    NotYet("home_assistant.enabled", _on, "leave it false; mqtt.publish works without it"),
    NotYet("home_assistant.discovery_prefix", _any, "remove it"),
    NotYet("home_assistant.status_topic", _any, "remove it"),
    NotYet("hermes.enabled", _on, "leave it false"),
    NotYet("hermes.site_ids", _any, "remove it"),
    NotYet("wyoming.enabled", _on, "leave it false"),
    NotYet("wyoming.host", _any, "remove it"),
    NotYet("wyoming.port", _any, "remove it"),
    NotYet("wyoming.zeroconf", _any, "remove it"),
    NotYet("cloud.characters_per_day", _given, "remove it"),
    NotYet("alerts.dir", _any, "remove it; the sound of alerts is kept in the phrase cache"),
    NotYet("quiet.*", _any, "remove it; <base>/<device>/set/quiet works"),
    NotYet(
        "zones.*.sink",
        lambda value: isinstance(value, SinkAddress) and value.kind is SinkKind.SNAPCAST,
        'choose "alsa:...", "wav:..." or "null:"',
    ),
)
"""Shorten this list when something has been built; the manual's test reads it too."""


def refusals(given: Iterator[tuple[Path, Any]]) -> Iterator[tuple[Path, Any, NotYet]]:
    """Those of the given settings that are not supported yet."""
    for path, value in given:
        for entry in NOT_YET:
            if _matches(entry.path.split("."), path) and entry.refused(value):
                yield path, value, entry


def is_not_yet(path: Path) -> bool:
    """Whether a setting is in the list, with whatever value."""
    return any(_matches(entry.path.split("."), path) for entry in NOT_YET)


def _matches(pattern: list[str], path: Path) -> bool:
    return len(pattern) == len(path) and all(
        sign in ("*", part) for sign, part in zip(pattern, path, strict=True)
    )
