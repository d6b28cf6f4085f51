from __future__ import annotations

import base64
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kugel_bridge.gateway import garbage
from kugel_bridge.gateway.orders import Garbage
from kugel_bridge.kugelaudio.frames import AudioFrame, parse_frame
from kugel_bridge.kugelaudio.messages import Encoding
from kugel_bridge.model.errors import ProtocolError

HARMLESS = {Garbage.EMPTY, Garbage.OTHER_RATE, Garbage.INDEX}
FRAMES = st.builds(
    AudioFrame,
    st.integers(1, 2_000).map(lambda n: bytes(2 * n)),
    st.sampled_from(list(Encoding)),
    st.sampled_from([8_000, 24_000, 48_000]),
    st.integers(0, 99),
)


@pytest.mark.parametrize("kind", sorted(set(Garbage) - HARMLESS))
@settings(deadline=None)
@given(frame=FRAMES)
def test_a_spoiled_frame_cannot_be_parsed(kind: Garbage, frame: AudioFrame) -> None:
    if kind is Garbage.ODD and frame.encoding is not Encoding.PCM:
        return  # a sample of G.711 is one byte
    with pytest.raises(ProtocolError):
        parse_frame(garbage.spoiled(kind, json.loads(frame.to_json())))


@pytest.mark.parametrize("kind", sorted(HARMLESS))
@settings(deadline=None)
@given(frame=FRAMES)
def test_a_frame_that_is_only_odd_can_be_parsed_and_is_another(
    kind: Garbage, frame: AudioFrame
) -> None:
    assert parse_frame(garbage.spoiled(kind, json.loads(frame.to_json()))) != frame


@settings(deadline=None)
@given(frame=FRAMES, size=st.integers(1, 100_000))
def test_a_huge_frame_is_as_big_as_ordered_and_otherwise_healthy(
    frame: AudioFrame, size: int
) -> None:
    text = garbage.huge(json.loads(frame.to_json()), size)
    assert size <= len(text) <= size + 200
    parsed = parse_frame(text)
    assert isinstance(parsed, AudioFrame)
    assert json.loads(text)["samples"] == parsed.samples


@settings(deadline=None)
@given(frame=FRAMES, seconds=st.integers(1, 20))
def test_more_sound_is_as_long_as_ordered_and_numbered(frame: AudioFrame, seconds: int) -> None:
    made = [parse_frame(text) for text in garbage.more(json.loads(frame.to_json()), seconds)]
    frames = [each for each in made if isinstance(each, AudioFrame)]
    assert len(frames) == len(made)
    assert sum(each.samples for each in frames) == seconds * frame.rate
    assert [each.index for each in frames] == [frame.index + n for n in range(len(frames))]


def test_endless_sound_goes_on() -> None:
    frame = json.loads(garbage.silence(3))
    assert base64.b64decode(frame["audio"]) == bytes(9_600)
    numbers = [json.loads(text)["idx"] for text in itertools.islice(garbage.more(frame, None), 50)]
    assert numbers == list(range(3, 53))
