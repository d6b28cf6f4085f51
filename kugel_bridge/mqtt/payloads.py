"""What a message on a request topic asks for: an Announcement, or a refusal that says why.

The other spellings of the fields are in `aliases`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kugel_bridge.model.announcement import (
    MAX_TEXT_CHARACTERS,
    AlertSegment,
    Announcement,
    CachePolicy,
    ChimeSegment,
    Priority,
    Repeat,
    ReplyAddress,
    Segment,
    TextSegment,
    Volume,
)
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.aliases import ALERT, ANNOUNCEMENT
from kugel_bridge.mqtt.body import Body, read_body
from kugel_bridge.mqtt.choices import (
    YEAR_S,
    cache_of,
    check_format,
    offline_of,
    priority_of,
    repeat_of,
    seconds_of,
    zones_of,
)
from kugel_bridge.mqtt.fields import (
    MAX_IGNORED,
    Fields,
    chime_of,
    flag_of,
    language_of,
    moment_of,
    number_of,
    speed_of,
    text_of,
    volume_of,
    word_of,
    wrong,
)
from kugel_bridge.mqtt.refusal import EVENT_TEXT_CHARACTERS, RefusedAnnouncementError
from kugel_bridge.mqtt.segments import alert_name_of, parse_segments
from kugel_bridge.mqtt.topics import NAME, AlertAddress, SayAddress, is_publishable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PhraseText:
    """A named template with its variables filled in."""

    text: str
    language: str | None = None
    voice: str | None = None


Clean = Callable[[str, str | None], str]
"""(text, language) -> the text as it will be spoken."""
Phrases = Callable[[str, Mapping[str, str]], PhraseText]
"""(name, variables) -> the text; raises RejectedError."""


@dataclass(slots=True)
class _Draft:
    """What is known of an announcement so far; a refusal tells as much."""

    id: str
    zones: tuple[str, ...]
    text: str = ""
    priority: Priority = Priority.NORMAL
    reply_to: tuple[ReplyAddress, ...] = ()
    expiry_s: float | None = None
    delivery: str = ""
    redelivered: bool = False


def parse_announcement(
    address: SayAddress | AlertAddress,
    payload: bytes,
    *,
    received: Instant,
    new_id: Callable[[], str],
    clean: Clean,
    phrases: Phrases | None = None,
    why_no_reply: Callable[[str], str] = lambda _topic: "",
    content_type: str | None = None,
    retain: bool = False,
    expiry_s: float | None = None,
    response_topic: str | None = None,
    correlation: bytes | None = None,
    delivery: str = "",
    redelivered: bool = False,
) -> Announcement | None:
    """The announcement in a message; None for an empty one, which only clears a retained one.

    `expiry_s` is what the broker says is left of the message's life (s), `why_no_reply` why no
    outcome may be sent to a topic. Raises RefusedAnnouncementError, and nothing else.
    """
    if not payload:
        return None
    zones = address.zones if isinstance(address, SayAddress) else ()
    # Unchecked words of the topic must not make the refusal itself unsendable.
    draft = _Draft(
        new_id(),
        tuple(z for z in zones if NAME.fullmatch(z)),
        expiry_s=expiry_s,
        delivery=delivery,
        redelivered=redelivered,
    )
    if isinstance(address, AlertAddress):
        draft.priority = Priority.CRITICAL  # smoke, water, a burglar: it passes mute and quiet
    try:
        if response_topic is not None:
            draft.reply_to = (_reply(response_topic, "response topic", why_no_reply, correlation),)
        try:
            body = read_body(payload, content_type)
            if isinstance(body, str) and isinstance(address, SayAddress):
                draft.text = _sendable(body)
                _refuse_retained(retain)
                return _text_alone(address, body, draft, received=received, clean=clean)
            fields, parts = _fields_of(address, body, draft)
            _identify(fields, draft, why_no_reply)
        except RejectedError:
            _refuse_retained(retain)
            raise
        _refuse_retained(retain)
        return _announcement(
            address, fields, parts, draft, received=received, clean=clean, phrases=phrases
        )
    except RejectedError as error:
        raise RefusedAnnouncementError(
            str(error),
            id=draft.id,
            received=received,
            text=draft.text[:EVENT_TEXT_CHARACTERS],
            zones=draft.zones,
            priority=draft.priority,
            reply_to=draft.reply_to,
        ) from error


def is_alert_off(payload: bytes) -> bool:
    """Whether a siren is switched off: the text OFF, or an object with that state."""
    try:
        body = read_body(payload)
    except RejectedError:
        return False
    state = body.get("state") if isinstance(body, dict) else body
    return isinstance(state, str) and state.strip().upper() == "OFF"


def alert_of(announcement: Announcement) -> str:
    """The name of the stored alert that an announcement begins with; empty if it does not."""
    first = announcement.segments[0]
    return first.name if isinstance(first, AlertSegment) else ""


def _refuse_retained(retain: bool) -> None:
    if retain:
        # It would be spoken again at every start; the manual says so, and this word stands in it.
        raise RejectedError("retained")


def _text_alone(
    address: SayAddress, text: str, draft: _Draft, *, received: Instant, clean: Clean
) -> Announcement:
    """What nearly all send. To ask it for all the fields it does not have would take longer."""
    _check_zones(address)
    text = clean(text_of("text", text), None)
    if not text.strip():
        raise _nothing_left()
    draft.text = text
    _check_length(len(text))
    return Announcement(
        id=draft.id,
        segments=(TextSegment(text),),
        received=received,
        zones=draft.zones,
        volume=None if address.volume is None else _volume_in_topic(address.volume),
        ttl_s=draft.expiry_s,
        reply_to=draft.reply_to,
        delivery=draft.delivery,
        redelivered=draft.redelivered,
    )


def _fields_of(
    address: SayAddress | AlertAddress, body: Body, draft: _Draft
) -> tuple[Fields, list[Any]]:
    """The message as fields and, where it is a list, the parts to say."""
    spellings = ALERT if isinstance(address, AlertAddress) else ANNOUNCEMENT
    if isinstance(body, str):
        return Fields({"name": body}, spellings), []
    if isinstance(body, list):
        return Fields({}, spellings), body
    inner = body.get("input")
    if isinstance(inner, dict):
        # sonos2mqtt: {"command": "speak", "input": {...}}; only there `name` is a voice.
        outer = {k: v for k, v in body.items() if k not in ("input", "command")}
        voice = {"voice": inner["name"]} if inner.get("name") is not None else {}
        body = outer | voice | {k: v for k, v in inner.items() if k != "name"}
    for spelling in spellings["text"]:
        if isinstance(text := body.get(spelling), str):
            draft.text = _sendable(text)
            break
    return Fields(body, spellings), []


def _identify(fields: Fields, draft: _Draft, why_no_reply: Callable[[str], str]) -> None:
    """Who asks, and where the answer goes: first of all, so that a refusal finds its way."""
    wrong_id: RejectedError | None = None
    if (found := fields.take("id")) is not None:
        try:
            draft.id = word_of(*found)
        except RejectedError as error:
            wrong_id = error  # to be told where the answer is wanted
    if (found := fields.take("reply_to")) is not None:
        address = _reply(text_of(*found), found[0], why_no_reply)
        if all(other.topic != address.topic for other in draft.reply_to):
            draft.reply_to += (address,)
    if wrong_id is not None:
        raise wrong_id
    if (found := fields.take("priority")) is not None:
        draft.priority = priority_of(*found)
    if (found := fields.take("zones")) is not None:
        draft.zones = zones_of(*found)


def _announcement(
    address: SayAddress | AlertAddress,
    fields: Fields,
    parts: list[Any],
    draft: _Draft,
    *,
    received: Instant,
    clean: Clean,
    phrases: Phrases | None,
) -> Announcement:
    if isinstance(address, SayAddress):
        _check_zones(address)
    ignored: list[str] = []
    language = _optional(fields, "language", language_of)
    voice = _optional(fields, "voice", word_of)
    segments, phrase = _content(address, fields, parts, phrases, ignored)
    if phrase is not None:
        language, voice = language or phrase.language, voice or phrase.voice
    segments = _cleaned(segments, language, clean)
    draft.text = " ".join(s.text for s in segments if isinstance(s, TextSegment)) or draft.text
    ttl_s, expires_at_s = _lifetime(fields)
    if draft.expiry_s is not None:
        ttl_s = draft.expiry_s if ttl_s is None else min(ttl_s, draft.expiry_s)
    _check_length(sum(len(s.text) for s in segments if isinstance(s, TextSegment)))
    return Announcement(
        id=draft.id,
        segments=segments,
        received=received,
        priority=draft.priority,
        zones=draft.zones,
        voice=voice,
        language=language,
        speed=_speed(fields),
        volume=_volume(address, fields),
        chime=_chime(fields),
        end_chime=_optional(fields, "end_chime", chime_of),
        ttl_s=ttl_s,
        expires_at_s=expires_at_s,
        not_before_s=_optional(fields, "not_before", moment_of),
        tag=_optional(fields, "tag", word_of),
        dedupe_s=_optional(fields, "dedupe", lambda f, v: number_of(f, v, 0, YEAR_S, "seconds")),
        repeat=_optional(fields, "repeat", lambda f, v: repeat_of(f, v, ignored)) or Repeat(),
        cache=_optional(fields, "cache", cache_of) or CachePolicy.USE,
        offline=_optional(fields, "offline", offline_of),
        preempt=_optional(fields, "preempt", flag_of) or False,
        reply_to=draft.reply_to,
        delivery=draft.delivery,
        redelivered=draft.redelivered,
        shared=isinstance(address, SayAddress) and address.shared,
        # Last of all: by now every field we know has been asked for.
        ignored=_ignored(fields, ignored),
    )


def _check_zones(address: SayAddress) -> None:
    for zone in address.zones:
        if not NAME.fullmatch(zone):
            raise wrong("zone in the topic", zone, "zones have 1 to 64 of a-z, 0-9, _ and -")


def _ignored(fields: Fields, in_segments: list[str]) -> tuple[str, ...]:
    """What the caller sent and nobody took."""
    check_format(fields)
    return (*fields.ignored, *in_segments)[:MAX_IGNORED]


def _content(
    address: SayAddress | AlertAddress,
    fields: Fields,
    parts: list[Any],
    phrases: Phrases | None,
    ignored: list[str],
) -> tuple[tuple[Segment, ...], PhraseText | None]:
    """What to say, before cleaning."""
    named: tuple[Segment, ...] = ()
    if isinstance(address, AlertAddress):
        named = (_alert(fields),)
    text, listed, phrase = (fields.take(name) for name in ("text", "segments", "phrase"))
    given = [found[0] for found in (text, listed, phrase) if found is not None]
    if len(given) > 1:
        raise RejectedError(f"{' and '.join(given)} were both given; send one of them")
    if phrase is not None:
        filled = _phrase(fields, phrase, phrases)
        return (*named, TextSegment(text_of("phrase", filled.text))), filled
    for found in (text, listed):
        if found is None:
            continue
        name, value = found
        if isinstance(value, list):
            parts = value
        elif found is text:
            parts = [text_of(name, value)]
        else:
            raise wrong(name, value, "give a list")
    segments = (*named, *parse_segments(parts, ignored))
    if not segments:
        raise RejectedError("there is nothing to say; give text, segments or phrase")
    return segments, None


def _alert(fields: Fields) -> AlertSegment:
    fields.take("state")
    if (found := fields.take("alert")) is None:
        raise RejectedError("the message names no alert; give its name, or an object with name")
    return AlertSegment(alert_name_of(*found))


def _phrase(fields: Fields, phrase: tuple[str, Any], phrases: Phrases | None) -> PhraseText:
    name = word_of(*phrase)
    if phrases is None:
        raise RejectedError(f"phrase: {name!r} is not known; no phrases are configured")
    values: dict[str, str] = {}
    if (found := fields.take("vars")) is not None:
        if not isinstance(found[1], dict):
            raise wrong(*found, "give an object with a text for each variable")
        for key, value in found[1].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                value = str(value)  # noqa: PLW2901  numbers are as good as their digits
            name_of_value = text_of("vars", key)
            values[name_of_value] = text_of(f"vars.{name_of_value}", value)
    return phrases(name, values)


def _cleaned(
    segments: tuple[Segment, ...], language: str | None, clean: Clean
) -> tuple[Segment, ...]:
    kept: list[Segment] = []
    for segment in segments:
        if isinstance(segment, TextSegment):
            text = clean(segment.text, segment.language or language)
            if not text.strip():
                continue
            if text != segment.text:
                segment = replace(segment, text=text)  # noqa: PLW2901  the same part, cleaned
        kept.append(segment)
    if not any(isinstance(s, TextSegment | ChimeSegment | AlertSegment) for s in kept):
        raise _nothing_left()
    return tuple(kept)


def _nothing_left() -> RejectedError:
    return RejectedError("there is nothing left to say after cleaning the text")


def _check_length(characters: int) -> None:
    if characters > MAX_TEXT_CHARACTERS:
        raise RejectedError(
            f"the text has {characters} characters; at most {MAX_TEXT_CHARACTERS} are spoken"
        )


def _speed(fields: Fields) -> float | None:
    if (found := fields.take("speed")) is not None:
        return speed_of(*found)
    return _optional(fields, "speed_percent", lambda f, v: speed_of(f, v, percent=True))


def _volume(address: SayAddress | AlertAddress, fields: Fields) -> Volume | None:
    if (found := fields.take("volume")) is not None:
        siren = isinstance(address, AlertAddress) and found[0] == "volume_level"
        return volume_of(*found, fraction=siren)
    if isinstance(address, SayAddress) and address.volume is not None:
        return _volume_in_topic(address.volume)
    return None


def _volume_in_topic(level: str) -> Volume:
    return volume_of("volume in the topic", level)


def _chime(fields: Fields) -> bool | str | None:
    inverted = fields.take("no_chime")
    if (found := fields.take("chime")) is not None:
        return chime_of(*found)
    return None if inverted is None else not flag_of(*inverted)


def _lifetime(fields: Fields) -> tuple[float | None, float | None]:
    """(seconds from arrival, wall time) after which it is not true any more."""
    ttl_s = _optional(fields, "ttl", seconds_of)
    expires_at_s = _optional(fields, "expires_at", moment_of)
    if (found := fields.take("expires")) is not None:
        # Some mean seconds from now, some a moment; 1970 is not meant.
        try:
            seconds = seconds_of(*found)
            ttl_s = seconds if ttl_s is None else min(ttl_s, seconds)
        except RejectedError:
            moment = moment_of(*found)
            expires_at_s = moment if expires_at_s is None else min(expires_at_s, moment)
    # Only without a priority is `timeout` the life of an announcement.
    if ttl_s is None and fields.peek("priority") is None:
        found = fields.peek("timeout")
        if found is not None and isinstance(found[1], int | float):
            ttl_s = _optional(fields, "timeout", seconds_of)
    return ttl_s, expires_at_s


def _reply(
    topic: str,
    field: str,
    why_no_reply: Callable[[str], str],
    correlation: bytes | None = None,
) -> ReplyAddress:
    topic = text_of(field, topic).strip()
    if not is_publishable(topic):
        raise wrong(field, topic, "give a topic without wildcards")
    if why := why_no_reply(topic):
        raise wrong(field, topic, f"{why}; give another topic")
    return ReplyAddress(topic, correlation)


def _optional(fields: Fields, name: str, convert: Callable[[str, Any], T]) -> T | None:
    found = fields.take(name)
    return None if found is None else convert(*found)


def _sendable(text: str) -> str:
    return text[: 4 * EVENT_TEXT_CHARACTERS].encode("utf-8", "replace").decode()
