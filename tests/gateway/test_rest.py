from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from kugel_bridge.gateway import rest
from kugel_bridge.gateway.app import METERED_PATHS
from kugel_bridge.gateway.body import MAX_BODY_BYTES
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.gateway.sockets import PATHS
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.model.errors import ServiceUnavailableError
from tests.gateway_server import VOICES, ScriptedEngine, serving


def asking(server: GatewayServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False)


async def ask(method: str, path: str, **more: Any) -> httpx.Response:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        return await client.request(method, path, **more)


async def get(path: str) -> httpx.Response:
    return await ask("GET", path)


async def test_voices_are_listed_in_the_shape_of_the_api() -> None:
    answer = (await get("/v1/voices")).json()
    assert (answer["total"], answer["limit"], answer["offset"]) == (3, 20, 0)
    assert answer["voices"][0] == {
        "id": 1,
        "voice_id": 1,
        "handle": "anna",
        "public_id": None,
        "name": "Anna",
        "description": None,
        "category": None,
        "sex": "female",
        "age": "middle_age",
        "quality": "mid",
        "supported_languages": ["en", "de"],
        "sample_text": None,
        "sample_url": None,
        "avatar_url": None,
        "is_public": True,
        "verified": False,
    }


@pytest.mark.parametrize(
    ("query", "names", "total"),
    [
        ("limit=2", ["Anna", "Bert"], 3),
        ("limit=2&offset=2", ["Cleo"], 3),
        ("offset=99", [], 3),
        ("language=de", ["Anna", "Bert"], 2),
        ("language=DE", ["Anna", "Bert"], 2),
        ("language=de-DE", ["Anna", "Bert"], 2),
        ("language=fr_CA", ["Cleo"], 1),
        ("language=xx", [], 0),
        ("category=premade", ["Bert"], 1),
        ("include_public=false", ["Cleo"], 1),
        ("include_public=true&unknown=1", ["Anna", "Bert", "Cleo"], 3),
    ],
)
async def test_pages_and_filters(query: str, names: list[str], total: int) -> None:
    answer = (await get(f"/v1/voices?{query}")).json()
    assert [voice["name"] for voice in answer["voices"]] == names
    assert answer["total"] == total


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit must be between 1 and 100"),
        ("limit=101", "limit must be between 1 and 100"),
        ("limit=", "limit must be between 1 and 100"),
        ("limit=x", "limit must be between 1 and 100"),
        ("limit=1.0", "limit must be between 1 and 100"),
        ("limit=" + "9" * 99, "limit must be between 1 and 100"),
        ("offset=-1", "offset must be between 0 and 999999999"),
        ("offset=\u0661", "offset must be between 0 and 999999999"),
        ("include_public=x", "include_public must be true or false"),
        ("language=", "language is empty: two or three letters, or none"),
        ("language=-DE", "language is empty: two or three letters, or none"),
    ],
)
async def test_a_nonsensical_page_is_refused_with_the_bounds(query: str, named: str) -> None:
    answer = await get(f"/v1/voices?{query}")
    assert answer.status_code == 400
    assert answer.json() == {
        "error": f"Invalid request: {named}",
        "error_code": "VALIDATION_ERROR",
        "code": 400,
    }


@pytest.mark.parametrize("ident", ["2", "bert"])
async def test_one_voice_is_shown_by_number_or_handle(ident: str) -> None:
    answer = (await get(f"/v1/voices/{ident}")).json()
    assert (answer["id"], answer["generative_voice_description"]) == (2, "")
    assert (answer["description"], answer["sample_text"]) == ("", "")


async def test_the_model_is_listed() -> None:
    assert (await get("/v1/models")).json() == {
        "models": [
            {
                "id": "kugel-3.5",
                "model_id": "kugel-3.5",
                "name": "Kugel 3.5",
                "description": "Most Natural",
                "parameters": None,
                "max_input_length": 10_000,
                "sample_rate": 24_000,
            }
        ]
    }


async def test_health_and_readiness() -> None:
    assert (await get("/health")).json() == {"status": "healthy"}
    assert (await get("/ready")).json()["status"] == "ready"


