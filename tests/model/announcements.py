"""Hypothesis strategies for every announcement there can be."""

from __future__ import annotations

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
    Segment,
    TextSegment,
    Volume,
)
from kugel_bridge.model.clock import Instant

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = texts.filter(bool)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)
seconds = st.floats(0, 1e10, allow_nan=False)

segments: st.SearchStrategy[Segment] = st.one_of(
    st.builds(
        TextSegment,
        text=texts,
        voice=st.none() | texts,
        language=st.none() | texts,
        speed=st.none() | numbers,
    ),
    st.builds(PauseSegment, milliseconds=st.integers(0, 60_000)),
    st.builds(ChimeSegment, name=names),
    st.builds(AlertSegment, name=names, text=st.none() | texts),
)

announcements = st.builds(
    Announcement,
    id=names,
    segments=st.lists(segments, min_size=1, max_size=5).map(tuple),
    received=st.builds(Instant, wall_s=seconds, monotonic_s=seconds),
    priority=st.sampled_from(Priority),
    zones=st.lists(names, max_size=3).map(tuple),
    voice=st.none() | texts,
    language=st.none() | texts,
    speed=st.none() | numbers,
    volume=st.none() | st.builds(Volume, percent=numbers, relative=st.booleans()),
    chime=st.none() | st.booleans() | texts,
    end_chime=st.none() | st.booleans() | texts,
    ttl_s=st.none() | numbers,
    expires_at_s=st.none() | numbers,
    not_before_s=st.none() | numbers,
    tag=st.none() | texts,
    dedupe_s=st.none() | numbers,
    repeat=st.builds(Repeat, count=st.integers(1, 99), pause_s=seconds),
    cache=st.sampled_from(CachePolicy),
    offline=st.none() | st.sampled_from(OfflineRule),
    preempt=st.booleans(),
    reply_to=st.lists(
        st.builds(ReplyAddress, topic=texts, correlation=st.none() | st.binary(max_size=9)),
        max_size=2,
    ).map(tuple),
    delivery=texts,
    redelivered=st.booleans(),
    shared=st.booleans(),
    ignored=st.lists(texts, max_size=2).map(tuple),
)
