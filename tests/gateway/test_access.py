from __future__ import annotations

import hashlib
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from kugel_bridge.gateway.access import Access, KeyRing
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.codes import FORBIDDEN
from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.model.errors import ConfigurationError
from tests.gateway.test_rest import asking
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import ScriptedEngine, serving

KEY = "ka_very-secret"
HASHED = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()


@given(st.text(), st.lists(st.text(min_size=1).filter(lambda k: k.strip() != "")))
def test_only_configured_keys_are_accepted(presented: str, keys: list[str]) -> None:
    keys = [key for key in keys if not key.startswith("sha256:") and key.isascii()]
    assert (KeyRing(keys).account(presented) is not None) == (presented in keys)


def test_a_hashed_key_is_accepted_in_plain_and_not_as_its_hash() -> None:
    ring = KeyRing(["other", HASHED])
    assert ring.account(KEY) == HASHED[7:19]
    assert ring.account(HASHED) is None


@pytest.mark.parametrize("key", ["", " ", "sha256:", "sha256:abc", "sha256:" + "z" * 64])
def test_a_malformed_key_is_named_by_its_place_only(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.keys\[1\]"):
        KeyRing(["fine", key])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_without_keys_others_are_not_let_in(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.keys"):
        GatewayServer(host=host, port=0, keys=[], engine=ScriptedEngine())
    GatewayServer(host=host, port=0, keys=[KEY], engine=ScriptedEngine())


@pytest.mark.parametrize(
    ("host", "mine"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("a.b", False)],
)
def test_loopback_is_recognised(host: str, mine: bool) -> None:
    assert is_loopback(host) is mine


@pytest.mark.parametrize(
    ("host", "origin", "refused"),
    [
        ("127.0.0.1:8780", None, False),
        ("[::1]:8780", None, False),
        ("localhost", "http://localhost:3000", False),
        ("evil.example:8780", None, True),
        ("127.0.0.1:8780", "https://evil.example", True),
        ("127.0.0.1:8780", "null", True),
        ("[", None, True),
    ],
)
def test_without_keys_web_pages_from_elsewhere_are_refused(
    host: str, origin: str | None, refused: bool
) -> None:
    answer = Access(KeyRing([])).account(None, host=host, origin=origin)
    assert answer == (FORBIDDEN if refused else "open")


@pytest.mark.parametrize(
    ("host", "origin", "refused"),
    [
        ("192.168.1.5:8780", None, False),
        ("[fd00::5]:8780", None, False),
        ("kitchen:8780", None, False),
        ("kitchen.local", None, False),
        ("127.0.0.1:8780", None, False),
        ("192.168.1.5:8780", "http://192.168.1.5:8780", False),
        ("192.168.1.5:8780", "http://localhost:3000", False),
        ("192.168.1.5:8780", "https://evil.example", True),
        ("192.168.1.5:8780", "null", True),
        # A name that its owner lets point at an address in the house.
        ("evil.example:8780", "http://evil.example:8780", True),
        ("evil.example:8780", None, True),
        ("evil-local", "http://evil.example", True),
        ("", None, True),
    ],
)
def test_open_to_all_means_the_house_and_not_every_web_page(
    host: str, origin: str | None, refused: bool
) -> None:
    answer = Access(KeyRing([]), open_to_all=True).account(None, host=host, origin=origin)
    assert answer == (FORBIDDEN if refused else "open")


async def test_open_to_all_is_let_in_without_a_key_and_warned_of_at_every_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        serving(ScriptedEngine(), host="0.0.0.0", open_to_all=True) as server,
        asking(server) as client,
    ):
        url = f"http://127.0.0.1:{server.port}/v1/models"
        assert (await client.get(url, headers={"Host": "10.0.0.9:8780"})).status_code == 200
        assert (await client.get(url, headers={"Host": "evil.example"})).status_code == 403
    assert "gateway.open_to_all" in caplog.text


async def test_open_to_all_opens_nothing_where_there_are_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        serving(ScriptedEngine(), keys=[KEY], open_to_all=True) as server,
        asking(server) as client,
    ):
        assert (await client.get("/v1/models")).status_code == 401
    assert "open_to_all" not in caplog.text


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/", True),
        ("/health", True),
        ("/ready", True),
        ("/metrics", False),
        ("/openapi.json", False),
        ("/v1/usage", False),
        ("/v1/usage/history", False),
        ("/v1/voices", False),
        ("/nothing", False),
    ],
)
async def test_only_what_tells_nothing_is_open_where_there_are_keys(
    path: str, is_open: bool
) -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server, asking(server) as client:
        assert (await client.get(path)).status_code == (200 if is_open else 401)


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}],
)
async def test_a_key_in_either_header_opens_rest(headers: dict[str, str]) -> None:
    async with serving(ScriptedEngine(), keys=[HASHED]) as server, asking(server) as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nope"}, {"x-api-key": "nö"}])
async def test_rest_without_the_key_is_401_in_the_shape_of_the_api(
    headers: dict[str, str],
) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    async with serving(ScriptedEngine(), keys=[KEY]) as server, asking(server) as client:
        answer = await client.get("/v1/models", headers=encoded)
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/nothing", headers=encoded)).status_code == 401
    assert answer.status_code == 401
    assert answer.json() == {"error": "Unauthorized", "error_code": "UNAUTHORIZED", "code": 401}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/ws/tts", "/ws/tts?api_key=nope", "/ws/nothing"])
async def test_an_upgrade_without_the_key_is_401_with_a_request_id(path: str) -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        with pytest.raises(InvalidStatus) as caught:
            async with wire(server, path):
                pass
    response = caught.value.response
    assert response.status_code == 401
    assert b'"UNAUTHORIZED"' in (response.body or b"")
    assert response.headers["x-request-id"]


async def test_an_upgrade_takes_the_key_from_query_or_header() -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        async with wire(server, f"/ws/tts?api_key={KEY}&sdk=python") as socket:
            await socket.send(REQUEST)
            await socket.until_end()
        async with wire(server, Authorization=f"Bearer {KEY}") as socket:
            await socket.send(REQUEST)
            await socket.until_end()


async def test_an_unknown_socket_is_404() -> None:
    async with serving(ScriptedEngine()) as server:
        with pytest.raises(InvalidStatus) as caught:
            async with wire(server, "/ws/nothing"):
                pass
    assert caught.value.response.status_code == 404
    assert b"NOT_FOUND" in (caught.value.response.body or b"")


async def test_the_key_is_in_no_log_even_where_uvicorn_prints_request_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        caplog.set_level(logging.DEBUG)
        for name in ("uvicorn.error", "uvicorn.access"):
            caplog.set_level(logging.INFO, name)
        logging.getLogger("websockets.client").setLevel(logging.CRITICAL)
        try:
            async with wire(server, f"/ws/tts?api_key={KEY}&model_id=kugel-3") as socket:
                await socket.send(REQUEST)
                await socket.until_end()
        finally:
            logging.getLogger("websockets.client").setLevel(logging.NOTSET)
    assert "/ws/tts?model_id=kugel-3" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "nope"}])
async def test_rest_takes_no_key_from_an_address(headers: dict[str, str]) -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server, asking(server) as client:
        answer = await client.get("/v1/models", params={"api_key": KEY}, headers=headers)
    assert answer.status_code == 401


def test_a_key_that_no_client_can_send_is_refused_unseen() -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.keys\[1\] has characters") as caught:
        KeyRing(["fine", "schlüssel"])
    assert "schl" not in str(caught.value)
