"""One /ws/tts socket with its session, and how it is opened.

Library errors and close codes become ours here. The key travels in the query (the one form that
every source of the API confirms), so nothing that could print the address is let out: the library
gets a logger that is switched off, and errors whose text may hold the address are cut from ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.protocol import State

from kugel_bridge import __version__
from kugel_bridge.kugelaudio.codes import error_of_close, refusal_of_answer
from kugel_bridge.kugelaudio.frames import Frame
from kugel_bridge.kugelaudio.hosts import checked_key, is_address, socket_url
from kugel_bridge.kugelaudio.messages import Cancel, SpeechRequest
from kugel_bridge.kugelaudio.session import ClientSession
from kugel_bridge.model.errors import (
    BridgeError,
    ConfigurationError,
    ProtocolError,
    ServiceUnavailableError,
    TooSlowError,
)

CLOSE_TIMEOUT_S = 1.0
"""A frozen server gets one second of courtesy, not the library's ten."""
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_QUEUED_FRAMES = 32
"""About six seconds of sound ahead of the player; beyond it the server has to wait."""
_READ_BYTES = 64 * 1024
"""At a time: a few frames of sound."""
_HAPPY_EYEBALLS_S = 0.25
_MAX_STALE_FRAMES = 64
_VERDICT_STATUSES = frozenset({401, 402, 403, 429})
_OUR_CODES = frozenset({1002, 1003, 1007, 1009})
_LOST_CODES = frozenset({None, 1000, 1001, 1006, 1012, 1013})


class LostError(ServiceUnavailableError):
    """The connection ended without a verdict on the request: a fresh one may do."""


class Connector:
    """Opens sockets to one service with one key."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        model_id: str,
        timeout_s: float,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = socket_url(base_url, "/ws/tts", api_key=checked_key(api_key), model_id=model_id)
        self._secure = self._url.startswith("wss:")
        # A name may lead to IPv6 that does not work here. With one address there is nothing to
        # race, and asyncio loses sockets when a race is cancelled.
        self._happy_eyeballs_s = None if is_address(base_url) else _HAPPY_EYEBALLS_S
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context
        self.vet: Callable[[Mapping[str, str]], Awaitable[None]] | None = None
        """Looks at the headers that a socket was opened with; raises a BridgeError for no use."""

    async def open(self) -> Connection:
        """A connected socket, ready for a request.

        Raises a BridgeError: the service's own verdict on our key or rate, or why it is out of
        reach. Proxies named in the environment are not used.
        """
        websocket = await self._connected()
        if self.vet is not None:
            assert websocket.response is not None, "it was answered"
            try:
                await self.vet(websocket.response.headers)
            except BaseException:
                websocket.transport.abort()
                raise
        return Connection(websocket)

    async def _connected(self) -> _Socket:
        try:
            context = await self._context() if self._secure else None
            websocket = await connect(
                self._url,
                compression=None,
                proxy=None,
                user_agent_header=f"kugel-bridge/{__version__}",
                open_timeout=self._timeout_s,
                # The library would end a healthy socket whose pong waits behind sound that
                # came faster than it is played; idle sockets are pinged by their owner.
                ping_interval=None,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=MAX_QUEUED_FRAMES,
                logger=_switched_off_logger(),
                ssl=context,
                happy_eyeballs_delay=self._happy_eyeballs_s,
                create_connection=_Socket,
            )
            assert isinstance(websocket, _Socket)
            return websocket
        except InvalidStatus as error:
            raise _refused_upgrade(error) from error
        except InvalidURI:
            raise ConfigurationError("the base URL does not make a WebSocket address") from None
        except InvalidHandshake as error:
            # A refused redirect quotes addresses, so the cause is left behind.
            kind = type(error).__name__
            raise ServiceUnavailableError(f"the other side speaks no WebSocket ({kind})") from None
        except TimeoutError as error:
            raise TooSlowError(f"no connection within {self._timeout_s:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise _untrusted(error) from error
        except socket.gaierror as error:
            raise ServiceUnavailableError(f"the host was not found: {error.strerror}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise ServiceUnavailableError(f"the service cannot be reached: {reason}") from error
        except (WebSocketException, EOFError) as error:
            kind = type(error).__name__
            raise ServiceUnavailableError(f"the connection failed while opening ({kind})") from None

    async def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            # Reading the system's certificates takes 20 ms on a PC and far longer on a Pi.
            self._ssl_context = await asyncio.to_thread(ssl.create_default_context)
        return self._ssl_context


class _Socket(ClientConnection, asyncio.BufferedProtocol):
    """The library's socket, but what breaks the protocol is left at once.

    The library waits until the other side hangs up too. One that does not would be waited for as
    if its sound were late, and a frame that is too big would be asked for again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """`args` and `options` are the library's."""
        super().__init__(*args, **options)
        # Without it asyncio takes 256 KiB of fresh memory for each read: 0.05 ms.
        self._buffer = memoryview(bytearray(_READ_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes])  # it is copied there

    def data_received(self, data: bytes | memoryview) -> None:
        super().data_received(data)  # type: ignore[arg-type]  # it only appends them
        if self.protocol.parser_exc is not None:
            self.transport.close()

    def sent_at_once(self, text: str) -> bool:
        """Send a short message if nothing waits to be sent before it; False if it was not sent.

        The library's `send` may have to wait. With the time limit that this takes, a request is
        handed over twice as late.
        """
        if (
            self.protocol.state is not State.OPEN
            or self.transport.is_closing()
            or self.transport.get_write_buffer_size()
        ):
            return False
        self.protocol.send_text(text.encode())
        self.send_data()
        return True


