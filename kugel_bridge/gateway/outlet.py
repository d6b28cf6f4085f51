"""The way out of one socket: a client that does not read is not waited for without end."""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect

from kugel_bridge.gateway.cable import hang_up

logger = logging.getLogger(__name__)

SLOW_READER_S = 30.0
"""A client that plays as it reads takes a frame of 200 ms in that time, many times over."""
_GONE = (WebSocketDisconnect, RuntimeError)
"""What Starlette raises at a send after the client left, or after our own close frame."""


class GoneError(Exception):
    """The client left, or was left because it does not read."""


class Outlet:
    """Sends texts in order; at most the transport's buffer (64 KiB) lies between us and the client.

    Several tasks may send; each waits for its turn, so that their frames interleave fairly.
    """

    def __init__(self, websocket: WebSocket, *, slow_reader_s: float = SLOW_READER_S) -> None:
        self._websocket = websocket
        self._slow_reader_s = slow_reader_s
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def send(self, text: str) -> None:
        """Return when there is room for more; raises GoneError when the client is gone."""
        async with self._turn:
            if self._is_closed:
                raise GoneError("the socket is closed")
            try:
                async with asyncio.timeout(self._slow_reader_s):
                    await self._websocket.send_text(text)
            except TimeoutError as error:
                self._is_closed = True
                # A close frame would wait behind what is not read.
                hang_up(self._websocket.scope)
                logger.info("a client read nothing for %.0f s and is left", self._slow_reader_s)
                raise GoneError("the client does not read") from error
            except _GONE as error:
                self._is_closed = True
                raise GoneError("the client left") from error
        # A send into a socket with room never suspends: whoever has all of its sound ready would
        # hold up everybody else until it is through.
        await asyncio.sleep(0)

    async def say(self, text: str) -> None:
        """Send, if there is still somebody to hear it."""
        try:
            await self.send(text)
        except GoneError:
            logger.debug("a client left before its answer")

    async def close(self, code: int) -> None:
        """Close with `code`; nothing can be sent after it."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(self._slow_reader_s):
                await self._websocket.close(code)
        except TimeoutError:
            hang_up(self._websocket.scope)
        except _GONE:
            logger.debug("a client left by itself")
