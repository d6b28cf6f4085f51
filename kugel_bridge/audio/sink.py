"""Where sound goes: the seam between the player and whatever makes it heard."""

from __future__ import annotations

from typing import Protocol

from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.status import AudioStatus


class AudioSink(Protocol):
    """Takes PCM at the pace of a loudspeaker."""

    @property
    def format(self) -> PcmFormat:
        """What `write` takes: the format that `open` negotiated, before it the preferred one."""

    @property
    def status(self) -> AudioStatus:
        """Whether the device took sound when last asked."""

    @property
    def heard_frames(self) -> int:
        """Frames that have left the device since construction; never falls."""

    @property
    def queued_s(self) -> float:
        """Seconds of sound accepted and not yet heard; an estimate that costs no system call."""

    async def open(self) -> None:
        """Get the device ready; does nothing when it is open.

        Raises DeviceMissingError, DeviceBusyError, or DeviceError for anything else.
        """

    async def write(self, chunk: PcmChunk) -> None:
        """Return when the chunk is buffered, at most 0.5 s ahead of the loudspeaker.

        The chunk is in `format`. Raises DeviceError; the device is closed then, `open` may help.
        """

    async def drain(self) -> None:
        """Return when the last frame has been heard. Raises DeviceError."""

    async def stop(self) -> None:
        """Fade to silence within 50 ms and drop what is queued; the device stays open."""

    async def close(self) -> None:
        """Let go of the device; what is queued is dropped. A later `open` starts afresh."""
