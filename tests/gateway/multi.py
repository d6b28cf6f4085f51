"""A bare client of /ws/tts/multi, and gateways whose contexts are short of patience."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kugel_bridge.gateway.contexts import MultiSocket
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.reciter import Patience
from kugel_bridge.gateway.sockets import PATHS
from tests.gateway.wire import Wire, wire
from tests.gateway_server import serving

PATH = "/ws/tts/multi"
VOICE = {"voice_settings": {"voice_id": 1}}


def say(ident: str, text: str = "Hello there.", **more: Any) -> dict[str, Any]:
    """A whole text for a context."""
    return {"context_id": ident, "text": text, "flush": True} | VOICE | more


async def until(socket: Wire, *keys: str) -> list[dict[str, Any]]:
    """The frames up to one that has one of the keys."""
    frames = []
    while True:
        frames.append(await socket.receive())
        if set(keys) & set(frames[-1]):
            return frames


def kinds(frames: Sequence[dict[str, Any]]) -> list[str]:
    """What each frame is."""
    return [next(iter(frame)) for frame in frames]


@asynccontextmanager
async def multi(engine: Engine, **options: Any) -> AsyncIterator[Wire]:
    """An open socket of a gateway of its own."""
    async with serving(engine, **options) as server, wire(server, PATH) as socket:
        yield socket


def with_patience(
    monkeypatch: pytest.MonkeyPatch, *, stale_s: float = 60, idle_s: float = 60
) -> None:
    """Let contexts wait so long, and no longer."""
    patience = Patience(stale_s=stale_s, idle_s=idle_s)
    monkeypatch.setitem(PATHS, PATH, functools.partial(MultiSocket, patience=patience))
