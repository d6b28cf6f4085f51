"""uvicorn's two protocols, hardened against clients that dawdle, flood, vanish or never read.

uvicorn 0.54 has no deadline for a request's head or body, counts silent connections against
everybody, waits without end for clients that do not read, logs tracebacks for what clients send,
and has answers of its own. Each override below names the gap that it closes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import logging
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol

from kugel_bridge.gateway.cable import CABLE, Cable
from kugel_bridge.gateway.gate import headers_for, new_request_id, refusal_response
from kugel_bridge.kugelaudio.codes import GENERATION_FAILED, INVALID_REQUEST

HEAD_S = 10.0
"""From the connection, or the first byte of a further request, to the end of its head."""
BODY_S = 30.0
"""From the end of a head to the end of its body: the longest text takes 20 s at 14 kbit/s."""
STUCK_S = 30.0
"""A client that plays as it reads takes far less than this to make room for a frame."""
MAX_FRAGMENTS = 1_024
"""Of one message: empty ones count for nothing against its size."""
MAX_UNREAD_BYTES = 256 * 1024
"""Answers to pings are not held up by sound that is not read; so much of both may pile up."""


class _ClientsFaults(logging.LoggerAdapter[logging.Logger]):
    """Notes what clients do wrong at debug: a hostile one must not fill the log."""

    @property
    def level(self) -> int:
        """uvicorn looks at it before it traces."""
        return self.logger.level

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.debug(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        # An answer without an end: its client left, or our own line before it tells why.
        unended = str(msg).startswith("ASGI callable returned without completing")
        (self.debug if unended else super().error)(msg, *args, **kwargs)


_logger = cast(logging.Logger, _ClientsFaults(logging.getLogger("uvicorn.error")))


class Deadline:
    """Hangs up a connection unless it is called off in time."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, cable: Cable, seconds: float) -> None:
        """Count from now, unless it counts already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, cable.abort)

    def call_off(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Waiting:
    """Connections without work for us: new ones, and idle ones that have had an answer.

    When there are too many, the one that waits longest has to go, of the kind that there is more
    of: neither thousands of new ones nor idle ones that stay keep the other kind out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: dict[Cable, None] = {}
        self._idle: dict[Cable, None] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._idle)

    def add_new(self, cable: Cable) -> None:
        """A connection that has said nothing yet."""
        self._new[cable] = None
        self._bound()

    def add_idle(self, cable: Cable) -> None:
        """One that has had an answer; a new one stays new until then."""
        if cable not in self._new:
            self._idle[cable] = None
            self._bound()

    def remove(self, cable: Cable) -> None:
        """It has a request now, or is gone."""
        self._new.pop(cable, None)
        self._idle.pop(cable, None)

    def _bound(self) -> None:
        if len(self) > self._most:
            crowd = self._new if len(self._new) > len(self._idle) else self._idle
            oldest = next(iter(crowd))
            self.remove(oldest)
            oldest.abort()


