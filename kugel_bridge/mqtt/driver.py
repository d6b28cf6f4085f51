"""A paho client on the event loop: its socket is watched, its steps are taken when due.

paho's own thread is not used: an exception in a callback ends it for good, and it costs wake-ups
and a hop per message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from kugel_bridge.mqtt.feed import FedClient

logger = logging.getLogger(__name__)

SLICE_S = 0.005
"""For packets at a time: a flood has to let the sound through, and what it sets off is written
in few steps."""
SHORTEST_PAUSE_S = 0.5
"""Between two looks at the keepalive."""
_LATE_S = 0.05
"""paho's idea of the last byte is a little later than ours; looking too early costs a wake-up."""


class PahoDriver:
    """Drives one paho client over one connection; not used again after that."""

    def __init__(self, client: FedClient, on_end: Callable[[str], None]) -> None:
        """`on_end` is told why the connection ended, perhaps more than once."""
        self._client, self._on_end = client, on_end
        self._socket: socket.socket | None = None
        self._abandoned = False
        self._serving = False
        self._fault = _LastFault()
        client.enable_logger(self._fault.logger)
        self.errors = 0
        """Exceptions inside paho, caught; each ends the connection."""
        self.heard_s = self._sent_s = time.monotonic()
        """When the last byte came (monotonic s)."""
        self._asked_s = self.heard_s
        """When the broker was last asked for one."""

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    @property
    def fault(self) -> str:
        """What paho complained about last; empty if it did not."""
        return self._fault.text or "the connection closed"

    @property
    def pause_s(self) -> float:
        """How long nothing has to be done for the keepalive (s)."""
        # Between a question and its answer there is nothing to do but wait.
        since_s = min(max(self.heard_s, self._asked_s), self._sent_s)
        due_s = since_s + self._client.keepalive + _LATE_S
        return max(SHORTEST_PAUSE_S, due_s - time.monotonic())

    def check(self) -> None:
        """See to the keepalive."""
        has_to_write = self._client.want_write()
        if self._take(self._client.loop_misc) and self._client.want_write() and not has_to_write:
            # A ping. Sent here it costs no further round of the event loop.
            self._asked_s = time.monotonic()
            self._writable()

    async def connect(self, start: Callable[[], None], limit_s: float) -> None:
        """Call `start`, which connects and may block, and watch the socket from then on.

        Raises what `start` raises, and TimeoutError. The thread is one of its own: those of the
        loop's executor are waited for when the process ends, and resolving a name may take long.
        """
        self._loop = asyncio.get_running_loop()
        started: asyncio.Future[Exception | None] = self._loop.create_future()

        def report(error: Exception | None) -> None:
            if not started.done():
                started.set_result(error)

        def connect() -> None:
            error: Exception | None = None
            try:
                start()
            except Exception as caught:  # noqa: BLE001  handed to whoever waits
                error = caught
            if self._abandoned:
                self._close_socket()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(report, error)

        threading.Thread(target=connect, name="mqtt-connect", daemon=True).start()
        async with asyncio.timeout(limit_s):
            error = await started
        if error is not None:
            raise error
        self._attach()

    def close(self) -> None:
        """Drop the connection without a word; harmless when it is gone already."""
        self._abandoned = True
        # paho calls back when it is collected: by then the file number may be another's.
        self._client.on_socket_register_write = None
        self._client.on_socket_unregister_write = None
        self._client.on_socket_close = None
        self._unwatch(self._socket)
        self._socket = None
        self._close_socket()

    def _close_socket(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _attach(self) -> None:
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            raise ConnectionError(self.fault)
        self._socket = sock
        # Without it a burst of small messages stalls up to 40 ms on the peer's delayed TCP ack.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard_s = self._sent_s = time.monotonic()
        # Only now: in the connecting thread they would touch the loop from outside.
        self._client.on_socket_register_write = self._on_register_write
        self._client.on_socket_unregister_write = self._on_unregister_write
        self._client.on_socket_close = self._on_socket_close
        self._loop.add_reader(sock.fileno(), self._readable)
        if self._client.want_write():
            self._loop.add_writer(sock.fileno(), self._writable)

    def _unwatch(self, sock: socket.socket | None) -> None:
        if sock is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())

    def _readable(self) -> None:
        if self._socket is None:
            return
        self.heard_s = time.monotonic()
        self._client.receive()
        if not self._serving:
            self._serve()

    def _serve(self) -> None:
        """Have packets handled for a while; then the sound and everything else has its turn."""
        self._serving = False
        until_s = time.monotonic() + SLICE_S
        while self._socket is not None:
            if not self._take(self._client.step) or not self._client.waiting:
                return
            if time.monotonic() >= until_s:
                self._serving = True
                self._loop.call_soon(self._serve)
                return

    def _writable(self) -> None:
        self._sent_s = time.monotonic()
        self._take(self._client.loop_write)

    def _take(self, step: Callable[[], MQTTErrorCode]) -> bool:
        """Take one step of paho; whether the connection is still open."""
        try:
            failed = step() != MQTTErrorCode.MQTT_ERR_SUCCESS
        except Exception:
            # Errors of our own callbacks are caught there, so this is a packet paho cannot read.
            logger.exception("error in the MQTT library; connecting anew")
            self.errors += 1
            failed = True
        if failed:
            self._on_end(self.fault)
        return not failed and self._socket is not None

    # paho calls these with a lock held that closing needs: none of them may close anything.

    def _on_register_write(self, _client: Client, _data: object, sock: Any) -> None:
        if self._socket is not None:
            self._loop.add_writer(sock.fileno(), self._writable)

    def _on_unregister_write(self, _client: Client, _data: object, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_writer(sock.fileno())

    def _on_socket_close(self, _client: Client, _data: object, sock: Any) -> None:
        self._socket = None
        self._unwatch(sock)


class _LastFault(logging.Handler):
    """Keeps what paho logged last: the only place where it says why a socket failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        # Not in the tree of loggers: these lines are told as the reason of an end, once.
        self.logger = logging.Logger("paho", logging.ERROR)  # noqa: LOG001
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.text = record.getMessage().removeprefix("failed to receive on socket: ")
