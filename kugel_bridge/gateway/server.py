"""The gateway as a part of a daemon: built from plain values, stopped by cancelling."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from kugel_bridge.gateway.access import Access, KeyRing
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.limits import Limits, NoLimits
from kugel_bridge.kugelaudio.catalogue import Model
from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.kugelaudio.messages import DEFAULT_MODEL
from kugel_bridge.model.errors import ConfigurationError

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 10_000
"""The API's own limit on a text."""
GRACE_S = 1.0
"""How long speech under way may go on at the end; the whole daemon stops within two seconds."""
_BACKLOG = 128


class GatewayServer:
    """Serves the KugelAudio API on one port.

    Raises ConfigurationError for a malformed key, and for a host that others can reach while
    there are no keys.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        keys: Sequence[str],
        engine: Engine,
        limits: Limits = NoLimits(),
        max_characters: int = MAX_CHARACTERS,
        grace_s: float = GRACE_S,
    ) -> None:
        ring = KeyRing(keys)
        if not ring and not is_loopback(host):
            raise ConfigurationError(
                f"gateway.host is {host!r}, which others can reach: set gateway.keys, "
                "or use 127.0.0.1"
            )
        self._access = Access(ring)
        self._host = host
        self._wanted_port = port
        self._engine = engine
        self._limits = limits
        self._model = Model(DEFAULT_MODEL, "Kugel 3.5", "Most Natural", max_characters)
        self._grace_s = grace_s
        self._port: int | None = None
        self._is_up = asyncio.Event()

    @property
    def port(self) -> int:
        """The port in use; RuntimeError before there is one."""
        if self._port is None:
            raise RuntimeError("the gateway is not up")
        return self._port

    @property
    def url(self) -> str:
        """What to give a client as base URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def up(self) -> None:
        """Return once requests are taken."""
        await self._is_up.wait()

    async def run(self) -> None:
        """Serve until cancelled; open sockets are closed with 1012, busy ones after their turn.

        Raises ConfigurationError if the address cannot be used or the extra is not installed.
        """
        try:
            from kugel_bridge.gateway.app import application
            from kugel_bridge.gateway.generation import Generator
            from kugel_bridge.gateway.listener import Listener
            from kugel_bridge.gateway.rest import Rest
            from kugel_bridge.gateway.sockets import Sockets
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the gateway needs {error.name}: pip install 'kugel-bridge[gateway]'"
            ) from error
        generator = Generator(self._engine, max_characters=self._model.max_input_characters)
        sockets = Sockets(generator, self._limits)
        rest = Rest(self._engine, (self._model,))
        listener = Listener(application(self._access, rest, sockets), self._is_up)
        with self._bound() as bound:
            self._port = bound.getsockname()[1]
            logger.info("gateway on %s", self.url)
            try:
                await listener.listen(bound, before_end=lambda: sockets.drain(self._grace_s))
            finally:
                self._is_up.clear()
                self._port = None

    def _bound(self) -> socket.socket:
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            bound = socket.create_server(
                (self._host, self._wanted_port), family=family, backlog=_BACKLOG
            )
            # asyncio forgets it on sockets made this way, and each frame would wait 40 ms.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return bound
        except OSError as error:
            raise ConfigurationError(
                f"gateway.port {self._wanted_port} on {self._host} cannot be used: "
                f"{error.strerror or error}"
            ) from error
