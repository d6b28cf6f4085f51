"""Paths of the API that this server answers without doing anything.

Source: API reference, "Present, out of scope" and "Telemetry".
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from kugel_bridge.gateway.body import body_of
from kugel_bridge.gateway.gate import refusal_response
from kugel_bridge.kugelaudio.codes import Refusal

NO_VOICE_MANAGEMENT = Refusal(501, "VALIDATION_ERROR", "Voice management is not available")
NO_DICTIONARIES = Refusal(503, "INTERNAL_ERROR", "dictionary management unavailable")

_VOICE_MANAGEMENT = (
    ("/v1/voices", ["POST"]),
    ("/v1/voices/{ident}", ["PATCH", "DELETE"]),
    ("/v1/voices/{ident}/references", ["GET", "POST"]),
    ("/v1/voices/{ident}/references/{reference}", ["DELETE"]),
    ("/v1/voices/{ident}/publish", ["POST"]),
    ("/v1/voices/{ident}/generate-sample", ["POST"]),
)
_DICTIONARIES = (
    ("/v1/dictionaries", ["GET", "POST"]),
    ("/v1/dictionaries/{ident}", ["GET", "PATCH", "DELETE"]),
    ("/v1/dictionaries/{ident}/entries", ["GET", "POST", "PUT"]),
    ("/v1/dictionaries/{ident}/entries/{entry}", ["PATCH", "DELETE"]),
)


def routes() -> list[Route]:
    """All of them."""
    return [
        *[Route(path, _no_voice_management, methods=how) for path, how in _VOICE_MANAGEMENT],
        *[Route(path, _no_dictionaries, methods=how) for path, how in _DICTIONARIES],
        Route("/v1/sdk-diagnostics", _discard, methods=["POST"]),
    ]


async def _no_voice_management(request: Request) -> Response:
    return refusal_response(NO_VOICE_MANAGEMENT)


async def _no_dictionaries(request: Request) -> Response:
    return refusal_response(NO_DICTIONARIES)


async def _discard(request: Request) -> Response:
    """Take an SDK's telemetry, so that it is content, and keep nothing of it."""
    try:
        body = await body_of(request)
    except ClientDisconnect:
        return Response(status_code=204)
    return refusal_response(body) if isinstance(body, Refusal) else Response(status_code=204)
