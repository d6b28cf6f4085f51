from __future__ import annotations

import datetime
from typing import Any

import pytest

from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.messages import Usage
from kugel_bridge.kugelaudio.rest import Catalogue
from tests.clock import ManualClock
from tests.gateway.test_rest import asking
from tests.gateway_server import WAIT_S, ScriptedEngine, serving

DAY_S = 86_400
NOON = datetime.datetime.fromisoformat("2026-03-30T12:00").timestamp()
"""Local time, two days before the end of a month."""


async def used() -> tuple[Ledger, ManualClock]:
    """A request on each of 4 days; the last two are in April."""
    clock = ManualClock(wall_s=NOON)
    ledger = Ledger(None, clock)
    for characters in (1, 2, 4, 8):
        await ledger.add("open", Usage(audio_s=0.1, characters=characters, cost_cents=0.1))
        clock.advance(DAY_S)
    await ledger.add("another", Usage(audio_s=9.0, characters=900))
    return ledger, clock


async def get(path: str) -> Any:
    ledger, _ = await used()
    async with serving(ScriptedEngine(), ledger=ledger) as server, asking(server) as client:
        return await client.get(path)


def local(text: str) -> str:
    return datetime.datetime.fromisoformat(text).astimezone().isoformat()


async def test_usage_is_that_of_the_asking_key_in_this_month() -> None:
    answer = await get("/v1/usage")
    assert answer.json() == {
        "data": {
            "period_start": local("2026-04-01"),
            "period_end": local("2026-05-01"),
            "requests": 2,
            "audio_seconds": 0.2,
            "characters": 12,
            "cost_cents": 0.2,
            "currency": "eur",
        },
        "meta": {"request_id": answer.headers["x-request-id"]},
    }


async def test_history_has_a_page_of_days_newest_first() -> None:
    data = (await get("/v1/usage/history?limit=2&offset=1")).json()["data"]
    assert (data["total"], data["limit"], data["offset"]) == (4, 2, 1)
    assert [item["characters"] for item in data["items"]] == [4, 2]
    assert data["items"][0]["period_start"] == local("2026-04-01")
    assert data["items"][0]["period_end"] == local("2026-04-02")


async def test_who_used_nothing_has_zeros() -> None:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        month = (await client.get("/v1/usage")).json()["data"]
        days = (await client.get("/v1/usage/history")).json()["data"]
    assert (month["requests"], month["audio_seconds"], month["characters"]) == (0, 0, 0)
    assert days == {"items": [], "total": 0, "limit": 20, "offset": 0}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "limit=many"])
async def test_a_nonsensical_page_is_refused(query: str) -> None:
    assert (await get(f"/v1/usage/history?{query}")).status_code == 400


async def test_our_own_client_reads_it() -> None:
    ledger, _ = await used()
    async with serving(ScriptedEngine(), ledger=ledger) as server:
        usage = await Catalogue(server.url, "", WAIT_S).usage()
    assert (usage.requests, usage.characters, usage.audio_s) == (2, 12, 0.2)
