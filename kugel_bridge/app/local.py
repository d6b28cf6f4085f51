"""Speaks one announcement right here, or explains it, without a broker or a daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from kugel_bridge.app import parts
from kugel_bridge.app.verbs import explained
from kugel_bridge.conductor.intake import with_names
from kugel_bridge.conductor.performance import Performance
from kugel_bridge.conductor.script import Words, script_of
from kugel_bridge.model.announcement import ALL_ZONES, Announcement, CachePolicy, OfflineRule
from kugel_bridge.model.clock import SystemClock
from kugel_bridge.model.errors import (
    BridgeError,
    ConfigurationError,
    RejectedError,
    StorageError,
)
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.mqtt.events import report_payload
from kugel_bridge.mqtt.payloads import parse_announcement
from kugel_bridge.mqtt.topics import SayAddress
from kugel_bridge.settings.tree import Settings
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.ladder import Ladder

_CLOCK = SystemClock()


async def speak_locally(settings: Settings, payload: bytes) -> dict[str, Any]:
    """Speak the announcement in `payload` (JSON) now; returns its outcome as an event.

    Raises a BridgeError for an announcement that is not valid.
    """
    announcement = checked_announcement(settings, payload)
    name = announcement.zones[0] if announcement.zones else settings.default_zone
    if len(announcement.zones) > 1 or name == ALL_ZONES:
        raise RejectedError("--local plays in one zone; name one with --zone")
    if name not in settings.zones:
        raise RejectedError(f"no zone {name!r}; there are: {', '.join(settings.zones)}")
    zone = parts.zone_for(name, settings.zones[name], lambda: None)
    rule = parts.level_rules(settings)[announcement.priority]
    first_s: list[float] = []
    volume = announcement.volume
    percent = zone.volume if volume is None else volume.applied_to(zone.volume)
    async with _ladder(settings) as ladder:
        performance = Performance(
            _cues(settings, announcement, chime=zone.chime),
            ladder,
            cache=announcement.cache,
            first_sound_s=rule.first_sound_s,
            # Nobody will try again later.
            offline=OfflineRule.SPEAK,
        )
        outcome, reason = Outcome.FINISHED, ""
        try:
            await zone.sink.open()
            await zone.player.play(
                performance.sound(),
                percent=lambda: percent,
                on_first_sound=lambda: first_s.append(_CLOCK.now().monotonic_s),
            )
        except BridgeError as error:
            outcome, reason = Outcome.FAILED, str(error)
        finally:
            await zone.sink.close()
    since_s = announcement.received.monotonic_s
    report = Report(
        event=outcome,
        announcement=announcement,
        zone=name,
        at=_CLOCK.now(),
        reason=reason or performance.reason,
        source=performance.source,
        first_sound_ms=round((first_s[0] - since_s) * 1000) if first_s else None,
        duration_ms=round(zone.player.last.heard_s * 1000),
        characters=performance.characters,
        attempts=1,
    )
    event: dict[str, Any] = json.loads(report_payload(report))
    return event


async def explain_locally(
    settings: Settings, payload: bytes, cache: CachePolicy
) -> list[dict[str, Any]]:
    """What `speak_locally` would do, part by part; nothing is said or made."""
    announcement = checked_announcement(settings, payload)
    cues = _cues(settings, announcement, chime=None)
    utterances = [cue.utterance for cue in cues if isinstance(cue, Words)]
    async with _ladder(settings) as ladder:
        return await explained(ladder, utterances, cache=cache)


def checked_announcement(settings: Settings, payload: bytes) -> Announcement:
    """What the bridge makes of `payload` (JSON); raises RejectedError if it would refuse it."""
    announcement = parse_announcement(
        SayAddress(),
        payload,
        received=_CLOCK.now(),
        new_id=lambda: uuid.uuid4().hex[:12],
        clean=parts.cleaner(settings),
        phrases=parts.phrase_texts(settings),
        content_type="application/json",
    )
    if announcement is None:
        raise RejectedError("nothing to say")
    return with_names(announcement, parts.alert_book(settings), lambda: settings.cloud.language)


def _cues(settings: Settings, announcement: Announcement, chime: str | None) -> Any:
    usual = parts.delivery(settings, chime=chime)
    alerts = parts.alert_book(settings)
    alerts.load()
    return script_of(announcement, usual, alerts)


@contextlib.asynccontextmanager
async def opened_cache(settings: Settings) -> AsyncIterator[PhraseCache]:
    """The phrase cache, beside a daemon that may use it too.

    Raises ConfigurationError if it is switched off, StorageError if it cannot be used.
    """
    cache = parts.phrase_cache(settings)
    if cache is None:
        raise ConfigurationError(
            "cache.max_mb = 0: the phrase cache is switched off; set it to a size (MB)"
        )
    await cache.open()
    try:
        if cache.problem:
            raise StorageError(f"the cache in {settings.cache.dir} cannot be used: {cache.problem}")
        yield cache
    finally:
        await cache.close()


@contextlib.asynccontextmanager
async def running_ladder(settings: Settings, cache: PhraseCache | None) -> AsyncIterator[Ladder]:
    """The ladder of a command: no warm socket."""
    client = parts.cloud_client(settings)
    ladder = parts.ladder(settings, cache, parts.cloud_source(settings, client))
    raised: BridgeError | None = None
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(ladder.run(), name="speech")
        try:
            yield ladder
        except BridgeError as error:
            raised = error  # the group would wrap it
        finally:
            running.cancel()
    if raised is not None:
        raise raised


@contextlib.asynccontextmanager
async def _ladder(settings: Settings) -> AsyncIterator[Ladder]:
    """The ladder with a cache, if there is one: speech goes on without."""
    async with contextlib.AsyncExitStack() as resources:
        cache = parts.phrase_cache(settings)
        if cache is not None:
            await cache.open()
            resources.push_async_callback(cache.close)
        yield await resources.enter_async_context(running_ladder(settings, cache))
