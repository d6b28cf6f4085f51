"""One open ALSA playback device, and alsa-lib's words turned into ours.

Facts about pyalsaaudio 0.11 and alsa-lib that this file rests on: a device that cannot do what
was asked is opened all the same, with something else; errors carry a text and no number; opening
a busy card in blocking mode waits for ever with the interpreter locked; `close` in non-blocking
mode cuts the tail off; `info` on a closed PCM aborts the process.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Compiled, without stubs for the type checker.
import alsaaudio  # type: ignore[import-not-found, unused-ignore]

from kugel_bridge.model.errors import DeviceBusyError, DeviceError, DeviceMissingError
from kugel_bridge.model.pcm import PcmBytes, PcmFormat

logger = logging.getLogger(__name__)

UNDERRUN = -errno.EPIPE
SUSPENDED = -errno.ESTRPIPE

_WIDTHS = {
    alsaaudio.PCM_FORMAT_S16_LE: 2,
    alsaaudio.PCM_FORMAT_S24_3LE: 3,
    alsaaudio.PCM_FORMAT_S32_LE: 4,
}
_FORMATS = {width: name for name, width in _WIDTHS.items()}

_COMMON_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
_MISSING = {errno.ENOENT, errno.ENODEV, errno.ENXIO}
_NUMBERS: Mapping[str, int] = {os.strerror(number): number for number in errno.errorcode}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a sound card plays without a converter before it."""

    rates: tuple[int, ...]
    """Sample rates (Hz); the common ones where any rate of a range will do."""
    channels: tuple[int, ...]
    formats: tuple[str, ...]
    """ALSA's names, such as S16_LE."""


class PcmHandle(Protocol):
    """What the feeder needs of an open playback device; no call waits for the card."""

    format: PcmFormat
    period_frames: int
    buffer_frames: int
    whole_periods: bool
    """The card plays whole periods: what is not overwritten of the last one is old sound."""

    def avail(self) -> int:
        """Frames of room, or UNDERRUN or SUSPENDED. Raises DeviceError."""

    def write(self, data: PcmBytes) -> int:
        """Frames taken, or UNDERRUN or SUSPENDED: nothing was taken. Raises DeviceError."""

    def drained(self) -> bool:
        """Play out what is queued, nothing more; True once it was heard. Raises DeviceError."""

    def hold(self) -> None:
        """Stand still, if the device can, so that its position can be read exactly."""

    def drop(self) -> None:
        """Be silent at once and forget what is queued. Raises DeviceError."""

    def close(self) -> None:
        """Drop, and let go of the device; never raises, and may be called twice."""


class AlsaHandle:
    """A playback device opened through alsa-lib, never blocking; belongs to one thread."""

    def __init__(self, name: str, pcm: Any) -> None:
        self._name = name  # what people call it
        self._pcm = pcm
        facts = pcm.info()
        if facts["format"] not in _WIDTHS:
            pcm.close()
            raise DeviceError(
                f"sound card {name} plays {facts['format_name']} only, which is not supported:"
                f" put ALSA's converter before it, as in alsa:plughw:CARD=<name>"
            )
        self.format = PcmFormat(facts["rate"], facts["channels"], _WIDTHS[facts["format"]])
        self.period_frames: int = facts["period_size"]
        self.buffer_frames: int = facts["buffer_size"]
        # Only a kernel card has a number; sound servers and plugins end where the sound ends.
        self.whole_periods: bool = facts["card_no"] >= 0
        self._can_hold: bool = facts["can_pause"]

    def avail(self) -> int:
        """Frames of room, or UNDERRUN or SUSPENDED. Raises DeviceError."""
        # Some devices go on telling of room after they were pulled out; the state does not.
        if self._pcm.state() == alsaaudio.PCM_STATE_DISCONNECTED:
            raise self._error(errno.ENODEV)
        room: int = self._pcm.avail()
        if room >= 0 or room in (UNDERRUN, SUSPENDED):
            return room
        raise self._error(-room)

    def write(self, data: PcmBytes) -> int:
        """Frames taken, or UNDERRUN or SUSPENDED: nothing was taken. Raises DeviceError."""
        try:
            taken: int = self._pcm.write(data)
        except alsaaudio.ALSAAudioError as error:
            if number_of(error) == errno.ESTRPIPE:
                return SUSPENDED
            raise self._error(number_of(error), error) from error
        return taken

    def drained(self) -> bool:
        """Play out what is queued, nothing more; True once it was heard. Raises DeviceError."""
        try:
            self._pcm.drain()
        except alsaaudio.ALSAAudioError as error:
            number = number_of(error)
            if number == errno.EAGAIN:
                # The kernel says so for ever in non-blocking mode (snd_pcm_drain in
                # sound/core/pcm_native.c); that it is over shows in the state.
                return bool(self._pcm.state() == alsaaudio.PCM_STATE_SETUP)
            # It ran dry, or was stopped, before it was told to finish: nothing is left to hear.
            if number in (errno.EPIPE, errno.ESTRPIPE, errno.EBADFD):
                return True
            raise self._error(number, error) from error
        return True

    def hold(self) -> None:
        """Stand still, if the device can, so that its position can be read exactly."""
        if not self._can_hold:
            return
        try:
            self._pcm.pause(1)
        except alsaaudio.ALSAAudioError as error:
            logger.debug("sound card %s does not pause: %s", self._name, error)

    def drop(self) -> None:
        """Be silent at once and forget what is queued. Raises DeviceError."""
        try:
            self._pcm.drop()
        except alsaaudio.ALSAAudioError as error:
            raise self._error(number_of(error), error) from error

    def close(self) -> None:
        """Drop, and let go of the device; never raises, and may be called twice."""
        # Without the drop, some sound servers play their whole buffer out inside close.
        for step in (self._pcm.drop, self._pcm.close):
            try:
                step()
            except alsaaudio.ALSAAudioError as error:
                logger.debug("closing sound card %s: %s", self._name, error)

    def _error(self, number: int, cause: Exception | None = None) -> DeviceError:
        return device_error(self._name, number, str(cause or ""))


