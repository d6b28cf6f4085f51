"""From a message to an Announcement, or to a refusal that its caller can be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.announcement import (
    AlertSegment,
    Announcement,
    CachePolicy,
    ChimeSegment,
    OfflineRule,
    PauseSegment,
    Priority,
    Repeat,
    ReplyAddress,
    TextSegment,
    Volume,
)
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.events import refusal_payload
from kugel_bridge.mqtt.payloads import (
    PhraseText,
    alert_of,
    is_alert_off,
    parse_announcement,
)
from kugel_bridge.mqtt.refusal import RefusedAnnouncementError, refusal_of
from kugel_bridge.mqtt.topics import AlertAddress, SayAddress

NOW = Instant(1_800_000_000.0, 50.0)
SAY = SayAddress()


def parse(payload: Any, address: SayAddress | AlertAddress = SAY, **options: Any) -> Announcement:
    announcement = parse_or_none(payload, address, **options)
    assert announcement is not None
    return announcement


def parse_or_none(
    payload: Any, address: SayAddress | AlertAddress = SAY, **options: Any
) -> Announcement | None:
    if not isinstance(payload, bytes):
        payload = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    wanted: dict[str, Any] = {
        "received": NOW,
        "new_id": lambda: "new",
        "clean": lambda text, _language: text.strip(),
        "phrases": phrases,
        "why_no_reply": lambda topic: "it is spoken" if topic.endswith("/say") else "",
    }
    return parse_announcement(address, payload, **(wanted | options))


def phrases(name: str, values: Mapping[str, str]) -> PhraseText:
    if name != "door":
        raise RejectedError(f"there is no phrase {name!r}")
    return PhraseText(f"{values['who']} is at the door", language="en", voice="anna")


def refused(payload: Any, *args: Any, **options: Any) -> RefusedAnnouncementError:
    with pytest.raises(RefusedAnnouncementError) as caught:
        parse(payload, *args, **options)
    return caught.value


def test_plain_text_is_the_text() -> None:
    assert parse("Dinner is ready") == Announcement(
        id="new", segments=(TextSegment("Dinner is ready"),), received=NOW
    )


def test_an_empty_payload_is_nothing() -> None:
    assert parse_or_none(b"") is None
    assert parse_or_none(b"", retain=True) is None


def test_every_documented_field_is_understood() -> None:
    announcement = parse(
        {
            "text": "Hello",
            "id": "door-17",
            "priority": "high",
            "voice": 12,
            "language": "de-DE",
            "speed": 1.1,
            "volume": "+10",
            "zones": ["hall", "bath"],
            "chime": "gong",
            "end_chime": True,
            "ttl": 30,
            "expires_at": "2030-01-01T00:00:00Z",
            "not_before": 1_800_000_100,
            "tag": "door",
            "dedupe": 5,
            "repeat": {"count": 2, "pause_s": 3},
            "cache": "refresh",
            "offline": "wait",
            "preempt": True,
            "reply_to": "answers/door",
        },
        SayAddress(zones=("kitchen",), volume="20"),
        delivery="d1",
        redelivered=True,
    )
    assert announcement == Announcement(
        id="door-17",
        segments=(TextSegment("Hello"),),
        received=NOW,
        priority=Priority.HIGH,
        voice="12",
        language="de",
        speed=1.1,
        volume=Volume(10, relative=True),
        zones=("hall", "bath"),
        chime="gong",
        end_chime=True,
        ttl_s=30,
        expires_at_s=1_893_456_000,
        not_before_s=1_800_000_100,
        tag="door",
        dedupe_s=5,
        repeat=Repeat(2, 3),
        cache=CachePolicy.REFRESH,
        offline=OfflineRule.WAIT,
        preempt=True,
        reply_to=(ReplyAddress("answers/door"),),
        delivery="d1",
        redelivered=True,
    )
    assert announcement.ignored == ()
    assert Announcement.from_json(announcement.to_json()) == announcement


@pytest.mark.parametrize(
    ("field", "value", "name", "expected"),
    [
        *((alias, "x", "text", "x") for alias in
          ("text", "message", "msg", "speech", "say", "input", "payload", "tts")),
        *((alias, "7", "id", "7") for alias in ("id", "request_id", "requestId", "transaction")),
        ("id", 7, "id", "7"),
        *((alias, "anna", "voice", "anna") for alias in
          ("voice", "voice_id", "voiceId", "speaker")),
        *((alias, "it_IT", "language", "it") for alias in ("language", "lang", "locale", "LOCALE")),
        *((alias, 0.5, "volume", Volume(50)) for alias in
          ("volume", "volume_level", "vol", "vol_f", "announce_volume")),
        *((alias, 90, "priority", Priority.CRITICAL) for alias in ("priority", "level", "urgency")),
        *((alias, 20, "ttl_s", 20) for alias in ("ttl", "expire", "expires", "timeout")),
        *((alias, "2030-01-01T00:00:00Z", "expires_at_s", 1_893_456_000) for alias in
          ("expire", "expires", "expires_at")),
        ("expires", 1_893_456_000, "expires_at_s", 1_893_456_000),
        *((alias, "gong", "chime", "gong") for alias in
          ("chime", "preannounce", "preannounce_media_id", "chime_path", "sound", "hailing",
           "sonoshailing")),
        ("use_pre_announce", False, "chime", False),
        ("nohailing", True, "chime", False),
        ("nohailing", False, "chime", True),
        ("end_chime_path", "/chimes/gong.mp3", "end_chime", "gong"),
        *((alias, 3, "repeat", Repeat(3)) for alias in ("repeat", "repeats", "count")),
        *((alias, 1.1, "speed", 1.1) for alias in ("speed", "rate", "speaking_rate")),
        ("tts_speed", 90, "speed", 0.9),
        *((alias, "hall", "zones", ("hall",)) for alias in
          ("zone", "zones", "siteId", "site_id", "target", "room")),
        ("zones", "hall, Bath", "zones", ("hall", "bath")),
        ("zones", ["hall", "hall"], "zones", ("hall",)),
        *((alias, False, "cache", CachePolicy.BYPASS) for alias in ("cache", "use_cache")),
        ("cache", True, "cache", CachePolicy.USE),
        ("cache", "only", "cache", CachePolicy.ONLY),
        *((alias, True, "preempt", True) for alias in ("preempt", "interrupt", "stop")),
        *((alias, "a/b", "reply_to", (ReplyAddress("a/b"),)) for alias in
          ("reply_to", "replyTopic", "response_topic")),
        *((alias, "door", "tag", "door") for alias in ("tag", "group")),
        ("format", "ssml", "ignored", ()),
        ("text_format", "text", "ignored", ()),
        ("ssml", True, "ignored", ()),
        ("colour", "red", "ignored", ("colour",)),
        ("colour", None, "ignored", ()),
        ("priority", None, "priority", Priority.NORMAL),
    ],
)  # fmt: skip
def test_a_field_is_known_by_its_spellings(
    field: str, value: Any, name: str, expected: Any
) -> None:
    announcement = parse({field: value} if name == "text" else {"text": "x", field: value})
    found = getattr(announcement, name)
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected
    if field != "colour":
        assert announcement.ignored == ()


@pytest.mark.parametrize(
    ("value", "level"),
    [
        *((word, Priority.CRITICAL) for word in
          ("critical", "important", "emergency", "alarm", "urgent", True, "true", 100, 80, "85")),
        *((word, Priority.HIGH) for word in ("high", "High", 79, 60)),
        *((word, Priority.NORMAL) for word in
          ("normal", "message", "text", "default", "info", False, 50, 40)),
        *((word, Priority.LOW) for word in ("low", "notification", 39, 20)),
        *((word, Priority.STATUS) for word in ("status", "progress", 19, 0, 0.5)),
    ],
)  # fmt: skip
def test_levels_have_synonyms_and_numbers(value: Any, level: Priority) -> None:
    assert parse({"text": "x", "priority": value}).priority is level


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "nothing to say"),
        ({"priority": "high"}, "nothing to say"),
        ({"text": ""}, "nothing left to say"),
        ({"text": "  "}, "nothing left to say"),
        ({"text": 5}, "text: 5"),
        ({"text": {"a": 1}}, "text"),
        ({"text": "a\x00b"}, "NUL"),
        ({"text": "a", "segments": ["b"]}, "both given"),
        ({"segments": "a"}, "give a list"),
        ({"segments": []}, "nothing to say"),
        ({"segments": [5]}, "segment 1"),
        ({"segments": [{"pause": 10}]}, "nothing left"),
        ({"segments": ["a"] * 65}, "more than 64 segments"),
        ({"text": "x" * 5001}, "5001 characters"),
        ({"text": "x", "id": ["a"]}, "id"),
        ({"text": "x", "id": "a\nb"}, "id"),
        ({"text": "x", "priority": "huge"}, "critical, high, normal"),
        ({"text": "x", "priority": 101}, "priority"),
        ({"text": "x", "priority": []}, "priority"),
        ({"text": "x", "voice": True}, "voice"),
        ({"text": "x", "language": "german"}, "language"),
        ({"text": "x", "speed": "fast"}, "speed"),
        ({"text": "x", "volume": True}, "volume: True"),
        ({"text": "x", "volume": 150}, "volume: 150"),
        ({"text": "x", "zones": "a b"}, "zones"),
        ({"text": "x", "zones": []}, "zones"),
        ({"text": "x", "zones": [1]}, "zones"),
        ({"text": "x", "chime": 5}, "chime"),
        ({"text": "x", "ttl": -1}, "ttl"),
        ({"text": "x", "ttl": 0}, "ttl"),
        ({"text": "x", "ttl": "soon"}, "ttl"),
        ({"text": "x", "ttl": True}, "ttl"),
        ({"text": "x", "expires_at": "2030-01-01T00:00:00"}, "time zone"),
        ({"text": "x", "expires": "soon"}, "expires"),
        ({"text": "x", "not_before": "soon"}, "not_before"),
        ({"text": "x", "tag": {}}, "tag"),
        ({"text": "x", "dedupe": "door"}, "dedupe"),
        ({"text": "x", "repeat": 0}, "repeat"),
        ({"text": "x", "repeat": 1.5}, "whole number"),
        ({"text": "x", "repeat": 1000}, "repeat"),
        ({"text": "x", "repeat": {"count": "x"}}, "repeat.count"),
        ({"text": "x", "repeat": {"pause_s": -1}}, "repeat.pause_s"),
        ({"text": "x", "cache": "maybe"}, "refresh"),
        ({"text": "x", "offline": "never"}, "speak"),
        ({"text": "x", "preempt": "maybe"}, "preempt"),
        ({"text": "x", "reply_to": "a/#"}, "without wildcards"),
        ({"text": "x", "reply_to": ""}, "without wildcards"),
        ({"text": "x", "reply_to": "$SYS/a"}, "without wildcards"),
        ({"text": "x", "reply_to": "kugel/hall/say"}, "it is spoken; give another"),
        ({"text": "x", "reply_to": 5}, "reply_to"),
        ({"text": "x", "format": "html"}, "format"),
        ({"text": "x", "ssml": "maybe"}, "ssml"),
        ({"phrase": "window"}, "no phrase"),
        ({"phrase": "door", "vars": "x"}, "vars"),
        ({"phrase": "door", "vars": {"who": True}}, "vars.who"),
        ({"phrase": "door", "vars": {"who": "a"}, "text": "x"}, "both given"),
    ],
)
def test_an_impossible_field_is_refused_by_name(fields: dict[str, Any], reason: str) -> None:
    assert reason in str(refused(fields))


def test_lone_surrogates_are_refused() -> None:
    assert "half a character" in str(refused(rb'{"text": "a\ud800"}'))
    assert "half a character" in str(refused(rb'{"text": "a", "voice": "\udc00"}'))


def test_a_refusal_tells_what_its_caller_needs() -> None:
    refusal = refused(
        {"text": "Hello", "id": "door-17", "priority": "high", "zones": "hall", "volume": "loud",
         "reply_to": "answers"},
        response_topic="mqtt5/answers",
        correlation=b"\x00\x01",
    )  # fmt: skip
    assert refusal.id == "door-17"
    assert refusal.text == "Hello"
    assert refusal.priority is Priority.HIGH
    assert refusal.zones == ("hall",)
    assert refusal.received == NOW
    assert refusal.reply_to == (
        ReplyAddress("mqtt5/answers", b"\x00\x01"),
        ReplyAddress("answers"),
    )


def test_a_refusal_of_plain_text_quotes_its_beginning() -> None:
    refusal = refused("y" * 6000)
    assert refusal.id == "new"
    assert refusal.text == "y" * 200


def test_a_retained_one_is_refused_and_still_tells_its_id() -> None:
    assert str(refused("Hello", retain=True)) == "retained"
    refusal = refused({"text": "Hello", "id": "door-17"}, retain=True)
    assert str(refusal) == "retained"
    assert refusal.id == "door-17"
    assert str(refused(b"\xff", retain=True)) == "retained"
    assert str(refused({"text": "x", "id": []}, retain=True)) == "retained"


@pytest.mark.parametrize(
    ("ttl", "expiry_s", "left_s"), [(None, 20, 20), (10, 20, 10), (30, 20, 20), (30, None, 30)]
)
def test_the_shorter_life_counts(ttl: int | None, expiry_s: int | None, left_s: float) -> None:
    assert parse({"text": "x", "ttl": ttl}, expiry_s=expiry_s).ttl_s == left_s


def test_a_timeout_is_a_life_only_without_a_priority() -> None:
    assert parse({"text": "x", "timeout": 20, "priority": "low"}).ttl_s is None
    assert parse({"text": "x", "timeout": "20"}).ttl_s is None
    assert parse({"text": "x", "timeout": "20"}).ignored == ("timeout",)


def test_zone_and_volume_come_from_the_topic_unless_fields_say_otherwise() -> None:
    address = SayAddress(zones=("bath",), volume="35")
    assert parse("x", address).zones == ("bath",)
    assert parse("x", address).volume == Volume(35)
    assert parse({"text": "x", "zone": "hall", "volume": 5}, address).zones == ("hall",)
    assert parse({"text": "x", "zone": "hall", "volume": 5}, address).volume == Volume(5)


def test_what_came_to_several_bridges_is_known_as_such() -> None:
    assert parse({"text": "x", "zones": ["hall", "bath"]}, SayAddress(shared=True)).shared
    assert not parse({"text": "x", "zones": ["hall"]}).shared


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"ttl": "soon"}, "give the seconds it stays true, from 0 to 31622400"),
        ({"dedupe": -1}, "give seconds from 0 to 31622400"),
        ({"repeat": {"pause_s": -1}}, "give seconds from 0 to 3600"),
        ({"chime": 5}, "give true, false or one of ding"),
        ({"chime": "a/ü.mp3"}, "give true, false or one of ding"),
    ],
)
def test_a_remedy_names_the_unit_or_the_words(fields: dict[str, object], remedy: str) -> None:
    assert remedy in str(refused({"text": "x", **fields}))


def test_an_impossible_topic_is_refused() -> None:
    assert "volume in the topic" in str(refused("x", SayAddress(volume="loud")))
    refusal = refused("x", SayAddress(zones=("Küche",)))
    assert "zone in the topic" in str(refusal)
    assert refusal.zones == ()


def test_the_text_is_cleaned_in_its_language() -> None:
    asked: list[tuple[str, str | None]] = []

    def clean(text: str, language: str | None) -> str:
        asked.append((text, language))
        return text.replace("*", "")

    announcement = parse(
        {"language": "de", "segments": ["*a*", {"text": "b", "language": "en-GB"}]}, clean=clean
    )
    assert asked == [("*a*", "de"), ("b", "en")]
    assert announcement.segments == (TextSegment("a"), TextSegment("b", language="en"))


def test_a_part_that_cleaning_empties_is_left_out() -> None:
    def clean(text: str, _language: str | None) -> str:
        return text.replace("*", "")

    assert parse(["**", "a"], clean=clean).segments == (TextSegment("a"),)
    assert "nothing left" in str(refused(["**"], clean=clean))


def test_the_length_counts_after_cleaning() -> None:
    def clean(text: str, _language: str | None) -> str:
        return text.replace("*", "")

    assert len(parse("x*" * 5000, clean=clean).text) == 5000


def test_segments_of_all_kinds_keep_their_order() -> None:
    announcement = parse(
        ["a", {"text": "b", "voice": "anna", "speed": 1.1}, {"pause": 250}, {"chime": "gong"},
         {"alert": "smoke"}]
    )  # fmt: skip
    assert announcement.segments == (
        TextSegment("a"),
        TextSegment("b", voice="anna", speed=1.1),
        PauseSegment(250),
        ChimeSegment("gong"),
        AlertSegment("smoke"),
    )


@pytest.mark.parametrize("field", ["segments", "message", "payload", "text"])
def test_a_list_may_stand_in_for_the_text(field: str) -> None:
    parts = [{"type": "chime", "path": "gong"}, {"tts": "b"}, {"delay": 10}]
    assert parse({field: parts}).segments == (
        ChimeSegment("gong"),
        TextSegment("b"),
        PauseSegment(10),
    )


def test_unknown_fields_of_parts_are_named() -> None:
    announcement = parse({"segments": [{"text": "a", "pitch": 5}], "repeat": {"count": 2, "x": 1}})
    assert announcement.ignored == ("pitch", "repeat.x")


def test_a_phrase_is_filled_in_and_brings_its_voice() -> None:
    announcement = parse({"phrase": "door", "vars": {"who": "Ann"}})
    assert announcement.text == "Ann is at the door"
    assert announcement.language == "en"
    assert announcement.voice == "anna"
    assert parse({"phrase": "door", "vars": {"who": 5}, "voice": "bob"}).voice == "bob"


def test_without_phrases_a_phrase_is_refused() -> None:
    assert "no phrases are configured" in str(refused({"phrase": "door"}, phrases=None))


def test_a_response_topic_is_answered_with_its_correlation() -> None:
    announcement = parse("x", response_topic="a/b", correlation=b"\xff")
    assert announcement.reply_to == (ReplyAddress("a/b", b"\xff"),)
    both = parse({"text": "x", "reply_to": "a/b"}, response_topic="a/b", correlation=b"\xff")
    assert both.reply_to == (ReplyAddress("a/b", b"\xff"),)


def test_a_response_topic_that_a_bridge_reads_is_refused_and_not_answered() -> None:
    refusal = refused("x", response_topic="kugel/hall/say")
    assert "it is spoken; give another topic" in str(refusal)
    assert refusal.reply_to == ()


def test_a_refusal_has_the_id_or_finds_its_way_whichever_of_them_is_wrong() -> None:
    assert refused({"text": "x", "id": "a", "reply_to": "kugel/hall/say"}).id == "a"
    answered = refused({"text": "x", "id": [], "reply_to": "answers/a"})
    assert answered.reply_to == (ReplyAddress("answers/a"),)


def test_the_sonos_way_of_speaking() -> None:
    announcement = parse(
        {"command": "speak", "input": {"text": "a", "name": "anna", "volume": 30, "lang": "en-US"},
         "replyTopic": "a/b"}
    )  # fmt: skip
    assert announcement.text == "a"
    assert announcement.voice == "anna"
    assert announcement.volume == Volume(30)
    assert announcement.language == "en"
    assert announcement.reply_to == (ReplyAddress("a/b"),)
    assert announcement.ignored == ()


def test_outside_of_sonos_a_name_is_no_voice() -> None:
    assert parse({"text": "a", "name": "anna"}).voice is None


def test_an_alert_is_named_by_text_or_object() -> None:
    alert = AlertAddress()
    assert parse("Smoke", alert).segments == (AlertSegment("smoke"),)
    announcement = parse({"name": "smoke", "priority": "critical", "repeat": 3}, alert)
    assert announcement.segments == (AlertSegment("smoke"),)
    assert announcement.priority is Priority.CRITICAL
    assert announcement.repeat == Repeat(3)
    assert alert_of(announcement) == "smoke"
    assert alert_of(parse("x")) == ""


def test_an_alert_may_come_from_a_siren() -> None:
    announcement = parse(
        {"state": "ON", "tone": "smoke", "volume_level": 1, "duration": 10}, AlertAddress()
    )
    assert alert_of(announcement) == "smoke"
    assert announcement.volume == Volume(100)
    assert announcement.ignored == ("duration",)


@pytest.mark.parametrize("payload", [{"state": "ON"}, "../passwd", "a b", {"name": 5.5}, [1]])
def test_an_alert_without_a_usable_name_is_refused(payload: Any) -> None:
    refused(payload, AlertAddress())


def test_words_may_follow_an_alert() -> None:
    segments = parse({"name": "smoke", "text": "in the kitchen"}, AlertAddress()).segments
    assert segments == (AlertSegment("smoke"), TextSegment("in the kitchen"))


@pytest.mark.parametrize(
    ("payload", "off"),
    [(b"OFF", True), (b"off", True), (b'{"state": "OFF"}', True), (b'{"state": "ON"}', False),
     (b"smoke", False), (b"\xff", False), (b"[]", False)],
)  # fmt: skip
def test_a_siren_can_be_switched_off(payload: bytes, off: bool) -> None:
    assert is_alert_off(payload) is off


def test_a_refusal_can_be_made_from_an_announcement() -> None:
    refusal = refusal_of(parse({"text": "x", "id": "7", "reply_to": "a"}), "no")
    assert (refusal.id, refusal.text, refusal.reply_to) == ("7", "x", (ReplyAddress("a"),))


FIELD_NAMES = st.sampled_from(
    ["text", "segments", "message", "id", "priority", "volume", "zones", "chime", "ttl", "expires",
     "not_before", "tag", "repeat", "cache", "reply_to", "phrase", "vars", "input", "name", "tone",
     "state", "timeout", "speed", "language", "dedupe", "type", "pause", "x"]
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(alphabet=st.characters())
    | st.sampled_from(["door", "\ud800", "\x00", "a/b", "+5", "on", "2030-01-01T00:00:00Z"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(FIELD_NAMES, children),
    max_leaves=10,
)
PAYLOADS = st.one_of(
    st.binary(),
    st.dictionaries(FIELD_NAMES, VALUES).map(lambda v: json.dumps(v).encode()),
    VALUES.map(lambda v: json.dumps(v).encode()),
    st.text(alphabet='{}[]",:0123456789.eE+-NaInfity ').map(str.encode),
)
ADDRESSES = st.one_of(
    st.builds(SayAddress, zones=st.lists(st.text(), max_size=2).map(tuple),
              volume=st.none() | st.text()),
    st.just(AlertAddress()),
)  # fmt: skip


@given(
    ADDRESSES,
    PAYLOADS,
    st.sampled_from([None, "", "text/plain", "application/json"]),
    st.booleans(),
    st.none() | st.text(),
)
def test_any_message_is_an_announcement_nothing_or_a_refusal_that_can_be_told(
    address: SayAddress | AlertAddress,
    payload: bytes,
    content_type: str | None,
    retain: bool,
    response_topic: str | None,
) -> None:
    try:
        found = parse_or_none(
            payload,
            address,
            content_type=content_type,
            retain=retain,
            response_topic=response_topic,
            phrases=lambda name, values: PhraseText(name + str(values)),
        )
    except RefusedAnnouncementError as refusal:
        event = json.loads(refusal_payload(refusal, "main", NOW))
        assert event["event_type"] == "rejected"
        assert event["reason"]
        return
    if payload:
        assert isinstance(found, Announcement)
        assert Announcement.from_json(found.to_json()) == found
        found.to_json().encode()
    else:
        assert found is None
