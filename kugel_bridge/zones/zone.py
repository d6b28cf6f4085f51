"""A place in the house: its sink, its player, its loudness."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kugel_bridge.audio.player import Player
from kugel_bridge.audio.sink import AudioSink
from kugel_bridge.model.errors import DeviceError
from kugel_bridge.model.status import AudioStatus

logger = logging.getLogger(__name__)

REOPEN_FIRST_S = 1.0
REOPEN_MAX_S = 15.0
"""A card that was plugged in again is noticed this late at most."""
ALWAYS_OPEN = -1.0


class Zone:
    """One loudspeaker: opens its device ahead of use and keeps track of its health."""

    def __init__(
        self,
        name: str,
        sink: AudioSink,
        *,
        volume: float = 100.0,
        lead_in_s: float = 0.0,
        tail_s: float = 0.0,
        keep_open_s: float = ALWAYS_OPEN,
        chime: str | None = None,
        on_change: Callable[[], None] = lambda: None,
        head_start_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.name = name
        self.sink = sink
        self.player = Player(sink, lead_in_s=lead_in_s, tail_s=tail_s, head_start_s=head_start_s)
        self.volume = volume
        """Loudness in percent, 0 to 100."""
        self.chime = chime
        self.on_ready: Callable[[], None] = lambda: None
        """Called when the device works again after trouble."""
        self._keep_open_s = keep_open_s
        self._on_change = on_change
        self._trouble = ""
        self._wake = asyncio.Event()
        self._busy = False
        self._changing = asyncio.Lock()

    @property
    def audio(self) -> AudioStatus:
        """Whether the device takes sound."""
        return self.sink.status

    def changed(self) -> None:
        """Say that the zone's state may look different now."""
        self._on_change()

    def begin(self) -> None:
        """Say that sound is about to be played: the device stays open."""
        self._busy = True

    def end(self) -> None:
        """Say that no sound is played any more, or that the device refused it."""
        self._busy = False
        self._wake.set()

    def refused(self, reason: str) -> None:
        """Say that the device refused sound: `on_ready` is called once it can be opened again.

        Else a card that is back before the zone looks for it would never seem to have been away.
        """
        self._tell(reason)

    async def open(self) -> None:
        """Get the device ready for what is about to be played; raises DeviceError."""
        # Opened in the midst of closing, it would be closed all the same.
        async with self._changing:
            await self.sink.open()

    async def run(self) -> None:
        """Keep the device open, or ready to open, until cancelled."""
        try:
            await self._open_until_it_works()
            while True:
                if self._keep_open_s >= 0 and self.audio is AudioStatus.OK:
                    await self._close_if_idle()
                await self._wake.wait()
                self._wake.clear()
                if self._keep_open_s < 0 or self.audio is not AudioStatus.OK:
                    await self._open_until_it_works()
        finally:
            await self.sink.close()

    async def _open_until_it_works(self) -> None:
        pause_s = REOPEN_FIRST_S
        while not self._busy:
            try:
                await self.open()
            except DeviceError as error:
                self._tell(str(error))
            else:
                self._tell("")
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, REOPEN_MAX_S)

    async def _close_if_idle(self) -> None:
        """Close the device if nothing is played for `keep_open_s`; the next play opens it."""
        try:
            async with asyncio.timeout(self._keep_open_s):
                await self._wake.wait()
        except TimeoutError:
            async with self._changing:
                if not self._busy and not self._wake.is_set():
                    await self.sink.close()

    def _tell(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            logger.warning("zone %s: %s", self.name, trouble)
        else:
            logger.info("zone %s: sound card ready (%s)", self.name, self.sink.format)
            self.on_ready()
        self._on_change()
