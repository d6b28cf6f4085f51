from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from kugel_bridge.gateway.server import GatewayServer
from tests.gateway_server import ScriptedEngine, serving


def asking(server: GatewayServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False)


async def get(path: str, **headers: str) -> httpx.Response:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        return await client.get(path, headers=headers)


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
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=" + "9" * 99, "offset=-1", "include_public=x"],
)
async def test_a_nonsensical_page_is_refused(query: str) -> None:
    answer = await get(f"/v1/voices?{query}")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("ident", ["2", "bert"])
async def test_one_voice_is_shown_by_number_or_handle(ident: str) -> None:
    answer = (await get(f"/v1/voices/{ident}")).json()
    assert (answer["id"], answer["generative_voice_description"]) == (2, "")


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


async def test_health_and_the_front_page() -> None:
    assert (await get("/health")).json() == {"status": "healthy"}
    assert "KugelAudio API" in (await get("/")).text


@pytest.mark.parametrize(
    "path", ["/v1/voices/77", "/v1/voices/nobody", "/v1/dictionaries", "/nothing", "/ws/tts"]
)
async def test_what_is_not_there_is_404_in_the_shape_of_the_api(path: str) -> None:
    answer = await get(path)
    assert answer.status_code == 404
    fields: dict[str, Any] = answer.json()
    assert (fields["error_code"], fields["code"]) == ("NOT_FOUND", 404)
    assert answer.headers["x-request-id"]


async def test_a_wrong_method_is_405() -> None:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        answer = await client.post("/v1/voices", json={})
    assert answer.status_code == 405
    assert answer.json()["error_code"] == "VALIDATION_ERROR"


async def test_a_broken_request_does_not_harm_the_server() -> None:
    async with serving(ScriptedEngine()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x00\xff\xff nonsense\r\n\r\n")
        await writer.drain()
        assert b"400" in await reader.readline()
        writer.close()
        async with asking(server) as client:
            assert (await client.get("/health")).status_code == 200
