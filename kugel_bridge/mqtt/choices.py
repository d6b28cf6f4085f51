"""Fields of an announcement that have a vocabulary of their own: levels, zones, policies."""

from __future__ import annotations

from collections.abc import Mapping

from kugel_bridge.model.announcement import CachePolicy, OfflineRule, Priority, Repeat
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.aliases import REPEAT
from kugel_bridge.mqtt.fields import Fields, flag_of, number_of, wrong
from kugel_bridge.mqtt.topics import NAME

YEAR_S = 366 * 86_400.0
MAX_REPEATS = 20
MAX_ZONES = 64

_PRIORITIES: Mapping[str, Priority] = {
    **{level.value: level for level in Priority},
    **dict.fromkeys(("important", "emergency", "alarm", "urgent", "true"), Priority.CRITICAL),
    **dict.fromkeys(("message", "text", "default", "info", "false"), Priority.NORMAL),
    "notification": Priority.LOW,
    "progress": Priority.STATUS,
}
"""Our levels, those of speech-dispatcher, and common words."""
_LEVELS_FROM = (
    (80, Priority.CRITICAL),
    (60, Priority.HIGH),
    (40, Priority.NORMAL),
    (20, Priority.LOW),
)
"""Numbers 0…100, higher is more urgent: five equal steps, 50 is normal."""
_CACHE_POLICIES: Mapping[str, CachePolicy] = {
    "use": CachePolicy.USE,
    "bypass": CachePolicy.BYPASS,
    "refresh": CachePolicy.REFRESH,
    "only": CachePolicy.ONLY,
}


def seconds_of(field: str, value: object) -> float:
    """How long it stays true (s), more than 0."""
    seconds = number_of(field, value, 0, YEAR_S, "the seconds it stays true,")
    if seconds == 0:
        raise wrong(field, value, "give the seconds it stays true, more than 0")
    return seconds


def priority_of(field: str, value: object) -> Priority:
    """The level of a word, or of a number 0…100 that is higher the more urgent it is."""
    if isinstance(value, bool):
        return Priority.CRITICAL if value else Priority.NORMAL
    if isinstance(value, str) and value.strip().lower() in _PRIORITIES:
        return _PRIORITIES[value.strip().lower()]
    try:
        number = number_of(field, value, 0, 100)
    except RejectedError as error:
        levels = ", ".join(Priority)
        raise wrong(field, value, f"give one of {levels}, or a number from 0 to 100") from error
    return next((level for least, level in _LEVELS_FROM if number >= least), Priority.STATUS)


def zones_of(field: str, value: object) -> tuple[str, ...]:
    """Names of zones from a list, or from a text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names or len(names) > MAX_ZONES:
        raise wrong(field, value, "give the name of a zone, or a list of names")
    zones = []
    for name in names:
        zone = name.strip().lower() if isinstance(name, str) else ""
        if not NAME.fullmatch(zone):
            raise wrong(field, name, "zones have 1 to 64 of a-z, 0-9, _ and -")
        zones.append(zone)
    return tuple(dict.fromkeys(zones))


def repeat_of(field: str, value: object, ignored: list[str]) -> Repeat:
    """A count, or an object with count and pause_s."""
    if not isinstance(value, dict):
        return Repeat(_count_of(field, value))
    fields = Fields(value, REPEAT)
    count, pause = fields.take("count"), fields.take("pause_s")
    ignored.extend(f"{field}.{name}" for name in fields.ignored)
    return Repeat(
        1 if count is None else _count_of(f"{field}.{count[0]}", count[1]),
        Repeat().pause_s
        if pause is None
        else number_of(f"{field}.{pause[0]}", pause[1], 0, 3600, "seconds"),
    )


def _count_of(field: str, value: object) -> int:
    count = number_of(field, value, 1, MAX_REPEATS)
    if count != int(count):
        raise wrong(field, value, "give a whole number")
    return int(count)


def cache_of(field: str, value: object) -> CachePolicy:
    """true, false, "refresh" or "only"."""
    if isinstance(value, str) and value.strip().lower() in _CACHE_POLICIES:
        return _CACHE_POLICIES[value.strip().lower()]
    try:
        return CachePolicy.USE if flag_of(field, value) else CachePolicy.BYPASS
    except RejectedError as error:
        raise wrong(field, value, 'give true, false, "refresh" or "only"') from error


def offline_of(field: str, value: object) -> OfflineRule:
    """speak or wait."""
    if isinstance(value, str) and value.strip().lower() in tuple(OfflineRule):
        return OfflineRule(value.strip().lower())
    raise wrong(field, value, 'give "speak" or "wait"')


def check_format(fields: Fields) -> None:
    """Markup is told from text when it is cleaned, so that these change nothing."""
    if (found := fields.take("format")) is not None and (
        not isinstance(found[1], str) or found[1].strip().lower() not in ("text", "ssml")
    ):
        raise wrong(*found, 'give "text" or "ssml"')
    if (found := fields.take("ssml")) is not None:
        flag_of(*found)
