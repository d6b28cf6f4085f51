"""The engine in front of a service, with all that works behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kugel_bridge.gateway.catalogue_book import CatalogueBook
from kugel_bridge.gateway.engine import Piece, Spoken
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.upstream import UpstreamEngine
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.kugelaudio.rest import Catalogue
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.flights import Flights
from tests.gateway_server import WAIT_S

TEXT = "Dinner is ready."
HELLO = SpeechRequest(TEXT, "en", 1)


@dataclass
class Front:
    """An engine in front of a service, and its parts."""

    engine: UpstreamEngine
    client: SpeechClient
    cache: PhraseCache | None
    charged: list[Usage]
    """What the account was told of."""

    async def begun(self, request: SpeechRequest = HELLO) -> Spoken:
        """The request, as a door of the gateway would have it spoken."""
        assert request.voice_id is not None
        async with asyncio.timeout(WAIT_S):
            voice = await self.engine.voice(request.voice_id)
            assert voice is not None
            language = request.language or next(iter(voice.languages), "en")
            return await self.engine.speak(request, voice, language)

    async def said(self, request: SpeechRequest = HELLO) -> tuple[SourceKind, list[Piece]]:
        """Everything that came of a request, and from where."""
        spoken = await self.begun(request)
        return spoken.source, await rest_of(spoken)

    async def kept(self) -> None:
        """Return once a phrase is in the cache."""
        assert self.cache is not None
        async with asyncio.timeout(WAIT_S):
            while not await self.cache.entries():
                await asyncio.sleep(0.005)


async def rest_of(spoken: Spoken) -> list[Piece]:
    """What is still to come of it."""
    async with asyncio.timeout(WAIT_S), contextlib.aclosing(spoken.pieces) as pieces:
        return [piece async for piece in pieces]


def sound_of(pieces: list[Piece]) -> bytes:
    """The sound among them."""
    return b"".join(bytes(piece.data) for piece in pieces if isinstance(piece, PcmChunk))


def client_for(url: str, **options: Any) -> SpeechClient:
    """A client with deadlines that only a hang reaches."""
    defaults: dict[str, Any] = {
        "model_id": "kugel-3.5",
        "connect_timeout_s": WAIT_S,
        "first_audio_timeout_s": WAIT_S,
        "stall_timeout_s": WAIT_S,
    }
    return SpeechClient(url, "", **(defaults | options))


@contextlib.asynccontextmanager
async def in_front(
    url: str,
    folder: Path | None = None,
    *,
    generations: int = 8,
    fallback: bool = False,
    lists: object | None = None,
    client: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Front]:
    """An engine that asks the service at `url`, with a cache in `folder` if there is one."""
    charged: list[Usage] = []
    cache = None if folder is None else PhraseCache(folder, 50_000_000, lookup_timeout_s=WAIT_S)
    speech = client_for(url, max_generations=generations, on_usage=charged.append, **(client or {}))
    flights = Flights()
    engine = UpstreamEngine(
        speech,
        CatalogueBook(lists or Catalogue(url, "", WAIT_S), patience_s=WAIT_S),  # type: ignore[arg-type] # tests bring their own
        flights=flights,
        cache=cache,
        origin=url,
        max_generations=generations,
        fallback=LocalEngine() if fallback else None,
        **options,
    )
    if cache is not None:
        await cache.open()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(part.run()) for part in (flights, speech, engine)]
        try:
            yield Front(engine, speech, cache, charged)
        finally:
            for task in running:
                task.cancel()
    if cache is not None:
        await cache.close()


class PrivateVoices:
    """Lists of a service that leaves one voice out."""

    def __init__(self, listed: list[Voice], unlisted: Voice) -> None:
        self._listed, self._unlisted = listed, unlisted
        self.asked: list[str] = []

    async def voices(self) -> list[Voice]:
        return self._listed

    async def voice(self, ident: int | str) -> Voice | None:
        self.asked.append(str(ident))
        is_it = str(ident) in (str(self._unlisted.id), self._unlisted.handle)
        return self._unlisted if is_it else None
