"""The way in of one socket: a client that floods us holds up nobody else."""

from __future__ import annotations

import asyncio

from starlette.websockets import WebSocket

MAX_WAITING = 16
"""Requests or turns that may wait on one socket; whoever sends more does not read the answers."""


async def heard(websocket: WebSocket) -> str | bytes | None:
    """The next message, None once the client has left; all others are served before it."""
    # What has come already is received without suspending: thousands of small messages would be
    # answered in one go.
    await asyncio.sleep(0)
    event = await websocket.receive()
    if event["type"] == "websocket.disconnect":
        return None
    message: str | bytes | None = event.get("text")
    return event["bytes"] if message is None else message
