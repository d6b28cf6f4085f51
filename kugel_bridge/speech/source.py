"""The seam where speech comes from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, Protocol, TypeVar

from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance


class SpeechSource(Protocol):
    """Turns text into sound; one attempt, no retries."""

    @property
    def kind(self) -> SourceKind:
        """What it is called in reports."""

    def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """Yield sound as it becomes known; raise a BridgeError if there is none."""


P = TypeVar("P")


class Sound(AsyncGenerator[P, None], Generic[P]):
    """A stream of sound, and what goes with it, that can be asked for its beginning.

    Unlike a plain generator it lets go of what is behind it when it is closed unread.
    """

    def __init__(self, chunks: AsyncGenerator[P, None]) -> None:
        self._chunks = chunks
        self._first: P | None = None

    async def begin(self) -> None:
        """Return once the first sound is here; what came before it is dropped.

        Raises a BridgeError if there is none; the source is closed then.
        """
        try:
            async for chunk in self._chunks:
                if isinstance(chunk, PcmChunk) and chunk.frames:
                    self._first = chunk
                    return
        except BaseException:
            await self._chunks.aclose()
            raise
        raise ServiceUnavailableError("the source ended without any sound")

    async def asend(self, value: None) -> P:
        """The next piece."""
        first, self._first = self._first, None
        return first if first is not None else await self._chunks.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> P:
        """Closes it; an error thrown in has nobody to handle it here."""
        await self.aclose()
        raise val or typ

    async def aclose(self) -> None:
        """Let the source go; nothing more comes."""
        self._first = None
        await self._chunks.aclose()
