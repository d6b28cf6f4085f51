"""Gateways that ask each other, each with all that works behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from kugel_bridge.app.gateway import lone_gateway
from kugel_bridge.settings.tree import Settings
from tests.broker import free_port
from tests.gateway_server import WAIT_S


def url_of(port: int) -> str:
    """Where a gateway listens."""
    return f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def gateway_at(
    port: int, upstream: str, folder: Path, *, fallback: bool = True
) -> AsyncIterator[None]:
    """A gateway on that port that asks `upstream`, until the block ends."""
    files = {"usage_path": str(folder / f"{port}.db")}
    settings = Settings.model_validate(
        {
            "cloud": {"base_url": upstream, "voice_id": 1},
            "cache": {"max_mb": 0},
            "gateway": {"engine": "upstream", "fallback": fallback, **files},
        }
    )
    service = lone_gateway(settings, port=port)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(service.run())
        async with asyncio.timeout(WAIT_S):
            await service.server.up()
        try:
            yield
        finally:
            running.cancel()


@contextlib.asynccontextmanager
async def circle(count: int, folder: Path, **options: Any) -> AsyncIterator[Sequence[str]]:
    """So many gateways, each asking the next one and the last one the first; their addresses."""
    ports = [free_port() for _ in range(count)]
    async with contextlib.AsyncExitStack() as gateways:
        for number, port in enumerate(ports):
            behind = url_of(ports[(number + 1) % count])
            await gateways.enter_async_context(gateway_at(port, behind, folder, **options))
        yield [url_of(port) for port in ports]
