"""Checks that look at several settings, or at the files they name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kugel_bridge.kugelaudio.hosts import is_same_server
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.mqtt.topics import Topics
from kugel_bridge.settings.not_yet import refusals
from kugel_bridge.settings.problems import KeyPath, Problem, origin_of, shown
from kugel_bridge.settings.sink import SinkKind
from kugel_bridge.settings.sources import missing_credentials, readable_by_others
from kugel_bridge.settings.tree import Settings, leaves

_NEEDED_FILES: tuple[KeyPath, ...] = (
    ("mqtt", "ca_file"),
    ("mqtt", "cert_file"),
    ("mqtt", "key_file"),
    ("cache", "warm"),
)


def found_problems(settings: Settings, origins: Mapping[KeyPath, str]) -> Iterator[Problem]:
    """What is wrong although each setting is fine by itself."""
    values = dict(leaves(settings))
    given = ((path, value) for path, value in values.items() if path in origins)
    for path, value, entry in refusals(given):
        remedy = f"not yet supported; {entry.instead}"
        yield Problem(path, shown(path, value), remedy, origin_of(path, origins))
    for path in _NEEDED_FILES:
        if (file := values[path]) is not None and (remedy := _cannot_be_used(file)):
            yield Problem(path, shown(path, file), remedy, origin_of(path, origins))
    yield from _topic_problems(settings, origins)
    yield from _card_problems(settings, origins)
    yield from _voice_problems(settings, origins)
    if settings.gateway.engine == "upstream" and (remedy := upstream_problem(settings)):
        path = ("gateway", "engine")
        yield Problem(path, shown(path, "upstream"), remedy, origin_of(path, origins))


def found_warnings(
    settings: Settings, origins: Mapping[KeyPath, str], file: Path | None
) -> Iterator[str]:
    """What works, and is unwise."""
    values = dict(leaves(settings))
    secret = [
        ".".join(path)
        for path in (("cloud", "api_key"), ("mqtt", "password"), ("gateway", "keys"))
        if values[path] and file is not None and origins.get(path, "").startswith(f"{file}, ")
    ]
    if secret and file is not None and readable_by_others(file):
        yield f"{file} holds {', '.join(secret)} and everybody may read it; run `chmod 600 {file}`"
    if missing := missing_credentials():
        yield (
            f"$CREDENTIALS_DIRECTORY = {missing}: no such directory, so that no credential was "
            "read; make it, or unset the variable"
        )
    if settings.cloud.sends_key_in_clear:
        yield f"cloud.base_url = {settings.cloud.base_url}: the key crosses the network unencrypted"
    for name, alert in settings.alerts.named.items():
        if alert.file is not None and (remedy := _cannot_be_used(alert.file)):
            yield f"alerts.{name}.file = {alert.file}: {remedy}; until then a tone takes its place"
    gateway = settings.gateway
    if gateway.enabled and gateway.open_to_all and not gateway.keys:
        yield f"gateway.open_to_all: everybody who reaches {gateway.host} may use it; set keys"


def upstream_problem(settings: Settings, host: str | None = None, port: int | None = None) -> str:
    """Why a gateway cannot ask the service of [cloud]; empty if it can.

    `host` and `port` are where it will listen, if not as configured.
    """
    cloud, gateway = settings.cloud, settings.gateway
    if not cloud.enabled:
        return (
            "needs a service to ask; set cloud.api_key, $KUGELAUDIO_API_KEY or cloud.base_url, "
            'or choose "local"'
        )
    host = gateway.host if host is None else host
    port = gateway.port if port is None else port
    if is_same_server(cloud.effective_base_url, host, port):
        return (
            f"would ask itself: cloud.base_url = {cloud.effective_base_url} is this gateway's own "
            "address; set it to the service's, or remove it"
        )
    return ""


def _topic_problems(settings: Settings, origins: Mapping[KeyPath, str]) -> Iterator[Problem]:
    mqtt, device = settings.mqtt, settings.device
    try:
        Topics(mqtt.base_topic, device.id, device.groups, mqtt.extra_topics)
    except ConfigurationError as error:
        what, _, remedy = str(error).partition(": ")
        key, _, value = what.partition(" = ")
        path = tuple(key.split("."))
        yield Problem(path, value, remedy, origin_of(path, origins))


def _card_problems(settings: Settings, origins: Mapping[KeyPath, str]) -> Iterator[Problem]:
    for name, zone in settings.zones.items():
        if zone.sink.kind is not SinkKind.ALSA or not any(map(str.isdigit, zone.sink.address)):
            continue
        from kugel_bridge.audio.cards import refuse_index

        try:
            refuse_index(zone.sink.address)
        except ConfigurationError as error:
            path = ("zones", name, "sink")
            yield Problem(path, shown(path, str(zone.sink)), str(error), origin_of(path, origins))


def _voice_problems(settings: Settings, origins: Mapping[KeyPath, str]) -> Iterator[Problem]:
    wishes, hidden = settings.gateway.wishes, settings.gateway.hidden_local_voices
    if not wishes and not hidden:
        return
    from kugel_bridge.gateway.voices import VoiceWishError, line_up

    try:
        line_up(wishes, hidden)
    except VoiceWishError as error:
        above = () if error.handle is None else ("voices", error.handle)
        path: KeyPath = tuple(filter(None, ("gateway", *above, error.key)))
        entry = settings.gateway.voices.get(error.handle or "")
        value = getattr(entry, error.key, None) if error.key else None
        text = "" if value is None else shown(path, value)
        yield Problem(path, text, str(error), origin_of(path, origins))


def _cannot_be_used(file: Path) -> str:
    if not file.is_file():
        return "no such file"
    return "" if os.access(file, os.R_OK) else "cannot be read by this user; change owner or mode"
