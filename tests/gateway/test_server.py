from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kugel_bridge.gateway import listener
from kugel_bridge.gateway.limits import Allowance, KeyLimits, NoLimits
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.model.clock import SystemClock
from kugel_bridge.model.errors import ConfigurationError
from tests.gateway.attack import GENERATE, POST
from tests.gateway.raw import CLOSE, raw
from tests.gateway.test_usage import rows
from tests.gateway.wire import REQUEST
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving


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


@pytest.mark.parametrize("attempt", range(3))
async def test_what_was_sent_when_the_server_ends_is_on_record_and_no_error(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    attempt: int,
) -> None:
    # Nobody has to be waited for: what is cut off ends by itself.
    monkeypatch.setattr(listener, "LAST_WORDS_S", 10 * WAIT_S)
    clock, path = SystemClock(), tmp_path / "usage.db"
    ledger = Ledger(path, clock)
    limits = KeyLimits(Allowance(1000, 20, 200), clock, ledger)
    engine = ScriptedEngine([hum(1.0), hum(1.0)], hold=asyncio.Event())
    async with asyncio.timeout(WAIT_S), AsyncExitStack() as clients:
        async with serving(engine, limits=limits, ledger=ledger, grace_s=0.05) as server:
            for _ in range(2):
                client = await clients.enter_async_context(raw(server))
                await client.send((POST % len(GENERATE)) + GENERATE)
                assert b" 200 " in await client.head()
            talk = await clients.enter_async_context(raw(server))
            await talk.upgrade()
            await talk.say(REQUEST)
            assert "audio" in await talk.receive()
        assert [row[2] for row in rows(path)] == [3]
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_speech_under_way_may_end_within_the_grace_whichever_way_it_goes_out() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    assert engine.hold is not None
    server = GatewayServer(
        host="127.0.0.1", port=0, keys=[], engine=engine, grace_s=WAIT_S, limits=NoLimits()
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        await server.up()
        async with raw(server) as client, raw(server) as talk:
            await client.send((POST % len(GENERATE)) + GENERATE)
            assert b" 200 " in await client.head()
            await talk.upgrade()
            await talk.say(REQUEST)
            assert "audio" in await talk.receive()
            running.cancel()
            await asyncio.sleep(0)
            engine.hold.set()
            assert (await client.rest()).endswith(b"0\r\n\r\n")
            while "final" not in await talk.receive():
                pass
            assert await talk.frame() == (CLOSE, (1012).to_bytes(2, "big"))
