"""Phrases as one file to carry to another machine: a plain tar of entry files.

Each entry proves itself, so there is no list of contents to believe. Reading takes nothing from
a header but a name to recognise and a size: tarfile would follow extended headers, and take one
of any size into memory.
"""

from __future__ import annotations

import contextlib
import enum
import io
import json
import math
import re
import tarfile
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from kugel_bridge.audio.loudness import peak
from kugel_bridge.model.errors import RejectedError, StorageError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.entry import (
    HEADER_BYTES,
    MAX_BYTES,
    BrokenEntryError,
    CachedPhrase,
    description,
    parsed,
    written,
)
from kugel_bridge.speech.phrase import PhraseKey
from kugel_bridge.speech.recording import doubt_about

MAX_ABOUT_CHARACTERS = 64 * 1024
MAX_BROKEN = 1_000
"""Members that are no phrases; a file with more of them is no archive of ours."""
RATES = range(8_000, 192_001)
"""Sample rates (Hz) that sound cards and services use."""
MAX_CHANNELS = 8

_MEMBER = re.compile(r"(?:\./)?(?:phrases/)?([0-9a-f]{64})(?:-[0-9a-f]{8})?\.pcm")
"""Also as in the folder of a cache that somebody packed with tar."""
_PIECE = 1024 * 1024
MAX_SEEK = 1 << 40
"""Far behind the end of any archive; larger numbers do not fit into every system's offsets."""
_CUT = "the archive ends in the middle, or is damaged"
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)


# What other programs' tars hold beside files: folders, and times in extended headers.
_PASSED_OVER = (tarfile.DIRTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class Fate(enum.StrEnum):
    """What became of one member of an archive."""

    TAKEN = "taken"
    PRESENT = "present"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, after it was looked at."""

    name: str
    fate: Fate
    digest: str = ""
    """Empty for what has no name of a phrase."""
    reason: str = ""
    """Why it is broken."""


async def packed(
    cache: PhraseCache, digests: Iterable[str], file: BinaryIO
) -> AsyncGenerator[Member, None]:
    """Write these phrases to `file` as an archive; what is broken or gone is left out.

    Blocks for `file`. Raises StorageError.
    """
    with _storing(), tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for digest in digests:
            name = f"{digest}.pcm"
            try:
                phrase = await cache.read(digest)
            except BrokenEntryError as error:
                yield Member(name, Fate.BROKEN, digest, str(error))
                continue
            if phrase is None:
                yield Member(name, Fate.BROKEN, digest, "it has gone meanwhile")
                continue
            data = written(phrase)
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
            yield Member(name, Fate.TAKEN, digest)


async def unpacked(cache: PhraseCache, file: BinaryIO) -> AsyncGenerator[Member, None]:
    """Take every phrase of an archive into the cache that is whole and not there yet.

    Blocks for `file`. Raises RejectedError for what is no archive, or ends in the middle, and
    StorageError when the cache takes no more; what came before is kept.
    """
    broken = 0
    for member in members(file):
        if isinstance(member, Member):
            yield member
            broken += 1
        else:
            name, data = member
            try:
                phrase = proven(name, data, time.time())
            except BrokenEntryError as error:
                yield Member(name, Fate.BROKEN, reason=str(error))
                broken += 1
            else:
                is_new = await cache.adopt(phrase)
                yield Member(name, Fate.TAKEN if is_new else Fate.PRESENT, phrase.digest)
        if broken >= MAX_BROKEN:
            raise RejectedError(f"{broken} members are no phrases; this is no archive of a cache")


def members(file: BinaryIO) -> Iterator[Member | tuple[str, bytes]]:
    """Name and content of each member that may be a phrase; a broken Member for every other.

    Raises RejectedError, StorageError.
    """
    is_first = True
    with _storing():
        while True:
            block = file.read(tarfile.BLOCKSIZE)
            if block == bytes(tarfile.BLOCKSIZE):
                return
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                if is_first:
                    raise RejectedError("not an archive that `cache export` wrote") from error
                raise RejectedError(_CUT) from error
            is_first = False
            if info.size < 0:
                raise RejectedError("the archive is damaged: a member of negative size")
            name = info.name.encode("utf-8", "replace").decode()
            if (reason := _doubt_about(info)) is None:
                yield name, _content(file, info.size)
                continue
            # Links, devices and folders have no content, whatever size they claim.
            _skip(file, 0 if info.type in _WITHOUT_CONTENT else info.size)
            if info.type not in _PASSED_OVER:
                yield Member(name, Fate.BROKEN, reason=reason)


def proven(name: str, data: bytes, now_s: float) -> CachedPhrase:
    """The phrase in a member; raises BrokenEntryError for anything but a whole, plausible one.

    Its description is written anew, with nothing in it but what we know; `now_s` is the time
    (s since 1970).
    """
    found = _MEMBER.fullmatch(name)
    phrase = parsed(data, found[1] if found else None)
    layout = phrase.format
    if layout.rate not in RATES or layout.channels > MAX_CHANNELS or layout.sample_bytes != 2:
        raise BrokenEntryError(f"sound in no format of ours: {layout}")
    if len(phrase.about) > MAX_ABOUT_CHARACTERS:
        raise BrokenEntryError("its description is too long")
    try:
        told = json.loads(phrase.about)
        if not isinstance(told, dict):
            raise BrokenEntryError("its description is not an object")
        key = PhraseKey.described(told)
        is_right = key.digest == phrase.digest
    except (ValueError, OverflowError, RecursionError) as error:
        raise BrokenEntryError(f"its description cannot be read: {error}") from error
    if not is_right:
        raise BrokenEntryError("its description is that of another phrase")
    if doubt := doubt_about(key.text, phrase.seconds, peak(PcmChunk(layout, phrase.pcm))):
        raise BrokenEntryError(doubt)
    # A time to come would make every other phrase look long unused.
    stored_s = min(_stored_s(told), now_s)
    about = json.dumps(description(key, stored_s), separators=(",", ":"))
    return replace(phrase, about=about)


def _doubt_about(info: tarfile.TarInfo) -> str | None:
    """Why a member cannot be a phrase, from its header; None if it may be."""
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return "not a regular file"
    if not _MEMBER.fullmatch(info.name):
        return "not the name of a phrase"
    if not HEADER_BYTES < info.size <= MAX_BYTES:
        return f"a phrase cannot have {info.size} bytes"
    return None


def _content(file: BinaryIO, size: int) -> bytes:
    data = bytearray()
    padded = _padded(size)
    while len(data) < padded and (piece := file.read(min(_PIECE, padded - len(data)))):
        data += piece
    if len(data) < size:
        raise RejectedError(_CUT)
    return bytes(data[:size])


def _skip(file: BinaryIO, size: int) -> None:
    """Pass over the content of a member, or as much of it as there is."""
    left = _padded(size)
    if file.seekable():
        file.seek(min(left, MAX_SEEK), io.SEEK_CUR)
        return
    while left > 0 and (piece := file.read(min(_PIECE, left))):
        left -= len(piece)


def _padded(size: int) -> int:
    """The content of a member fills whole blocks."""
    return size + -size % tarfile.BLOCKSIZE


def _stored_s(told: object) -> float:
    """When a phrase was made, as its description says; 0 where it does not."""
    value = told.get("stored_s") if isinstance(told, dict) else None
    if isinstance(value, int | float) and math.isfinite(value):
        return max(0.0, float(value))
    return 0.0


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the archive: {error.strerror or error}") from error