async def test_the_front_page_names_every_path() -> None:
    page = (await get("/")).text
    assert "KugelAudio API" in page
    named = set(re.findall(r"/[\w./<>-]*", page))
    for path in METERED_PATHS:
        assert path.replace("{id}", "<id>") in named | {"/", "/v1/sdk-diagnostics"}, path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/voices/77",
        "/v1/voices/nobody",
        "/v1/voices/",
        "/v1/models/",
        "/v1/audio/transcriptions",
        "/nothing",
    ],
)
async def test_what_is_not_there_is_404_in_the_shape_of_the_api(path: str) -> None:
    answer = await get(path)
    assert answer.status_code == 404
    fields: dict[str, Any] = answer.json()
    assert (fields["error_code"], fields["code"]) == ("NOT_FOUND", 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/voices"),
        ("PATCH", "/v1/voices/1"),
        ("DELETE", "/v1/voices/1"),
        ("GET", "/v1/voices/1/references"),
        ("POST", "/v1/voices/1/references"),
        ("DELETE", "/v1/voices/1/references/2"),
        ("POST", "/v1/voices/1/publish"),
        ("POST", "/v1/voices/1/generate-sample"),
    ],
)
async def test_voice_management_is_501_as_on_the_hosted_service(method: str, path: str) -> None:
    answer = await ask(method, path)
    assert answer.status_code == 501
    assert answer.json() == {
        "error": "Voice management is not available",
        "error_code": "VALIDATION_ERROR",
        "code": 501,
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/dictionaries?project_id=1"),
        ("POST", "/v1/dictionaries"),
        ("PATCH", "/v1/dictionaries/1"),
        ("PUT", "/v1/dictionaries/1/entries"),
        ("DELETE", "/v1/dictionaries/1/entries/2"),
    ],
)
async def test_dictionaries_are_503_as_on_the_hosted_service(method: str, path: str) -> None:
    answer = await ask(method, path)
    assert (answer.status_code, answer.json()["error_code"]) == (503, "INTERNAL_ERROR")


async def test_telemetry_is_thrown_away_and_bounded() -> None:
    assert (await ask("POST", "/v1/sdk-diagnostics", content=b"{}")).status_code == 204
    too_much = await ask("POST", "/v1/sdk-diagnostics", content=b" " * (MAX_BODY_BYTES + 1))
    assert too_much.status_code == 413


async def test_a_wrong_method_is_405_and_names_the_right_ones() -> None:
    answer = await ask("PUT", "/v1/voices")
    assert answer.status_code == 405
    assert answer.json()["error_code"] == "VALIDATION_ERROR"
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("path", PATHS)
async def test_a_request_where_a_socket_is_tells_that_it_is_one(path: str) -> None:
    answer = await get(path)
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json()["error"].startswith("This is a WebSocket")
    assert (await ask("POST", path)).status_code == 405


async def test_options_tells_the_methods_and_head_is_get_without_its_body() -> None:
    options = await ask("OPTIONS", "/v1/tts/generate")
    assert (options.status_code, options.headers["allow"]) == (204, "OPTIONS, POST")
    head, whole = await ask("HEAD", "/v1/models"), await get("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


class BrokenEngine(ScriptedEngine):
    async def voices(self) -> Any:
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/v1/models", 200),
        ("POST", "/v1/sdk-diagnostics", 204),
        ("POST", "/v1/tts/generate", 400),
        ("GET", "/nothing", 404),
        ("PUT", "/health", 405),
        ("GET", "/v1/voices", 500),
        ("POST", "/v1/voices", 501),
    ],
)
async def test_every_answer_has_a_request_id_of_its_own(
    method: str, path: str, status: int
) -> None:
    async with serving(BrokenEngine()) as server, asking(server) as client:
        answers = [await client.request(method, path) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    names = {answer.headers["x-request-id"] for answer in answers}
    assert len(names) == 2
    assert all(re.fullmatch("req_[0-9a-f]{32}", name) for name in names)


async def test_voices_that_cannot_be_had_are_503() -> None:
    class Unreachable(ScriptedEngine):
        async def voices(self) -> Any:
            raise ServiceUnavailableError("no connection")

    async with serving(Unreachable()) as server, asking(server) as client:
        answer = await client.get("/v1/voices")
    assert (answer.status_code, answer.json()["error_code"]) == (503, "INTERNAL_ERROR")


async def test_a_broken_request_does_not_harm_the_server() -> None:
    async with serving(ScriptedEngine()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x00\xff\xff nonsense\r\n\r\n")
        await writer.drain()
        assert b"400" in await reader.readline()
        writer.close()
        async with asking(server) as client:
            assert (await client.get("/health")).status_code == 200


async def test_voices_are_looked_up_anew_only_when_there_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[Sequence[Voice]] = []

    class Built(VoiceBook):
        def __init__(self, voices: Sequence[Voice]) -> None:
            built.append(voices)
            super().__init__(voices)

    class Others(ScriptedEngine):
        async def voices(self) -> Sequence[Voice]:
            return list(VOICES[:known])

    monkeypatch.setattr(rest, "VoiceBook", Built)
    async with serving(Others()) as server, asking(server) as client:
        built.clear()
        for known in (3, 3, 2, 2):
            assert (await client.get("/v1/voices")).json()["total"] == known
    assert built == [VOICES, VOICES[:2]]
