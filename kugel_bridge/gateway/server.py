"""The gateway as a part of a daemon: built from plain values, stopped by cancelling."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from kugel_bridge.gateway.access import Access, KeyRing
from kugel_bridge.gateway.chain import Chain
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.limits import Limits, NoLimits
from kugel_bridge.gateway.orders import Order
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.catalogue import Model
from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.kugelaudio.messages import DEFAULT_MODEL
from kugel_bridge.model.clock import SystemClock
from kugel_bridge.model.errors import ConfigurationError

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 10_000
"""The API's own limit on a text."""
GRACE_S = 1.0
"""How long speech under way may go on at the end, whichever way it goes out; the whole daemon
stops within two seconds."""


class GatewayServer:
    """Serves the KugelAudio API on one port.

    Without `limits` there are none; `ledger` is what they count into; `chain` tells who is behind
    the engine, if that may be another gateway. Raises
    ConfigurationError for a malformed key, and for a host that others can reach while there are no
    keys, unless it is to be `open_to_all`. With `faults`, even none, it can be told to misbehave;
    on a loopback address only.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        keys: Sequence[str],
        engine: Engine,
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        open_to_all: bool = False,
        max_characters: int = MAX_CHARACTERS,
        grace_s: float = GRACE_S,
        faults: Sequence[Order] | None = None,
        chain: Chain | None = None,
    ) -> None:
        ring = KeyRing(keys)
        self._has_keys = bool(ring)
        self._is_open = not ring and not is_loopback(host)
        if self._is_open and not open_to_all:
            raise ConfigurationError(
                f"gateway.host is {host!r}, which others can reach: set gateway.keys, use "
                "127.0.0.1, or set gateway.open_to_all = true if that is meant"
            )
        self._access = Access(ring, open_to_all=self._is_open)
        self._host = host
        self._wanted_port = port
        self._engine = engine
        self._chain = Chain() if chain is None else chain
        self._limits = NoLimits() if limits is None else limits
        self._ledger = Ledger(None, SystemClock()) if ledger is None else ledger
        self._model = Model(DEFAULT_MODEL, "Kugel 3.5", "Most Natural", max_characters)
        self._grace_s = grace_s
        self._port: int | None = None
        self._is_up = asyncio.Event()
        self._faults: Sequence[Order] | None = None
        if faults is not None:
            self.misbehave(faults)

    def misbehave(self, faults: Sequence[Order]) -> None:
        """Take faults on order from the next run on, beginning with these.

        Raises ConfigurationError on an address that is not loopback.
        """
        if not is_loopback(self._host):
            raise ConfigurationError(
                f"gateway.host is {self._host!r}, and faults on order are for this machine only: "
                "use 127.0.0.1, or leave out gateway.faults, --faults and --fault"
            )
        self._faults = faults

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
            from kugel_bridge.gateway.account import Account
            from kugel_bridge.gateway.app import METERED_PATHS, application
            from kugel_bridge.gateway.faults import Faults
            from kugel_bridge.gateway.generation import Generator
            from kugel_bridge.gateway.listener import Listener
            from kugel_bridge.gateway.metrics import MeteredEngine, Metrics
            from kugel_bridge.gateway.rest import Rest
            from kugel_bridge.gateway.sockets import Sockets
            from kugel_bridge.gateway.synthesis import Synthesis
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the gateway needs {error.name}: pip install 'kugel-bridge[gateway]'"
            ) from error
        metrics = Metrics(METERED_PATHS)
        engine = MeteredEngine(self._engine, metrics)
        generator = Generator(engine, max_characters=self._model.max_input_characters)
        sockets = Sockets(generator, self._limits)
        metrics.sockets_open = lambda: sockets.open
        synthesis = Synthesis(generator, self._limits)
        rest = Rest(engine, (self._model,), metrics, self._chain, has_keys=self._has_keys)
        account = Account(self._ledger)
        faults = None if self._faults is None else Faults(self._faults)
        listener = Listener(
            application(self._access, rest, synthesis, account, sockets, metrics, faults),
            self._is_up,
        )

        def drain() -> None:
            rest.drain()
            synthesis.drain()
            sockets.drain()

        with self._bound() as bound:
            self._port = bound.getsockname()[1]
            try:
                logger.info("gateway on %s", self.url)
                if self._is_open:
                    logger.warning(
                        "gateway.open_to_all: whoever reaches %s may use it, without a key",
                        self.url,
                    )
                async with self._ledger:
                    await listener.listen(bound, drain, self._grace_s)
            finally:
                self._is_up.clear()
                self._port = None

    def _bound(self) -> socket.socket:
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            bound = socket.create_server((self._host, self._wanted_port), family=family)
            # asyncio forgets it on sockets made this way, and each frame would wait 40 ms.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return bound
        except OSError as error:
            raise ConfigurationError(
                f"gateway.port {self._wanted_port} on {self._host} cannot be used: "
                f"{error.strerror or error}"
            ) from error