class Connection:
    """An open socket; one caller at a time."""

    def __init__(self, websocket: _Socket) -> None:
        self._websocket = websocket
        self._session = ClientSession()
        self._loop = asyncio.get_running_loop()
        self._opened_s = self._loop.time()

    @property
    def reusable(self) -> bool:
        """Whether the next request may use it, as far as anybody knows."""
        return self._session.reusable and self._websocket.close_code is None

    @property
    def age_s(self) -> float:
        """How long it has been open (s)."""
        return self._loop.time() - self._opened_s

    async def is_clean(self) -> bool:
        """Throw away what came in while nobody asked; False if the socket is not to be used.

        Late frames of one request would otherwise be taken for the next one's: frames carry no
        request id.
        """
        # Nearly always nothing came, and a wait that is cut short costs more than the request.
        if not len(self._websocket.recv_messages.frames):
            return self.reusable
        for _ in range(_MAX_STALE_FRAMES):
            try:
                async with asyncio.timeout(0):
                    self._session.receive(await self._websocket.recv())
            except TimeoutError:
                return self.reusable
            except (ConnectionClosed, ProtocolError):
                return False
        return False

    async def say(self, request: SpeechRequest, timeout_s: float) -> None:
        """Send a request; raises LostError or a verdict if the socket is closed."""
        text = self._session.request(request)
        if self._websocket.sent_at_once(text):
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._websocket.send(text)
        except TimeoutError as error:
            self._session.abandon()
            raise TooSlowError("the service does not take the request") from error
        except ConnectionClosed as error:
            self._session.abandon()
            raise _closed(error) from error

    async def receive(self, timeout_s: float) -> Frame | None:
        """The next frame; None for one of no interest.

        Raises TimeoutError, ProtocolError, LostError, or the verdict in the close code.
        """
        try:
            async with asyncio.timeout(timeout_s):
                text = await self._websocket.recv()
        except ConnectionClosed as error:
            self._session.abandon()
            raise _closed(error) from error
        return self._session.receive(text)

    async def wait_closed(self) -> BridgeError:
        """Wait for the end of the socket; the error says what the end means."""
        await self._websocket.wait_closed()
        return _meaning(self._websocket.close_code, self._websocket.close_reason or "")

    async def answers(self, timeout_s: float) -> bool:
        """Whether the other side answers a ping within `timeout_s` (s); also keeps NATs open."""
        try:
            async with asyncio.timeout(timeout_s):
                await (await self._websocket.ping())
        except (ConnectionClosed, TimeoutError):
            return False
        return True

    async def leave(self) -> None:
        """Tell the service to drop what it is generating, then close."""
        if not self._session.reusable:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._websocket.send(Cancel().to_json())
        await self.close()

    async def close(self) -> None:
        """Close within about a second, whatever the other side does."""
        self._session.abandon()
        try:
            await self._websocket.close()
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the socket at once."""
        self._session.abandon()
        self._websocket.transport.abort()


def _switched_off_logger() -> logging.Logger:
    """Not part of the logging tree: at DEBUG the library prints the request line with the key."""
    logger = logging.Logger("websockets.silent")  # noqa: LOG001 - on purpose outside the tree
    logger.disabled = True
    return logger


def _refused_upgrade(error: InvalidStatus) -> BridgeError:
    response = error.response
    refusal = refusal_of_answer(
        response.status_code,
        bytes(response.body or b""),
        retry_after=response.headers.get("Retry-After"),
        request_id=response.headers.get("x-request-id"),
        now_s=time.time(),
    )
    if response.status_code in _VERDICT_STATUSES or response.status_code >= 500:
        meaning = refusal.as_error()
        if not isinstance(meaning, ServiceUnavailableError) or response.status_code >= 500:
            return meaning
    return ServiceUnavailableError(
        f"HTTP {response.status_code} instead of a WebSocket; is the base URL right?",
        retry_after_s=refusal.retry_after_s,
    )


def _untrusted(error: ssl.SSLCertVerificationError) -> BridgeError:
    message = error.verify_message
    hint = "; is this machine's clock right?" if "not yet valid" in message else ""
    return ServiceUnavailableError(f"the service's certificate is refused: {message}{hint}")


def _closed(error: ConnectionClosed) -> BridgeError:
    # What we sent first says more than the echo, as 1009 for a frame over our limit.
    if error.sent is not None and not error.rcvd_then_sent and error.sent.code in _OUR_CODES:
        return error_of_close(error.sent.code, error.sent.reason)
    if error.rcvd is None:
        return LostError("the connection was lost")
    return _meaning(error.rcvd.code, error.rcvd.reason)


def _meaning(code: int | None, reason: str) -> BridgeError:
    error = error_of_close(code, reason)
    if code in _LOST_CODES and isinstance(error, ServiceUnavailableError):
        return LostError(str(error), retry_after_s=error.retry_after_s)
    return error
