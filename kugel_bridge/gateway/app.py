"""Everything the gateway serves, as one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from kugel_bridge.gateway.access import Access
from kugel_bridge.gateway.gate import Gate, deny, refusal_response
from kugel_bridge.gateway.rest import Rest
from kugel_bridge.gateway.sockets import PATHS, Sockets
from kugel_bridge.kugelaudio.codes import (
    GENERATION_FAILED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    Refusal,
)


def application(access: Access, rest: Rest, sockets: Sockets) -> ASGIApp:
    """The application; what it does not know answers 404 in the API's shape."""
    app = Starlette(
        routes=[
            *rest.routes(),
            *[WebSocketRoute(path, sockets.endpoint) for path in PATHS],
            WebSocketRoute("/{path:path}", _no_such_socket),
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    return Gate(app, access)


async def _no_such_socket(websocket: WebSocket) -> None:
    await deny(websocket, NOT_FOUND)


async def _refused(request: Request, error: Exception) -> Response:
    known = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}
    assert isinstance(error, HTTPException)
    return refusal_response(
        known.get(error.status_code) or Refusal(error.status_code, None, error.detail)
    )


async def _failed(request: Request, error: Exception) -> Response:
    return refusal_response(GENERATION_FAILED)
