"""The values of `set/<name>`: what people may change while the bridge runs."""

from __future__ import annotations

from kugel_bridge.model.announcement import Volume
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.body import read_object
from kugel_bridge.mqtt.fields import chime_of, flag_of, language_of, volume_of, word_of, wrong

SWITCHES = ("muted", "quiet", "paused")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
SETTINGS = ("volume", *SWITCHES, "voice", "language", "chime", "log_level")
_AS_CONFIGURED = ("", "none", "default")

SettingValue = bool | str | Volume | None
"""A switch, a word, a loudness; None = as configured."""


def parse_setting(name: str, payload: bytes) -> SettingValue:
    """The value for the setting `name`; raises RejectedError.

    `volume` gives a Volume, switches a bool, `chime` a bool or a name, `log_level` one of
    LOG_LEVELS, `voice` and `language` a text, or None for "default" and "none".
    """
    if name not in SETTINGS:
        raise RejectedError(f"there is no setting {name[:64]!r}; there are {', '.join(SETTINGS)}")
    value: object = read_object(payload)
    if isinstance(value, dict):
        # Those who speak zigbee2mqtt write {"state": "ON"}.
        value = next((value[key] for key in ("value", name, "state") if key in value), None)
    if name == "volume":
        return volume_of(name, value)
    if name in SWITCHES:
        return flag_of(name, value)
    if name == "chime":
        return chime_of(name, value)
    if name == "log_level":
        return _log_level_of(value)
    if isinstance(value, str) and value.strip().lower() in _AS_CONFIGURED:
        return None
    return language_of(name, value) if name == "language" else word_of(name, value)


def _log_level_of(value: object) -> str:
    level = value.strip().lower() if isinstance(value, str) else ""
    level = {"warn": "warning", "fatal": "critical"}.get(level, level)
    if level not in LOG_LEVELS:
        raise wrong("log_level", value, f"give one of {', '.join(LOG_LEVELS)}")
    return level
