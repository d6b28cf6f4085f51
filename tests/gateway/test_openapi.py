from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import pytest
from starlette.routing import Route

from kugel_bridge.gateway import absent, openapi
from kugel_bridge.gateway.account import Account
from kugel_bridge.gateway.app import METERED_PATHS, SYNTHESIS_PATHS
from kugel_bridge.gateway.chain import Chain
from kugel_bridge.gateway.metrics import Metrics
from kugel_bridge.gateway.rest import Rest
from kugel_bridge.gateway.synthesis import FIELDS
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.catalogue import Model
from tests.clock import ManualClock
from tests.gateway.test_rest import asking
from tests.gateway_server import ScriptedEngine, hum, serving

MODEL = Model("kugel-3.5", "Kugel 3.5", max_input_characters=200)
EXAMPLES = 10
"""For each operation: enough for every field to be wrong in some way, and a matter of seconds."""


def routes() -> list[Route]:
    """Every route that is not a socket or a part of what is absent."""
    rest = Rest(ScriptedEngine(), (MODEL,), Metrics([]), Chain())
    return [*rest.routes(), *Account(Ledger(None, ManualClock())).routes()]


def test_every_path_that_is_served_is_in_the_document() -> None:
    paths = set(openapi.document(MODEL)["paths"])
    served = {route.path.replace("{ident}", "{id}") for route in routes()} | set(SYNTHESIS_PATHS)
    assert served <= paths
    known = {route.path.replace("{ident}", "{id}") for route in absent.routes()}
    assert paths - served <= known
    assert {path for path in METERED_PATHS if not path.startswith("/ws")} <= paths


def test_the_fields_of_a_request_are_those_that_are_taken() -> None:
    schema = openapi.document(MODEL)["components"]["schemas"]["Speech"]
    assert set(schema["properties"]) == FIELDS
    assert schema["properties"]["text"]["maxLength"] == 200


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document(MODEL)
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/')[1:]}:
        found = document
        for name in reference.split("/"):
            found = found[name]


async def test_the_document_is_served() -> None:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"


@pytest.mark.parametrize(("keys", "may_have_none"), [([], True), (["a-key"], False)])
async def test_a_key_may_be_left_out_where_there_is_none(
    keys: list[str], may_have_none: bool
) -> None:
    async with serving(ScriptedEngine(), keys=keys) as server, asking(server) as client:
        answer = await client.get("/openapi.json", headers={"X-API-Key": "a-key"})
    assert ({} in answer.json()["security"]) is may_have_none


CONFIGURATION = """
[checks]
negative_data_rejection.expected-statuses = ["4xx", "501", "503"]
[[operations]]
include-path-regex = "^/v1/(dictionaries|voices/.*/|voices$)"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "503"]
[[operations]]
include-path = "/v1/voices/{id}"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""
"""A text that is too long is 413 here; what is not available is 501 or 503, as documented."""


@pytest.mark.timeout(180)
async def test_the_server_keeps_to_its_document(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    engine = ScriptedEngine([hum(0.05)])
    async with serving(engine, max_characters=200, keys=["a-key"]) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
            *("--header", "Authorization: Bearer a-key", "--checks", "all"),
            # The first is /v1/tts/generate again, the others always say that they are not there.
            *("--exclude-path-regex", "^/predict|dictionaries|voices/.*/"),
            *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES)),
            *("--generation-deterministic", "--warnings", "off", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == 0, output.decode()
    assert engine.asked
