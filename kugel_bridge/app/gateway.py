"""The gateway with all that works behind it: alone, or on top of a bridge's parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kugel_bridge.app import parts
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.flights import Flights

if TYPE_CHECKING:  # a bridge without a gateway does not load it
    from kugel_bridge.gateway.server import GatewayServer
    from kugel_bridge.kugelaudio.client import SpeechClient
    from kugel_bridge.settings.tree import Settings


class Running(Protocol):
    """Something that works until it is cancelled."""

    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Upstream:
    """What a gateway in front of the service shares with the bridge: one cache, one account."""

    client: SpeechClient
    cache: PhraseCache | None
    flights: Flights


class GatewayService:
    """A gateway and what only it needs; what it shares with a bridge runs there."""

    def __init__(
        self,
        server: GatewayServer,
        behind: Sequence[Running] = (),
        cache: PhraseCache | None = None,
    ) -> None:
        self.server = server
        self._behind, self._cache = behind, cache

    async def run(self) -> None:
        """Serve until cancelled; what works behind ends after the last sound has gone out."""
        async with contextlib.AsyncExitStack() as resources:
            if self._cache is not None:
                await self._cache.open()
                resources.push_async_callback(self._cache.close)
            async with asyncio.TaskGroup() as tasks:
                behind = [
                    tasks.create_task(each.run(), name=f"gateway {type(each).__name__}")
                    for each in self._behind
                ]
                try:
                    await self.server.run()
                finally:
                    for task in behind:
                        task.cancel()


def shared_gateway(settings: Settings, upstream: Upstream | None) -> GatewayService | None:
    """The gateway of a bridge, in front of the service with the bridge's own parts; None if off."""
    if not settings.gateway.enabled:
        return None
    if settings.gateway.engine == "local":
        return GatewayService(parts.gateway_server(settings))
    parts.check_upstream(settings)
    assert upstream is not None, "checked before"
    engine = parts.upstream_engine(settings, upstream.client, upstream.cache, upstream.flights)
    return GatewayService(parts.gateway_server(settings, engine=engine), [engine])


def lone_gateway(
    settings: Settings, host: str | None = None, port: int | None = None
) -> GatewayService:
    """The gateway of `kugel-bridge gateway`, with a cache of its own; `host` and `port` win."""
    if settings.gateway.engine == "local":
        return GatewayService(parts.gateway_server(settings, host, port))
    parts.check_upstream(settings, host, port)
    client, cache, flights = parts.cloud_client(settings), parts.phrase_cache(settings), Flights()
    assert client is not None, "checked before"
    engine = parts.upstream_engine(settings, client, cache, flights)
    behind: list[Running] = [flights, client, engine]
    if cache is not None:
        behind.append(cache)
    return GatewayService(parts.gateway_server(settings, host, port, engine), behind, cache)
