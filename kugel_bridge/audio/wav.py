"""A WAV file in place of a loudspeaker, and reading WAV files."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from kugel_bridge.audio.paced import PacedSink
from kugel_bridge.audio.riff import HEADER_BYTES, WavParser, wav_bytes, wav_header
from kugel_bridge.model.errors import DeviceError, DeviceMissingError, ProtocolError, StorageError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.model.status import AudioStatus

__all__ = ["WavParser", "WavSink", "read_wav", "wav_bytes", "wav_header"]

logger = logging.getLogger(__name__)

_MAX_FILE_BYTES = 64 << 20
"""20 minutes of 24 kHz mono: more is no alert, and would sit in memory."""
_HEADER_EVERY_S = 0.5
"""Sound written between two updates of the sizes: what a killed process may leave uncounted."""


def read_wav(path: Path) -> PcmChunk:
    """All the sound in a WAV file.

    Raises StorageError when it cannot be read, ProtocolError when it is no WAV we can play.
    """
    try:
        # A named pipe must not block, a device must not be read for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise StorageError(f"{path} is not a regular file")
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise StorageError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB")
    parser = WavParser()
    try:
        sound = parser.feed(data)
        parser.end()
    except ProtocolError as error:
        raise ProtocolError(f"{path}: {error}") from error
    assert parser.format is not None
    return sound or PcmChunk(parser.format, b"")


class WavSink(PacedSink):
    """Writes what a loudspeaker would have played to a file, each piece when it is due.

    The first `open` starts the file anew, later ones go on where it ended. What is dropped by
    `stop` is not in it. The sizes in the header are right after each drain, stop and close, and
    never more than half a second behind.
    """

    def __init__(
        self,
        path: Path,
        *,
        format: PcmFormat = SPEECH_FORMAT,  # noqa: A002 - the seam's own word
        paced: bool = True,
    ) -> None:
        super().__init__(format=format, paced=paced)
        self._path = path
        self._handle: int | None = None
        self._written = 0  # bytes of sound in the file
        self._counted = 0  # bytes of sound the header tells of
        self._begun = False
        self._status = AudioStatus.OK

    @property
    def status(self) -> AudioStatus:
        """`missing` when the file could not be opened or written."""
        return self._status

    async def open(self) -> None:
        """Create or continue the file. Raises DeviceMissingError or DeviceError."""
        if self._handle is not None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags, 0o644)
        except OSError as error:
            self._status = AudioStatus.MISSING
            kind = DeviceMissingError if isinstance(error, FileNotFoundError) else DeviceError
            raise kind(f"cannot write {self._path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            self._status = AudioStatus.MISSING
            raise DeviceError(f"cannot write {self._path}: it is not a regular file")
        self._handle = handle
        try:
            if not self._begun:
                os.ftruncate(handle, 0)
                self._written = 0
            self._count()
        except OSError as error:
            raise self._failed(error) from error
        self._begun = True
        self._status = AudioStatus.OK

    async def write(self, chunk: PcmChunk) -> None:
        """As every sink. Raises DeviceError when the disk is full."""
        if self._handle is None:
            raise DeviceError(f"{self._path} is not open")
        await super().write(chunk)

    async def close(self) -> None:
        """Drop what is not yet due, and close the file with the right sizes."""
        if self._handle is None:
            return
        try:
            await super().close()
        finally:
            self._release()

    def _emit(self, chunk: PcmChunk) -> None:
        if self._handle is None:
            raise DeviceError(f"{self._path} is not open")
        data = memoryview(chunk.data)
        try:
            while data:
                # At a place, not at the end: after a full disk half a frame may stand there.
                size = os.pwrite(self._handle, data, HEADER_BYTES + self._written)
                self._written += size
                data = data[size:]
            if self._written - self._counted >= _HEADER_EVERY_S * self._format.rate * (
                self._format.frame_bytes
            ):
                self._count()
        except OSError as error:
            raise self._failed(error) from error

    def _settle(self) -> None:
        if self._handle is None or self._written == self._counted:
            return
        try:
            self._count()
        except OSError as error:
            raise self._failed(error) from error

    def _count(self) -> None:
        assert self._handle is not None
        os.pwrite(self._handle, wav_header(self._format, self._written), 0)
        self._counted = self._written

    def _failed(self, error: OSError) -> DeviceError:
        self._written -= self._written % self._format.frame_bytes
        self._forget()
        self._status = AudioStatus.MISSING
        try:
            # The header lies in space the file has: it can be right even on a full disk.
            self._count()
        except OSError:
            logger.warning("%s: its sizes could not be written", self._path)
        self._release()
        return DeviceError(f"cannot write {self._path}: {error.strerror}; make room or change it")

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
