"""The door of the gateway: names every request, checks its key, and keeps the key out of logs."""

from __future__ import annotations

import math
import re
import urllib.parse
import uuid
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from kugel_bridge.gateway.access import Access
from kugel_bridge.gateway.chain import MARK
from kugel_bridge.gateway.metrics import Metrics
from kugel_bridge.kugelaudio.codes import Refusal

REQUEST_ID = "x-request-id"
_OPEN_PATHS = frozenset({"/", "/health", "/ready"})
_SWITCHED = 101
_ABSOLUTE = re.compile(r"(?:http|ws)s?://(?P<host>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


class Gate:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        _to_origin_form(scope)
        connection = HTTPConnection(scope)
        key = _presented_key(connection)
        _hide_key(scope, connection)
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] in (
                "http.response.start",
                "websocket.accept",
                "websocket.http.response.start",
            ):
                MutableHeaders(scope=message).update(headers_for(request_id))
                self._metrics.answered(scope["path"], message.get("status", _SWITCHED))
            await send(message)

        account: str | Refusal = ""
        if scope["path"] not in _OPEN_PATHS:
            account = self._access.account(
                key,
                host=connection.headers.get("host"),
                origin=connection.headers.get("origin"),
            )
        if isinstance(account, str):
            scope["state"]["account"] = account
            await self._app(scope, receive, send_named)
        elif scope["type"] == "http":
            await refusal_response(account)(scope, receive, send_named)
        else:
            await deny(WebSocket(scope, receive, send_named), account)


def new_request_id() -> str:
    """Names one request, for its answer and the log."""
    return f"req_{uuid.uuid4().hex}"


def headers_for(request_id: str) -> dict[str, str]:
    """What every answer of a gateway has."""
    return {REQUEST_ID: request_id, MARK: "gateway"}


def refusal_response(refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in the API's shape, with further headers."""
    given = dict(headers or {})
    if refusal.retry_after_s is not None:
        # Up, never down: whoever came back a moment early would be refused again.
        given["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    return JSONResponse(refusal.to_fields(), status_code=refusal.status or 500, headers=given)


async def deny(
    websocket: WebSocket, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> None:
    """Answer an upgrade with an HTTP error, with further headers."""
    await websocket.receive()
    await websocket.send_denial_response(refusal_response(refusal, headers))


def _to_origin_form(scope: Scope) -> None:
    """Make of `http://host/path` a path and a Host, which it stands for (RFC 9112, 3.2.2)."""
    found = _ABSOLUTE.fullmatch(scope["path"])
    if found is None:
        return
    scope["path"] = found["path"] or "/"
    scope["raw_path"] = b"/" + b"/".join(scope["raw_path"].split(b"/")[3:])
    others = [header for header in scope["headers"] if header[0] != b"host"]
    scope["headers"] = [(b"host", found["host"].encode("latin-1", "replace")), *others]


def _presented_key(connection: HTTPConnection) -> str | None:
    headers = connection.headers
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if (key := headers.get("x-api-key")) or connection.scope["type"] != "websocket":
        return key
    # Only who cannot set headers needs the address for it, where others may read it.
    return connection.query_params.get("api_key")


def _hide_key(scope: Scope, connection: HTTPConnection) -> None:
    # The server logs from this very scope, at levels that we do not control.
    if "api_key" in connection.query_params:
        kept = [item for item in connection.query_params.multi_items() if item[0] != "api_key"]
        scope["query_string"] = urllib.parse.urlencode(kept).encode("ascii")
