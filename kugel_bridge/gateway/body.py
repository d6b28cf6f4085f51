"""The body of a request: bounded in size, whatever its sender announces.

How long it may take is the business of `reception`, which hangs up on whoever dawdles.
"""

from __future__ import annotations

from email.message import Message

from starlette.datastructures import Headers
from starlette.requests import Request

from kugel_bridge.kugelaudio.codes import Refusal

MAX_BODY_BYTES = 256 * 1024
"""Room for the longest text with every character escaped, as on the sockets."""

BODY_TOO_LARGE = Refusal(
    413, "VALIDATION_ERROR", f"Request body too large (max {MAX_BODY_BYTES // 1024} KiB)"
)


async def body_of(request: Request) -> bytes | Refusal:
    """All of it, or why it is not taken; raises Starlette's ClientDisconnect."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        return BODY_TOO_LARGE
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return BODY_TOO_LARGE
    return bytes(body)


def refused_media(headers: Headers) -> Refusal | None:
    """Why a body that should be JSON is none to begin with; None if it may be.

    Without a Content-Type it may: old clients send none.
    """
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        return _unsupported(f"Content-Encoding {coding[:40]!a} is not supported; send it as it is")
    if "content-type" not in headers:
        return None
    given = Message()
    given["Content-Type"] = headers["content-type"]
    kind = given.get_content_type()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        return _unsupported("Content-Type must be application/json")
    charset = str(given.get_param("charset", "utf-8")).lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        return _unsupported("charset must be utf-8")
    return None


def _unsupported(reason: str) -> Refusal:
    return Refusal(415, "VALIDATION_ERROR", f"Invalid request: {reason}")
