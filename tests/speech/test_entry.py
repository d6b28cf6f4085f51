from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio.convert import Converter
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.entry import HEADER_BYTES, BrokenEntryError, header, parsed
from tests.speech.sounds import key

DIGEST = key().digest


def packed(sound: bytes, about: bytes = b"{}") -> bytes:
    crc = zlib.crc32(sound, zlib.crc32(about))
    return header(DIGEST, PcmFormat(24_000), len(sound), crc, len(about)) + about + sound


@given(st.binary(min_size=2).map(lambda b: b[: len(b) // 2 * 2]), st.text(max_size=50))
def test_what_was_packed_is_read(sound: bytes, about: str) -> None:
    phrase = parsed(packed(sound, about.encode()), DIGEST)
    assert bytes(phrase.pcm) == sound
    assert phrase.about == about
    assert phrase.format == PcmFormat(24_000)
    assert phrase.digest == DIGEST


@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    whole = bytearray(packed(b"some sound", b'{"text":"x"}'))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BrokenEntryError):
        parsed(bytes(whole), DIGEST)


@given(st.integers(0, HEADER_BYTES + 12))
def test_any_cut_is_noticed(size: int) -> None:
    whole = packed(b"some sound", b"{}")
    if size < len(whole):
        with pytest.raises(BrokenEntryError):
            parsed(whole[:size], DIGEST)


@given(st.binary(max_size=300))
def test_anything_else_is_a_broken_entry(data: bytes) -> None:
    with pytest.raises(BrokenEntryError):
        parsed(data, None)


FIELDS = struct.Struct("<8sHBBIQII32s")
"""As in a file of version 1."""


def sealed(fields: bytes, body: bytes) -> bytes:
    return fields + struct.pack("<I", zlib.crc32(fields)) + body


@given(
    magic=st.sampled_from([*[b"KBPHRASE"] * 9, b"KBPHRASF"]),
    version=st.sampled_from([*[1] * 9, 0, 2]),
    width=st.integers(0, 5) | st.just(255),
    channels=st.integers(0, 3) | st.just(255),
    rate=st.sampled_from([0, 1, 3, 8_000, 24_000, 48_000, 2**32 - 1]),
    sound=st.integers(0, 4).flatmap(lambda n: st.binary(min_size=n * 12, max_size=n * 12)),
    about=st.binary(max_size=8),
    too_many=st.sampled_from([*[0] * 9, 1, -1, 2**31]),
)
async def test_whatever_an_intact_header_says_it_is_exactly_that_sound_or_a_broken_entry(
    magic: bytes,
    version: int,
    width: int,
    channels: int,
    rate: int,
    sound: bytes,
    about: bytes,
    too_many: int,
) -> None:
    size = max(0, len(sound) + too_many)
    crc, digest = zlib.crc32(about + sound), bytes.fromhex(DIGEST)
    fields = FIELDS.pack(magic, version, width, channels, rate, size, crc, len(about), digest)
    try:
        phrase = parsed(sealed(fields, about + sound), DIGEST)
    except BrokenEntryError:
        return
    assert (magic, version, too_many) == (b"KBPHRASE", 1, 0)
    assert phrase.format == PcmFormat(rate, channels, width)
    pieces = [bytes(chunk.data) async for chunk in phrase.chunks()]
    assert b"".join(pieces) == sound
    # And it can be brought to any loudspeaker.
    converter = Converter(phrase.format, PcmFormat(48_000, 2))
    converter.convert(PcmChunk(phrase.format, sound))


def test_an_unfinished_header_is_a_broken_entry() -> None:
    with pytest.raises(BrokenEntryError):
        parsed(bytes(HEADER_BYTES) + packed(b"some sound")[HEADER_BYTES:], DIGEST)


def test_another_phrase_is_a_broken_entry() -> None:
    with pytest.raises(BrokenEntryError, match="another phrase"):
        parsed(packed(b"some sound"), key("anders").digest)


def test_half_a_frame_is_a_broken_entry() -> None:
    with pytest.raises(BrokenEntryError, match="whole frames"):
        parsed(packed(b"odd"), DIGEST)


async def test_pieces_share_the_memory_they_were_read_into() -> None:
    phrase = parsed(packed(bytes(100_000)), DIGEST)
    pieces = [chunk async for chunk in phrase.chunks()]
    assert len(pieces) == 9
    for piece in pieces:
        assert isinstance(piece.data, memoryview)
        assert piece.data.obj is phrase.pcm.obj
