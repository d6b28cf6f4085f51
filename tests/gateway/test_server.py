from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.model.errors import ConfigurationError
from tests.gateway_server import ScriptedEngine, serving


async def test_a_taken_port_is_a_configuration_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = GatewayServer(
            host="127.0.0.1", port=taken.getsockname()[1], keys=[], engine=ScriptedEngine()
        )
        with pytest.raises(ConfigurationError, match=r"gateway\.port"):
            await server.run()


async def test_the_port_is_free_again_afterwards_and_the_same_server_runs_again() -> None:
    server = GatewayServer(host="127.0.0.1", port=0, keys=[], engine=ScriptedEngine())
    for _ in range(2):
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.run())
            await server.up()
            port = server.port
            running.cancel()
        with pytest.raises(RuntimeError):
            _ = server.port
        with socket.create_server(("127.0.0.1", port)):
            pass


async def test_ipv6_loopback_is_served() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with serving(ScriptedEngine(), host="::1") as server:
        assert server.url.startswith("http://[::1]:")


async def test_a_missing_extra_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("kugel_bridge.gateway.")]:
        if name.rsplit(".", 1)[-1] in ("app", "listener", "rest", "sockets", "gate"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    server = GatewayServer(host="127.0.0.1", port=0, keys=[], engine=ScriptedEngine())
    with pytest.raises(ConfigurationError, match=r"kugel-bridge\[gateway\]"):
        await server.run()
