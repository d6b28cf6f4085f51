"""One phrase as a file: a header that proves it whole, what it says, and its sound."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.phrase import PhraseKey

VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
"""About 22 minutes of speech; a text of the longest kind takes seven."""
CHUNK_S = 0.25
"""Pieces in which an entry is handed out; one is enough for the player to start."""
_RATES = range(4_000, 192_001)
_MOST_CHANNELS = 2
_MOST_SAMPLE_BYTES = 4
"""Beyond these nobody speaks, and no arithmetic of ours is made for it."""

_MAGIC = b"KBPHRASE"
_FIELDS = struct.Struct("<8sHBBIQII32s")
"""Magic, version, sample bytes, channels, rate, bytes of sound, CRC32, bytes of text, digest."""
_SEAL = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _SEAL.size


class BrokenEntryError(Exception):
    """What stands in an entry's place is not that entry, whole."""

    def __init__(self, message: str, file: str | None = None) -> None:
        super().__init__(message)
        self.file = file


@dataclass(frozen=True, slots=True)
class CachedPhrase:
    """A phrase read from the cache and found whole."""

    digest: str
    format: PcmFormat
    pcm: memoryview
    about: str
    """Its description, as JSON."""

    @property
    def seconds(self) -> float:
        """How long it sounds (s)."""
        return len(self.pcm) / self.format.frame_bytes / self.format.rate

    async def chunks(self) -> AsyncGenerator[PcmChunk, None]:
        """The sound in pieces that share the memory it was read into."""
        step = self.format.frames_in(CHUNK_S) * self.format.frame_bytes
        for start in range(0, len(self.pcm), step):
            yield PcmChunk(self.format, self.pcm[start : start + step])


def description(key: PhraseKey, stored_s: float) -> dict[str, object]:
    """What the index and the file tell a person about a phrase."""
    return {
        "text": key.text,
        "language": key.language,
        "voice": key.voice,
        "model": key.model,
        "speed": key.speed,
        "source": key.source,
        "stored_s": round(stored_s),
        **key.unusual(),
    }


def header(digest: str, layout: PcmFormat, sound_bytes: int, crc: int, about_bytes: int) -> bytes:
    """The first `HEADER_BYTES` of a file; `crc` is over the description and the sound."""
    fields = _FIELDS.pack(
        _MAGIC,
        VERSION,
        layout.sample_bytes,
        layout.channels,
        layout.rate,
        sound_bytes,
        crc,
        about_bytes,
        bytes.fromhex(digest),
    )
    return fields + _SEAL.pack(zlib.crc32(fields))


def written(phrase: CachedPhrase) -> bytes:
    """The whole file of a phrase: what `parsed` reads."""
    about = phrase.about.encode()
    crc = zlib.crc32(phrase.pcm, zlib.crc32(about))
    top = header(phrase.digest, phrase.format, len(phrase.pcm), crc, len(about))
    return b"".join((top, about, phrase.pcm))


def parsed(data: bytes, digest: str | None) -> CachedPhrase:
    """The phrase in a whole file; `digest` is the one it must have, None = any.

    Raises BrokenEntryError for anything but exactly what was written.
    """
    if len(data) < HEADER_BYTES:
        raise BrokenEntryError(f"only {len(data)} bytes")
    (seal,) = _SEAL.unpack_from(data, _FIELDS.size)
    if zlib.crc32(data[: _FIELDS.size]) != seal:
        raise BrokenEntryError("the header is damaged or was never finished")
    magic, version, width, channels, rate, size, crc, about_bytes, key = _FIELDS.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise BrokenEntryError(f"of another kind, or version {version}")
    if digest is not None and key.hex() != digest:
        raise BrokenEntryError("the sound of another phrase")
    if HEADER_BYTES + about_bytes + size != len(data):
        raise BrokenEntryError(f"{len(data)} bytes, not what the header says")
    body = memoryview(data)[HEADER_BYTES:]
    if zlib.crc32(body) != crc:
        raise BrokenEntryError("the sound is damaged")
    try:
        layout = PcmFormat(rate, channels, width)
        about = str(body[:about_bytes], "utf-8")
    except ValueError as error:
        raise BrokenEntryError(str(error)) from error
    if rate not in _RATES or channels > _MOST_CHANNELS or width > _MOST_SAMPLE_BYTES:
        raise BrokenEntryError(f"not a format of speech: {layout}")
    if not size or size % layout.frame_bytes:
        raise BrokenEntryError("no whole frames of sound")
    return CachedPhrase(key.hex(), layout, body[about_bytes:], about)
