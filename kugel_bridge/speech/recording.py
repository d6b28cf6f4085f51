"""One phrase on its way into the cache, while it is being heard."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kugel_bridge.audio.loudness import peak
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.entry import HEADER_BYTES, MAX_BYTES, header
from kugel_bridge.speech.folder import PhraseFolder
from kugel_bridge.speech.index import FileName
from kugel_bridge.speech.markup import pause_s, pieces
from kugel_bridge.speech.phrase import PhraseKey
from kugel_bridge.speech.worker import Worker

logger = logging.getLogger(__name__)

MAX_BACKLOG = 8 * 1024 * 1024
"""Bytes that may wait for a slow disk; a phrase that would need more is not kept."""
MIN_S_PER_LETTER = 0.02
"""Fifty letters a second: three times as fast as the fastest voice."""
MAX_S_PER_CHARACTER = 1.0
"""A number takes that long for each digit: "1000000"."""
GRACE_S = 3.0
SILENT_PEAK = 0.003
"""-50 dBFS: speech whose loudest sample is below that is none."""


@dataclass(frozen=True, slots=True)
class Made:
    """A phrase that is complete."""

    digest: str
    seconds: float


class Recording:
    """Takes the sound of one phrase and keeps it if it is whole and plausible.

    `add` and `abort` neither wait nor raise: trouble with the disk only means that the phrase is
    not kept.
    """

    def __init__(
        self,
        key: PhraseKey,
        about: Mapping[str, object],
        *,
        worker: Worker,
        folder: PhraseFolder,
        keep_free_bytes: int,
        enter: Callable[[FileName, Made, Mapping[str, object]], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._key, self._told = key, about
        self._about = json.dumps(about, separators=(",", ":")).encode()
        self._worker, self._folder = worker, folder
        self._keep_free_bytes = keep_free_bytes
        self._enter, self._on_failure = enter, on_failure
        self._name = folder.new_name(key.digest)
        self._lock = threading.Lock()
        self._backlog = 0
        self._is_over = False
        # Below: touched by the worker's thread only.
        self._fd = -1
        self._failure: Exception | None = None
        self._format: PcmFormat | None = None
        self._crc = zlib.crc32(self._about)
        self._size = 0
        self._peak = 0.0

    def add(self, chunk: PcmChunk) -> None:
        """Take the next piece of sound."""
        if self._is_over:
            return
        with self._lock:
            self._backlog += len(chunk.data)
            too_slow = self._backlog > MAX_BACKLOG
        if too_slow:
            logger.info("cache: the disk is too slow, phrase %s is not kept", self._key.digest[:12])
            self.abort()
        else:
            self._worker.post(self._write, chunk)

    async def commit(self) -> bool:
        """The sound is complete: keep it. True once it will be found."""
        if self._is_over:
            return False
        self._is_over = True
        try:
            return await self._worker.finish(self._finish)
        except Exception as error:  # noqa: BLE001 - no fault of a cache may end an announcement
            self._on_failure(error)
            return False

    def abort(self) -> None:
        """Nothing of it is kept."""
        if not self._is_over:
            self._is_over = True
            self._worker.post(self._drop)

    def _write(self, chunk: PcmChunk) -> None:
        try:
            if self._failure is None:
                self._take(chunk)
        except Exception as error:  # noqa: BLE001 - told by commit
            self._failure = error
            self._drop()
        finally:
            with self._lock:
                self._backlog -= len(chunk.data)

    def _take(self, chunk: PcmChunk) -> None:
        if self._format is None:
            self._format = chunk.format
            self._check_room()
            self._fd = self._folder.create(self._name)
            # An empty header: what is cut off here is never taken for a phrase.
            _write_all(self._fd, bytes(HEADER_BYTES) + self._about)
        elif chunk.format != self._format:
            raise ValueError("the format changes in mid-phrase")
        if HEADER_BYTES + len(self._about) + self._size + len(chunk.data) > MAX_BYTES:
            raise ValueError("longer than any phrase")
        _write_all(self._fd, chunk.data)
        self._crc = zlib.crc32(chunk.data, self._crc)
        self._size += len(chunk.data)
        self._peak = max(self._peak, peak(chunk))

    def _finish(self) -> bool:
        if self._failure is not None:
            raise self._failure
        if self._format is None:
            return False
        try:
            seconds = self._size / self._format.frame_bytes / self._format.rate
            if doubt := doubt_about(self._key.text, seconds, self._peak):
                logger.warning("cache: phrase %s is not kept: %s", self._key.digest[:12], doubt)
                return False
            self._check_room()
            top = header(self._key.digest, self._format, self._size, self._crc, len(self._about))
            os.pwrite(self._fd, top, 0)
            os.fdatasync(self._fd)
            self._folder.publish(self._name)
            size = HEADER_BYTES + len(self._about) + self._size
            try:
                made = Made(self._key.digest, seconds)
                self._enter(FileName(self._name, size), made, self._told)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._folder.remove(self._name)
                raise
            return True
        finally:
            self._drop()

    def _check_room(self) -> None:
        if self._folder.free_bytes() < self._keep_free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _drop(self) -> None:
        """Close, and remove what was not published."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                self._folder.discard(self._name)


def doubt_about(text: str, seconds: float, loudest: float) -> str:
    """Why sound of that length and peak (0 to 1) cannot be that text; empty if it can."""
    if loudest < SILENT_PEAK:
        return "it is silent"
    letters = characters = 0
    pauses_s = 0.0
    for piece, is_tag in pieces(text):
        if is_tag and piece.startswith("<break"):
            pauses_s += pause_s(piece)
        elif not is_tag or piece.startswith("<spell"):
            letters += 0 if is_tag else sum(map(str.isalpha, piece))
            characters += len(piece)
    if seconds < MIN_S_PER_LETTER * letters:
        return f"{seconds:.2f} s are too short for {letters} letters"
    if seconds > GRACE_S + MAX_S_PER_CHARACTER * characters + pauses_s:
        return f"{seconds:.1f} s are too long for {characters} characters"
    return ""


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
