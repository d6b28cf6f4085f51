"""A sound card as a sink."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable

from kugel_bridge.audio.cards import card_names, refuse_index, resolved
from kugel_bridge.audio.feeder import Feeder
from kugel_bridge.audio.handle import PcmHandle, open_handle
from kugel_bridge.audio.mailbox import Order, Reply
from kugel_bridge.model.errors import DeviceBusyError, DeviceError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.model.status import AudioStatus

logger = logging.getLogger(__name__)

AHEAD_S = 0.16
"""Sound that may wait in memory before a write has to wait, on top of the card's own buffer."""
_REFILL_AT = 0.5
"""Part of `AHEAD_S` at which a waiting write goes on: half, for fewer wake-ups."""
_JOIN_S = 0.5
_GRACE_S = 2.0
"""On top of the stall timeout: a thread that has not answered by then is stuck in alsa-lib."""


class AlsaSink:
    """Plays through ALSA; `device` is a card's stable name or the name of an ALSA PCM.

    The card is held in a thread of its own; every wait on that thread has a limit, so a driver
    that hangs costs one thread and one announcement, never the bridge.
    Raises ConfigurationError for a device named by its index, which changes from boot to boot.
    """

    def __init__(
        self,
        device: str,
        *,
        preferred: PcmFormat = SPEECH_FORMAT,
        period_s: float = 0.02,
        periods: int = 4,
        stall_timeout_s: float = 3.0,
    ) -> None:
        refuse_index(device)  # here, where a person still looks
        self._device = device
        self._preferred = preferred
        self._period_s = period_s
        self._periods = periods
        self._stall_timeout_s = stall_timeout_s
        self._feeder: Feeder | None = None
        self._format = preferred
        self._status = AudioStatus.OK
        self._heard_frames = 0  # by feeders that are gone
        self._underruns = 0

    @property
    def format(self) -> PcmFormat:
        """What the card was opened with; before that, what will be asked for."""
        feeder = self._feeder
        return (feeder and feeder.format) or self._format

    @property
    def status(self) -> AudioStatus:
        """Whether the card took sound when it was last used."""
        return self._status

    @property
    def heard_frames(self) -> int:
        """Frames that have left the card since construction: written minus queued."""
        return self._feeder.heard_frames if self._feeder else self._heard_frames

    @property
    def queued_s(self) -> float:
        """Seconds of sound accepted and not yet heard."""
        return self._feeder.queued_s if self._feeder else 0.0

    @property
    def underruns(self) -> int:
        """How often the card ran dry since construction."""
        return self._underruns + (self._feeder.underruns if self._feeder else 0)

    @property
    def wake_ups(self) -> int:
        """How often the card's thread woke since the card was opened; still while it is idle."""
        return self._feeder.wake_ups if self._feeder else 0

    async def open(self) -> None:
        """Open the card; does nothing when it is open.

        Raises DeviceMissingError, DeviceBusyError or DeviceError; the card may come later, each
        call looks for it anew.
        """
        feeder = self._feeder
        if feeder is not None and feeder.failure is None:
            return
        if feeder is None:
            self._feeder = feeder = Feeder(
                self._device,
                self._handle,
                stall_timeout_s=self._stall_timeout_s,
                heard_frames=self._heard_frames,
            )
            feeder.start()
        await self._carried_out(feeder, Order.OPEN)
        self._format = feeder.format or self._format
        self._status = AudioStatus.OK

    async def write(self, chunk: PcmChunk) -> None:
        """Return when the chunk is buffered; raises DeviceError, and the card is closed then."""
        feeder = self._feeder
        if feeder is None:
            raise DeviceError(f"sound card {self._device} is not open")
        if chunk.format != feeder.format and feeder.failure is None:
            raise ValueError(f"{chunk.format} for a sink in {feeder.format}")
        frame = chunk.format.frame_bytes
        most = chunk.format.frames_in(AHEAD_S) * frame
        refill = int(most * _REFILL_AT)
        view = memoryview(chunk.data)
        while view:
            piece, view = view[:most], view[most:]
            if feeder.pending_bytes >= most:
                await self._answered(feeder, functools.partial(feeder.when_room, most, refill))
            if feeder.stands_still:
                await self._answered(feeder, functools.partial(feeder.put, piece))
            else:
                self._put(feeder, piece)

    async def drain(self) -> None:
        """Return when the last frame has been heard. Raises DeviceError."""
        if self._feeder is not None:
            await self._carried_out(self._feeder, Order.DRAIN)

    async def stop(self) -> None:
        """Fade out from where the card is, within 50 ms; never raises: a dead card is silent."""
        if self._feeder is not None:
            try:
                await self._carried_out(self._feeder, Order.STOP)
            except DeviceError as error:
                logger.info("while stopping: %s", error)

    async def close(self) -> None:
        """Let go of the card at once; never raises."""
        feeder = self._feeder
        if feeder is None:
            return
        try:
            await self._carried_out(feeder, Order.CLOSE)
        except DeviceError as error:
            logger.info("while closing: %s", error)
        if self._feeder is feeder:
            self._dismiss(feeder)
            feeder.join(_JOIN_S)

    def _handle(self) -> PcmHandle:
        # Names are looked up at each open: the card may have been plugged in since.
        return open_handle(
            self._device,
            resolved(self._device, card_names()),
            self._preferred,
            self._period_s,
            self._periods,
        )

    async def _carried_out(self, feeder: Feeder, order: Order) -> None:
        await self._answered(feeder, functools.partial(feeder.ask, order))

    async def _answered(self, feeder: Feeder, ask: Callable[[Reply], bool]) -> None:
        """Ask the thread something, and wait for the reply if there will be one."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def reply(error: DeviceError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(_settle, answer, error)

        limit_s = self._stall_timeout_s + _GRACE_S
        try:
            if not ask(reply):
                return
            late = loop.call_later(limit_s, _settle, answer, TimeoutError())
            try:
                await answer
            finally:
                late.cancel()
        except TimeoutError:
            self._status = AudioStatus.MISSING
            self._dismiss(feeder)
            feeder.abandon()
            raise DeviceError(
                f"the driver of sound card {self._device} has not answered for {limit_s:.0f} s:"
                " it will be opened again"
            ) from None
        except DeviceError as error:
            self._note(error)
            raise

    def _put(self, feeder: Feeder, piece: memoryview) -> None:
        try:
            feeder.put(piece)
        except DeviceError as error:
            self._note(error)
            raise

    def _note(self, error: DeviceError) -> None:
        busy = isinstance(error, DeviceBusyError)
        self._status = AudioStatus.BUSY if busy else AudioStatus.MISSING

    def _dismiss(self, feeder: Feeder) -> None:
        if self._feeder is feeder:
            self._feeder = None
            self._heard_frames = feeder.heard_frames
            self._underruns += feeder.underruns


def _settle(answer: asyncio.Future[None], error: Exception | None) -> None:
    if answer.done():  # the one who asked was cancelled meanwhile
        return
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)
