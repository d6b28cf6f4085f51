"""GET /v1/usage and /v1/usage/history: what the asking key has used.

The API names these paths without their shapes. Ours: the envelope of the API's overview around the
fields of a `usage` object, for the current calendar month, and the same for each day that had any.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kugel_bridge.gateway.gate import refusal_response
from kugel_bridge.gateway.paging import page_of
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.catalogue import AccountUsage
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.queue.usage import DayUsage

_CURRENCY = "eur"


class Account:
    """Answers from the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def routes(self) -> list[Route]:
        """What it serves."""
        return [
            Route("/v1/usage", self._month),
            Route("/v1/usage/history", self._history),
        ]

    async def _month(self, request: Request) -> Response:
        first = self._ledger.today().replace(day=1)
        after = (first + datetime.timedelta(days=31)).replace(day=1)
        days = self._ledger.days(request.state.account)
        fitting = (day for day in days if first <= day.day < after)
        return _enveloped(request, _period(fitting, first, after).to_fields())

    async def _history(self, request: Request) -> Response:
        page = page_of(request.query_params)
        if isinstance(page, Refusal):
            return refusal_response(page)
        days = self._ledger.days(request.state.account)
        items = [
            _period([day], day.day, day.day + datetime.timedelta(days=1)).to_fields()
            for day in days[page.offset : page.offset + page.limit]
        ]
        fields = {"items": items, "total": len(days), "limit": page.limit, "offset": page.offset}
        return _enveloped(request, fields)


def _period(days: Iterable[DayUsage], first: datetime.date, after: datetime.date) -> AccountUsage:
    total = sum((replace(day, day=first) for day in days), DayUsage(day=first))
    return AccountUsage(
        period_start=_midnight(first),
        period_end=_midnight(after),
        requests=total.requests,
        audio_s=round(total.audio_s, 3),
        characters=total.characters,
        cost_cents=round(total.cost_cents, 6),
        currency=_CURRENCY,
    )


def _midnight(day: datetime.date) -> str:
    """Local midnight with its own distance from UTC, which changes with the seasons."""
    return datetime.datetime.combine(day, datetime.time()).astimezone().isoformat()


def _enveloped(request: Request, data: dict[str, object]) -> Response:
    meta = {"request_id": request.state.request_id}
    return JSONResponse({"data": data, "meta": meta}, headers={"Cache-Control": "no-store"})