def open_handle(
    name: str, device: str, preferred: PcmFormat, period_s: float, periods: int
) -> AlsaHandle:
    """The ALSA PCM `device` opened as near to `preferred` as it can; `name` is for people.

    Raises DeviceMissingError, DeviceBusyError or DeviceError.
    """
    _quiet()
    try:
        pcm = alsaaudio.PCM(
            type=alsaaudio.PCM_PLAYBACK,
            mode=alsaaudio.PCM_NONBLOCK,
            device=device,
            rate=preferred.rate,
            channels=preferred.channels,
            format=_FORMATS.get(preferred.sample_bytes, alsaaudio.PCM_FORMAT_S16_LE),
            periodsize=max(1, round(period_s * preferred.rate)),
            periods=periods,
        )
    except alsaaudio.ALSAAudioError as error:
        raise device_error(name, number_of(error), str(error)) from error
    return AlsaHandle(name, pcm)


def capabilities(device: str) -> Capabilities | None:
    """What the ALSA PCM `device` can play; None when it does not tell, as while it is in use."""
    _quiet()
    try:
        pcm = alsaaudio.PCM(type=alsaaudio.PCM_PLAYBACK, mode=alsaaudio.PCM_NONBLOCK, device=device)
    except alsaaudio.ALSAAudioError as error:
        logger.debug("%s does not tell what it can play: %s", device, error)
        return None
    try:
        rates, channels, formats = pcm.getrates(), pcm.getchannels(), pcm.getformats()
    except alsaaudio.ALSAAudioError as error:
        logger.debug("%s does not tell what it can play: %s", device, error)
        return None
    finally:
        pcm.close()
    if isinstance(rates, tuple):  # any rate from the first to the second
        rates = [rate for rate in _COMMON_RATES if rates[0] <= rate <= rates[1]]
    elif isinstance(rates, int):
        rates = [rates]
    return Capabilities(tuple(rates), tuple(channels), tuple(formats))


def number_of(error: Exception) -> int:
    """The errno behind pyalsaaudio's "<strerror> [<device>]"; 0 when it is none."""
    return _NUMBERS.get(str(error).rpartition(" [")[0], 0)


def device_error(name: str, number: int, said: str = "") -> DeviceError:
    """What to tell a person about errno `number` from the sound card `name`."""
    if number in _MISSING:
        return DeviceMissingError(
            f"sound card {name} is not there: plug it in, or choose one that"
            f" `kugel-bridge devices` lists"
        )
    if number == errno.EBUSY:
        return DeviceBusyError(
            f"sound card {name} is in use by another program: stop that one, or let both use"
            f" a mixing device such as alsa:default"
        )
    if number == errno.ECONNREFUSED:
        return DeviceMissingError(
            f"the sound server behind {name} does not answer: start it, or use the card itself"
        )
    if number in (errno.EACCES, errno.EPERM):
        return DeviceError(
            f"sound card {name} may not be used by this user: add it to the group `audio`"
        )
    if number == errno.EINVAL:
        return DeviceError(
            f"sound card {name} refuses the format: put ALSA's converter before it,"
            f" as in alsa:plughw:CARD=<name>"
        )
    words = os.strerror(number) if number else said or "unknown error"
    return DeviceError(f"sound card {name} failed ({words}): it will be opened again")


@functools.cache
def _quiet() -> object:
    """Send alsa-lib's own complaints to our debug log; it prints them on stderr otherwise.

    pyalsaaudio has no call for it. Every failed open would add lines to a service's log that
    say less than the error does. The C side is variadic; the fixed arguments are all we read.
    """
    kind = ctypes.CFUNCTYPE(
        None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
    )

    def complain(_file: bytes, _line: int, function: bytes, number: int, text: bytes) -> None:
        logger.debug("alsa-lib %s: errno %d, %s", function, number, text)

    handler = kind(complain)
    try:
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(handler)
    except (OSError, AttributeError) as error:
        logger.debug("alsa-lib keeps its own error output: %s", error)
        return None
    # Kept alive by the cache for as long as alsa-lib may call it.
    return handler
