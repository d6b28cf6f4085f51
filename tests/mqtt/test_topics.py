"""Which topics are read, what they mean, and which configurations would end in a loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.mqtt.topics import (
    AlertAddress,
    RequestAddress,
    SayAddress,
    SetAddress,
    Topics,
    covers,
    is_publishable,
    matches,
    overlaps,
)

TOPICS = Topics("kugel", "kitchen", ["downstairs"], ["audio/speak", "home/+/tts"])


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("kugel/say", SayAddress(shared=True)),
        ("kugel/group/downstairs/say", SayAddress(shared=True)),
        ("kugel/group/upstairs/say", None),
        ("kugel/kitchen/say", SayAddress()),
        ("kugel/kitchen/zone/Attic/say", SayAddress(zones=("attic",))),
        ("kugel/kitchen/say/35", SayAddress(volume="35")),
        ("kugel/kitchen/say/loud", SayAddress(volume="loud")),
        ("kugel/kitchen/say/35/now", None),
        ("kugel/kitchen/zone/hall/say", SayAddress(zones=("hall",))),
        ("kugel/kitchen/zone/all/say", SayAddress(zones=("all",))),
        ("kugel/kitchen/zone/say", None),
        ("kugel/kitchen/alert", AlertAddress()),
        ("kugel/kitchen/set/volume", SetAddress("volume")),
        ("kugel/kitchen/set", None),
        ("kugel/kitchen/request/stop", RequestAddress("stop")),
        ("kugel/kitchen/request/Cache/Stats", RequestAddress("Cache/Stats")),
        ("kugel/kitchen/request", None),
        ("audio/speak", SayAddress()),
        ("home/bath/tts", SayAddress()),
        ("home/bath/tts/x", None),
        ("kugel/bath/say", None),
        ("kugel/kitchen/event", None),
        ("kugel/kitchen/state", None),
        ("other/say", None),
        ("", None),
    ],
)
def test_a_topic_means_what_the_manual_says(topic: str, address: object) -> None:
    assert TOPICS.address_of(topic) == address


def test_the_own_topics_are_the_documented_ones() -> None:
    assert TOPICS.availability == "kugel/kitchen/availability"
    assert TOPICS.state == "kugel/kitchen/state"
    assert TOPICS.event == "kugel/kitchen/event"
    assert TOPICS.info == "kugel/kitchen/info"
    assert TOPICS.health == "kugel/kitchen/health"
    assert TOPICS.response("cache/Stats") == "kugel/kitchen/response/cache/Stats"


def test_no_two_subscriptions_overlap() -> None:
    filters = TOPICS.subscriptions()
    pairs = [(a, b) for i, a in enumerate(filters) for b in filters[i + 1 :]]
    assert not [pair for pair in pairs if overlaps(*pair)]


def test_an_extra_topic_that_is_read_already_is_not_subscribed_twice() -> None:
    topics = Topics("kugel", "kitchen", extra=["kugel/say", "kugel/kitchen/say/+", "a/b", "a/b"])
    assert topics.subscriptions().count("kugel/say") == 1
    assert topics.subscriptions().count("a/b") == 1


def test_a_wider_extra_topic_replaces_the_narrower_one() -> None:
    filters = Topics("kugel", "kitchen", extra=["home/bath/tts", "home/+/tts"]).subscriptions()
    assert "home/+/tts" in filters
    assert "home/bath/tts" not in filters


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("#", "writes"),
        ("kugel/#", "writes"),
        ("kugel/kitchen/event", "writes"),
        ("kugel/+/state", "writes"),
        ("+/+/response/#", "writes"),
        ("kugel/kitchen/response/stop", "writes"),
        ("kugel/kitchen/set/volume", "another purpose"),
        ("kugel/kitchen/alert", "another purpose"),
        ("kugel/+/zone/+/say", "twice"),
        ("home/#/x", "not a topic"),
        ("home/a+", "not a topic"),
        ("", "not a topic"),
        ("$SYS/broker", "not a topic"),
        ("discovery/kitchen", "writes"),
    ],
)
def test_an_extra_topic_that_would_do_harm_is_refused(pattern: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Topics("kugel", "kitchen", extra=[pattern], published=["discovery/#"])


def test_extra_topics_that_overlap_in_part_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        Topics("kugel", "kitchen", extra=["home/+/tts", "home/bath/+"])


@pytest.mark.parametrize("base", ["", "a//b", "/a", "a/", "a/#", "+", "$SYS", "a\nb"])
def test_a_base_topic_that_is_none_is_refused(base: str) -> None:
    with pytest.raises(ConfigurationError, match="base_topic"):
        Topics(base, "kitchen")


@pytest.mark.parametrize("name", ["", "Kitchen", "a b", "ä", "a/b", "+", "x" * 65, "group", "say"])
def test_a_device_name_that_cannot_be_a_topic_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"device\.id"):
        Topics("kugel", name)


def test_a_base_of_several_levels_works() -> None:
    topics = Topics("house/voice", "kitchen")
    assert topics.address_of("house/voice/kitchen/say") == SayAddress()
    assert topics.address_of("house/voice/say") == SayAddress(shared=True)


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("kugel/kitchen/say", "would be spoken"),
        ("kugel/bath/say", "would be spoken"),
        ("kugel/bath/zone/all/say", "would be spoken"),
        ("kugel/bath/alert", "would be spoken"),
        ("kugel/bath/set/volume", "would be spoken"),
        ("kugel/bath/request/stop", "would be spoken"),
        ("audio/speak", "would be spoken"),
        ("kugel/kitchen/availability", "a bridge writes there"),
        ("kugel/kitchen/state", "a bridge writes there"),
        ("kugel/kitchen/response/cache/stats", "a bridge writes there"),
        ("kugel/bath/event", "a bridge writes there"),
        ("kugel/bath/info", "a bridge writes there"),
        ("kugel/bath/health", "a bridge writes there"),
        ("kugel/bath/response/queue", "a bridge writes there"),
        ("found/kitchen/config", "a bridge writes there"),
        ("kugel/kitchen/answers", ""),
        ("kugel/reply/4711", ""),
        ("kugel/state", ""),
        ("other/kitchen/state", ""),
        ("node-red/answers", ""),
    ],
)
def test_no_outcome_is_sent_where_a_bridge_reads_or_writes(topic: str, why: str) -> None:
    topics = Topics("kugel", "kitchen", extra=["audio/speak"], published=["found/#"])
    assert why in topics.why_no_reply(topic)
    assert bool(topics.why_no_reply(topic)) is bool(why)


LEVELS = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=4)
FILTER_LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)
FILTERS = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    FILTER_LEVELS,
    st.sampled_from([[], ["#"]]),
)


@given(FILTERS, FILTERS, LEVELS.map("/".join))
def test_covering_and_overlapping_agree_with_matching(one: str, other: str, topic: str) -> None:
    if matches(one, topic) and matches(other, topic):
        assert overlaps(one, other)
    if covers(one, other) and matches(other, topic):
        assert matches(one, topic)
    assert overlaps(one, other) is overlaps(other, one)


@given(st.text())
def test_any_topic_has_an_address_or_none(topic: str) -> None:
    TOPICS.address_of(topic)
    TOPICS.why_no_reply(topic)
    is_publishable(topic)
