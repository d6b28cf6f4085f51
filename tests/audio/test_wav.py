"""WAV files: read as they stream in, written as a loudspeaker would have played them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio.wav import WavParser, WavSink, read_wav, wav_bytes, wav_header
from kugel_bridge.model.errors import (
    DeviceError,
    DeviceMissingError,
    ProtocolError,
    StorageError,
)
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.model.status import AudioStatus
from tests.audiocheck import noise, samples

FORMATS = st.builds(
    PcmFormat,
    rate=st.integers(8_000, 48_000),
    channels=st.integers(1, 8),
    sample_bytes=st.sampled_from([2, 3, 4]),
)


def parsed(data: bytes, sizes: list[int]) -> tuple[PcmFormat | None, bytes]:
    parser, out = WavParser(), b""
    for size in [*sizes, len(data)]:
        chunk = parser.feed(data[:size])
        data = data[size:]
        out += chunk.data if chunk else b""
    parser.end()
    return parser.format, out


@given(FORMATS, st.integers(0, 500), st.lists(st.integers(0, 60), max_size=20))
def test_what_was_written_is_read_however_it_is_cut(
    format: PcmFormat,  # noqa: A002 - as in PcmChunk
    frames: int,
    sizes: list[int],
) -> None:
    clip = noise(format, frames)
    assert parsed(wav_bytes(clip), sizes) == (format, clip.data)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"RIFF\0\0\0\0WAVEfmt " + b))
def test_any_bytes_raise_only_protocol_errors(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parsed(data, [3, 5, 7])


@pytest.mark.parametrize("length", [0, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_length_nobody_knew_is_read_to_the_end(length: int) -> None:
    header = wav_header(PcmFormat(22_050), length)
    assert parsed(header + b"\1\2\3\4\5", [50]) == (PcmFormat(22_050), b"\1\2\3\4")


def test_other_chunks_around_the_sound_are_skipped() -> None:
    plain = wav_bytes(PcmChunk(SPEECH_FORMAT, b"\1\2\3\4"))
    data = plain[:12] + b"LIST\3\0\0\0abc\0" + plain[12:] + b"LIST\2\0\0\0xy"
    assert parsed(data, [20, 5]) == (SPEECH_FORMAT, b"\1\2\3\4")


def other_kind(kind: int, bits: int, sound: bytes) -> bytes:
    form = struct.pack("<HHIIHH", kind, 1, 8_000, 8_000 * bits // 8, bits // 8, bits)
    return (
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", len(sound)) + sound
    )


def test_eight_bit_and_telephone_sound_come_out_as_sixteen_bit() -> None:
    assert samples(parsed(other_kind(1, 8, b"\x80\xff\0"), [])[1]).tolist() == [0, 32_512, -32_768]
    assert samples(parsed(other_kind(7, 8, b"\xff\x80"), [])[1]).tolist() == [0, 32_124]
    assert samples(parsed(other_kind(6, 8, b"\xaa"), [])[1]).tolist() == [32_256]


@pytest.mark.parametrize(
    "data",
    [
        b"RIFX",
        b"RIFF\0\0\0\0AVI ",
        b"RIFF\0\0\0\0WAVEdata\4\0\0\0",
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f",
        other_kind(3, 32, b"\0\0\0\0"),
        b"RIFF\0\0\0\0WAVE",
    ],
    ids=["big-endian", "video", "no-format", "huge-preamble", "float", "cut-off"],
)
def test_what_cannot_be_played_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parsed(data, [])


def test_a_file_is_read(tmp_path: Path) -> None:
    clip = noise(SPEECH_FORMAT, 961)
    (tmp_path / "a.wav").write_bytes(wav_bytes(clip))
    assert read_wav(tmp_path / "a.wav") == clip


def test_a_file_that_is_none_is_a_storage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.wav", tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(StorageError):
            read_wav(path)


def recorded(path: Path) -> bytes:
    """The sound as a strict reader sees it, by the sizes in the header."""
    with wave.open(str(path)) as file:
        return bytes(file.readframes(file.getnframes()))


async def test_the_file_holds_what_was_played_over_several_opens(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"left over from the last run")
    sink = WavSink(path, paced=False)
    first, second = noise(SPEECH_FORMAT, 961, 1), noise(SPEECH_FORMAT, 1, 2)
    for clip in (first, second):
        await sink.open()
        await sink.write(clip)
        await sink.drain()
        assert recorded(path).endswith(bytes(clip.data))
        await sink.close()
    assert recorded(path) == bytes(first.data) + bytes(second.data)
    assert sink.heard_frames == 962


async def test_it_takes_as_long_as_the_sound(tmp_path: Path) -> None:
    sink = WavSink(tmp_path / "out.wav")
    await sink.open()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await sink.write(noise(SPEECH_FORMAT, 12_000))
    assert 0.0 < sink.queued_s <= 0.5
    await sink.drain()
    assert loop.time() - start >= 0.5
    assert sink.heard_frames == 12_000
    await sink.close()


async def test_stop_fades_and_the_rest_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    sink = WavSink(path)
    await sink.open()
    steady = PcmChunk(SPEECH_FORMAT, b"\x00\x40" * 4_800)
    await sink.write(steady)
    await sink.stop()
    heard = samples(recorded(path))
    assert len(heard) == sink.heard_frames < 4_800
    assert heard[-240:].tolist() == sorted(heard[-240:], reverse=True)
    assert heard[-1] < 500
    await sink.close()


async def test_a_killed_process_leaves_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    sink = WavSink(path, paced=False)
    await sink.open()
    assert recorded(path) == b""
    for _ in range(10):
        await sink.write(noise(SPEECH_FORMAT, 4_800))
    # Never closed, never drained: at most half a second is not counted.
    assert len(recorded(path)) >= 2 * (48_000 - 12_000)
    await sink.close()


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk with so many bytes of room left (in the list)."""
    room = [10_001]
    real = os.pwrite

    def pwrite(handle: int, data: bytes, at: int) -> int:
        if at == 0:
            return real(handle, data, at)
        if not room[0]:
            raise OSError(28, os.strerror(28))
        done = real(handle, bytes(data)[: room[0]], at)
        room[0] -= done
        return done

    monkeypatch.setattr(os, "pwrite", pwrite)
    return room


async def test_a_full_disk_is_a_device_error_and_room_cures_it(
    tmp_path: Path, small_disk: list[int]
) -> None:
    path = tmp_path / "out.wav"
    sink = WavSink(path, paced=False)
    await sink.open()
    with pytest.raises(DeviceError, match="No space left on device"):
        await sink.write(noise(SPEECH_FORMAT, 12_000))
    assert sink.status is AudioStatus.MISSING
    assert len(recorded(path)) == 10_000
    with pytest.raises(DeviceError, match="not open"):
        await sink.write(noise(SPEECH_FORMAT, 1))
    small_disk[0] = 1 << 20
    await sink.open()
    assert sink.status is AudioStatus.OK
    await sink.write(PcmChunk(SPEECH_FORMAT, b"\1\2"))
    await sink.close()
    assert recorded(path)[10_000:] == b"\1\2"


async def test_a_place_that_cannot_be_written_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceMissingError):
        await WavSink(tmp_path / "none" / "out.wav").open()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/full")):
        with pytest.raises(DeviceError):
            await WavSink(path).open()