class HttpReception(H11Protocol):
    """HTTP, until an upgrade; `waiting` is shared by all connections of a server."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        waiting: Waiting,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _logger
        self._waiting = waiting
        self._cable: Cable
        self._arrival = Deadline()
        self._stage: object = h11.IDLE
        self._room = Deadline()
        self._is_upgraded = False

    @property
    def is_answering(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first head."""
        self._cable = Cable(transport)
        self.app_state = {**self.app_state, CABLE: self._cable}
        super().connection_made(self._cable)
        self._waiting.add_new(self._cable)
        self._arrival.begin(self._cable, HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._arrival.call_off()
        self._room.call_off()
        self._waiting.remove(self._cable)
        self._cable.lost.set()
        # After an error uvicorn lets it run on, and keeps what it holds until it fires.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Hang up, and not wait without end until what was sent is read."""
        self._cable.close()

    def data_received(self, data: bytes) -> None:
        """Every part of a request has its deadline, however it drips in."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        if self._is_upgraded:
            return
        stage = self.conn.their_state
        if stage is not self._stage:
            self._stage = stage
            self._arrival.call_off()
        if stage is h11.IDLE:
            self._waiting.add_idle(self._cable)
            # Nothing of a further request: the keep-alive time is running.
            if self.timeout_keep_alive_task is None:
                self._arrival.begin(self._cable, HEAD_S)
            return
        if self.conn.our_state is h11.DONE:
            # Answered before its body came, as what is refused: the rest of it is of no use.
            self._waiting.add_idle(self._cable)
        else:
            self._waiting.remove(self._cable)
        if stage is h11.SEND_BODY:
            self._arrival.begin(self._cable, BODY_S)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over, with no clock of ours left running."""
        self._is_upgraded = True
        self._arrival.call_off()
        self._waiting.remove(self._cable)
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer nonsense in the API's shape, also where it comes in the middle of a request."""
        named = {**headers_for(new_request_id()), "Connection": "close"}
        answer = refusal_response(dataclasses.replace(INVALID_REQUEST, message=msg), named)
        head = h11.Response(
            status_code=answer.status_code, headers=answer.raw_headers, reason=b"Bad Request"
        )
        try:
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()
        except h11.LocalProtocolError:
            # An answer is on its way already; cutting it off is all that can be said.
            self._cable.abort()
        if self.is_answering:
            # The application must not write into an answer that is not its own.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        self._room.begin(self._cable, STUCK_S)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._room.call_off()


class _Handshake(ServerProtocol):
    """The library's, but what it refuses is told in the API's shape."""

    def reject(self, status: int, text: str) -> Response:
        """Answer an upgrade with an error; `text` is one for people."""
        kind = INVALID_REQUEST if status < HTTPStatus.INTERNAL_SERVER_ERROR else GENERATION_FAILED
        message = text.partition("\n")[0]
        answer = refusal_response(
            dataclasses.replace(kind, status=int(status), message=message or kind.message),
            {
                **headers_for(new_request_id()),
                "Date": email.utils.formatdate(usegmt=True),
                "Connection": "close",
            },
        )
        headers = Headers(answer.headers.items())
        known = HTTPStatus(status)
        return Response(known.value, known.phrase, headers, bytes(answer.body))


class SocketReception(WebSocketsSansIOProtocol):
    """A WebSocket, from its upgrade on."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Handshake(max_size=config.ws_max_size, logger=self.logger)
        self._room = Deadline()
        self._has_failed = False

    @property
    def _cable(self) -> Cable:
        assert isinstance(self.transport, Cable)
        return self.transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._room.call_off()
        self._cable.lost.set()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Hang up, and not wait without end until what was sent is read."""
        self._cable.close()

    def data_received(self, data: bytes) -> None:
        """Read on, unless nothing that comes matters any more."""
        if self._has_failed:
            return
        super().data_received(data)
        if not self.handshake_initiated:
            # h11 takes heads that websockets does not (8 KiB of path, 128 headers), and then
            # nobody answers.
            unread = "The head of the upgrade is too large or malformed."
            self._fail_with(self.conn.reject(HTTPStatus.BAD_REQUEST, unread).serialize())

    async def send(self, message: ASGISendEvent) -> None:
        """Send; an upgrade that was refused is answered, whatever uvicorn thinks of it."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # Else it would log an error for everybody who comes without a key.
            self.handshake_complete = True

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment, if there are not too many."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(1009, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Hand a message over; text that is not UTF-8 is the client's fault, no error of ours."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(1007, "invalid UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer, unless the answers pile up."""
        super().handle_ping()
        if self._cable.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._cable.abort()

    def handle_parser_exception(self) -> None:
        """Close so that the client gets to read why, whatever it is still sending."""
        if self._has_failed:
            return
        close = self.conn.close_sent
        if close is None:
            # Before the handshake is done there is nothing to close.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        else:
            self.queue.put_nowait(
                {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
            )
        self._fail_with(b"".join(self.conn.data_to_send()))

    def _fail_with(self, last: bytes) -> None:
        self._has_failed = self.close_sent = True
        self.stop_keepalive()
        if last:
            self._cable.write(last)
        self.frames = []
        if self.read_paused:
            self.read_paused = False
            self._cable.resume_reading()
        # With a timer set uvicorn leaves the connection open when the application ends.
        self.close_timer = self._cable.half_close()

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        self._room.begin(self._cable, STUCK_S)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._room.call_off()
