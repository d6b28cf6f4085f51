"""Faults on order: of HTTP answers, how often they act, and the desk that takes them."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from kugel_bridge.gateway.faults import MAX_ORDERS
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.model.errors import (
    ConfigurationError,
)
from tests.gateway.misbehaving import SHORT_S, faulty, is_silent
from tests.gateway.raw import raw
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, serving

# --- the wire: HTTP -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "raised"),
    [
        ("do=eof", httpx.RemoteProtocolError),
        ("after=10b do=eof", httpx.RemoteProtocolError),
        ("do=reset", httpx.ReadError),
        ("at=door do=eof", httpx.RemoteProtocolError),
        ("at=door do=reset", httpx.ReadError),
        ("at=door do=stall", httpx.ReadTimeout),
        ("do=stall", httpx.ReadTimeout),
        ("do=drip rate=1", httpx.ReadTimeout),
    ],
)
async def test_an_answer_breaks_off(order: str, raised: type[Exception]) -> None:
    async with (
        faulty(f"on=/v1/models {order} times=1") as server,
        httpx.AsyncClient(base_url=server.url, timeout=SHORT_S, trust_env=False) as client,
    ):
        with pytest.raises(raised):
            await client.get("/v1/models")
        assert (await client.get("/v1/models")).status_code == 200


async def test_an_answer_has_no_body_or_too_much_of_it() -> None:
    async with (
        faulty("on=/v1/models do=silence", "on=/health do=flood seconds=1") as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        assert (await client.get("/v1/models")).content == b""
        assert len((await client.get("/health")).content) > 40_000


# --- which one, and how often ---------------------------------------------------------


async def test_some_are_skipped_some_fail_and_the_rest_is_healthy() -> None:
    async with faulty("on=/ws/tts skip=1 times=2 do=error") as server, wire(server) as client:
        ends = []
        for _ in range(5):
            await client.send(REQUEST)
            ends.append("error" in (await client.until_end())[-1])
    assert ends == [False, True, True, False, False]


async def test_other_paths_are_left_alone() -> None:
    async with (
        faulty("on=/v1/* do=refuse", "on=/ws/other do=error") as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
        wire(server) as socket,
    ):
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 503
        await socket.send(REQUEST)
        assert "final" in (await socket.until_end())[-1]


async def test_a_gateway_ends_in_time_though_a_fault_holds_a_socket() -> None:
    async with asyncio.timeout(WAIT_S / 2):
        async with faulty("do=stall", grace_s=0.1) as server, raw(server) as client:
            await client.upgrade()
            await client.say(REQUEST)
            assert await is_silent(client)


# --- the desk -------------------------------------------------------------------------


async def test_orders_are_given_listed_and_taken_back() -> None:
    async with (
        faulty("on=/v1/models do=refuse") as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        await client.get("/v1/models")
        made = await client.post("/faults", json={"order": "on=/health do=refuse status=404"})
        assert (made.status_code, made.json()["id"]) == (201, 2)
        other = await client.post("/faults", json={"on": "/ws/tts", "do": "reset", "after": 3})
        assert other.json()["order"] == "on=/ws/tts do=reset after=3"
        assert (await client.get("/health")).status_code == 404
        listed = (await client.get("/faults")).json()["faults"]
        assert [(each["id"], each["occasions"], each["done"]) for each in listed] == [
            (1, 1, 1),
            (2, 1, 1),
            (3, 0, 0),
        ]
        assert (await client.delete("/faults/2")).json() == {"removed": 1}
        assert (await client.get("/health")).status_code == 200
        assert (await client.delete("/faults")).json() == {"removed": 2}
        assert (await client.get("/faults")).json() == {"faults": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/faults", b"not JSON", 400),
        ("POST", "/faults", b'{"order": "do=nothing"}', 400),
        ("POST", "/faults", b'{"do": ["reset"]}', 400),
        ("POST", "/faults", b'{"do": true}', 400),
        ("POST", "/faults", b"x" * 100_000, 400),
        ("PUT", "/faults", b"", 405),
        ("GET", "/faults/1", b"", 405),
        ("DELETE", "/faults/7", b"", 404),
        ("DELETE", "/faults/x", b"", 404),
    ],
)
async def test_a_wrong_order_is_refused_with_words(
    method: str, path: str, body: bytes, status: int
) -> None:
    async with (
        faulty() as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        answer = await client.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"order": 5}, "fault order: must be a text"),
        ({"order": "do=reset", "on": "/ws/tts"}, "fault on: stands beside order"),
    ],
)
async def test_an_order_as_one_text_stands_alone(body: dict[str, object], said: str) -> None:
    async with (
        faulty() as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        answer = await client.post("/faults", json=body)
    assert (answer.status_code, answer.json()["error"].startswith(said)) == (400, True)


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/faults", "DELETE, GET, OPTIONS, POST"), ("/faults/1", "DELETE, OPTIONS")],
)
async def test_the_desk_tells_its_methods(path: str, methods: str) -> None:
    async with (
        faulty() as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        for method, status in (("OPTIONS", 204), ("PUT", 405)):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["Allow"]) == (status, methods)


@pytest.mark.parametrize("target", [b"*", b"faults", b"/faultsx"])
async def test_what_is_beside_the_desk_is_not_found(target: bytes) -> None:
    async with faulty() as server, raw(server) as client:
        await client.send(b"OPTIONS %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
        assert b" 404 " in await client.head()


async def test_orders_are_bounded() -> None:
    async with (
        faulty(*["do=refuse times=1 skip=1000"] * MAX_ORDERS) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        answer = await client.post("/faults", json={"do": "reset"})
    assert answer.status_code == 400
    assert str(MAX_ORDERS) in answer.json()["error"]


async def test_the_desk_needs_the_key_and_is_not_there_unless_switched_on() -> None:
    async with (
        faulty(keys=["ka_1"]) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        assert (await client.get("/faults")).status_code == 401
        assert (await client.get("/faults", headers={"X-API-Key": "ka_1"})).status_code == 200
    async with (
        serving(ScriptedEngine()) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        assert (await client.post("/faults", json={"do": "reset"})).status_code == 404


def test_others_cannot_order_faults() -> None:
    with pytest.raises(ConfigurationError, match="this machine only"):
        GatewayServer(host="0.0.0.0", port=0, keys=["ka_1"], engine=ScriptedEngine(), faults=[])
