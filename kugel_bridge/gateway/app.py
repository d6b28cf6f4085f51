"""Everything the gateway serves, as one ASGI application."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from kugel_bridge.gateway import absent
from kugel_bridge.gateway.access import Access
from kugel_bridge.gateway.account import Account
from kugel_bridge.gateway.faults import Faults, FaultyDoor
from kugel_bridge.gateway.gate import Gate, deny, refusal_response
from kugel_bridge.gateway.metrics import Metrics
from kugel_bridge.gateway.rest import Rest
from kugel_bridge.gateway.sockets import PATHS, Sockets
from kugel_bridge.gateway.synthesis import Synthesis
from kugel_bridge.kugelaudio.codes import (
    GENERATION_FAILED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    Refusal,
)

UPGRADE_REQUIRED = Refusal(
    426, "VALIDATION_ERROR", "This is a WebSocket: open it with ws:// and a WebSocket client"
)
SYNTHESIS_PATHS = ("/v1/tts/generate", "/predict")
"""The second one is the API's older name for it."""
METERED_PATHS = (
    "/",
    "/health",
    "/ready",
    "/chain",
    "/metrics",
    "/openapi.json",
    "/v1/voices",
    "/v1/voices/{id}",
    "/v1/models",
    "/v1/usage",
    "/v1/usage/history",
    "/v1/sdk-diagnostics",
    *SYNTHESIS_PATHS,
    *PATHS,
)
"""The paths that figures are kept for; the others are counted together."""


def application(
    access: Access,
    rest: Rest,
    synthesis: Synthesis,
    account: Account,
    sockets: Sockets,
    metrics: Metrics,
    faults: Faults | None = None,
) -> ASGIApp:
    """The application; what it does not know answers 404 in the API's shape.

    With `faults`, even an empty one, it can be told to misbehave.
    """
    app = Starlette(
        routes=[
            *rest.routes(),
            *account.routes(),
            *[Route(path, synthesis, methods=["POST"]) for path in SYNTHESIS_PATHS],
            *absent.routes(),
            *[WebSocketRoute(path, sockets.endpoint) for path in PATHS],
            WebSocketRoute("/{path:path}", _no_such_socket),
            *[Route(path, _no_upgrade, methods=["GET"]) for path in PATHS],
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A redirect would be built from the Host header, which the asker chooses.
    app.router.redirect_slashes = False
    return Gate(app if faults is None else FaultyDoor(app, faults), access, metrics)


async def _no_such_socket(websocket: WebSocket) -> None:
    await deny(websocket, NOT_FOUND)


async def _no_upgrade(request: Request) -> Response:
    return refusal_response(UPGRADE_REQUIRED, {"Upgrade": "websocket", "Connection": "upgrade"})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == METHOD_NOT_ALLOWED.status:
        allowed = {"Allow": ", ".join(_methods(request))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allowed)
        return refusal_response(METHOD_NOT_ALLOWED, allowed)
    if error.status_code == NOT_FOUND.status:
        return refusal_response(NOT_FOUND)
    return refusal_response(Refusal(error.status_code, None, error.detail))


def _methods(request: Request) -> Iterable[str]:
    """All that the path takes: Starlette tells those of the first route only."""
    path = request.url.path
    found = {"OPTIONS"}
    for route in request.app.routes:
        if isinstance(route, Route) and route.path_regex.match(path):
            found |= route.methods or set()
    return sorted(found)


async def _failed(request: Request, error: Exception) -> Response:
    return refusal_response(GENERATION_FAILED)
