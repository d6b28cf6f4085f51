"""The usual PUBLISH packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.mqtt.publish import Publish, plain_publish
from tests.raw_mqtt import publish_packet, remaining_length

topics = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(
    topic=topics,
    payload=st.binary(max_size=300),
    qos=st.integers(0, 1),
    retain=st.booleans(),
    dup=st.booleans(),
    mid=st.integers(1, 65_535),
    five=st.booleans(),
)
def test_what_nearly_all_send_is_read_as_it_was_written(
    topic: str, payload: bytes, qos: int, retain: bool, dup: bool, mid: int, five: bool
) -> None:
    packet = publish_packet(topic, payload, qos=qos, retain=retain, dup=dup, mid=mid, five=five)
    read = plain_publish(packet, has_properties=five)
    assert read == Publish(topic, payload, qos, retain, dup, mid if qos else 0)


@given(first=st.integers(0x30, 0x3F), body=st.binary(max_size=40), five=st.booleans())
def test_what_is_read_makes_the_same_packet_again(first: int, body: bytes, five: bool) -> None:
    packet = bytes([first]) + remaining_length(len(body)) + body
    found = plain_publish(packet, has_properties=five)
    if found is not None:
        assert publish_packet(**found._asdict(), five=five) == packet


EXPIRES = b"\x05\x02\x00\x00\x00\x3c"


@pytest.mark.parametrize(
    "packet",
    [
        publish_packet("a/b", b"x", qos=2),
        publish_packet("a/b", b"x", qos=1, mid=0),
        publish_packet("", b"x"),
        publish_packet(b"\xff", b"x"),
        b"\x30\x05\x00\x09abc",
        b"\x32\x06\x00\x03abc\x01",
        b"\x30\x00",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x40\x02\x00\x01",
    ],
)
def test_the_rest_is_left_to_paho(packet: bytes) -> None:
    assert plain_publish(packet, has_properties=False) is None


@pytest.mark.parametrize("qos", [0, 1])
def test_properties_are_left_to_paho(qos: int) -> None:
    plain = publish_packet("a/b", b"", qos=qos, five=True)
    body = plain[2:-1] + EXPIRES + b"hello"
    packet = plain[:1] + remaining_length(len(body)) + body
    assert plain_publish(packet, has_properties=True) is None
    assert plain_publish(plain[:-1], has_properties=True) is None
