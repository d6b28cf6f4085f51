"""The engine that asks the real service: one account, one cache and one request for a house.

A request with word timestamps is not answered from the cache, which keeps sound only; the sound
that comes for it is kept for those who ask without, and they hear it while it comes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import unicodedata
import weakref
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any, Protocol

from kugel_bridge.gateway.catalogue_book import CatalogueBook
from kugel_bridge.gateway.chain import Chain
from kugel_bridge.gateway.engine import Piece, Spoken
from kugel_bridge.gateway.line import Line
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import NATIVE_RATE, SpeechRequest, Usage
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    LoopError,
    NoCreditsError,
    RateLimitedError,
    TooSlowError,
    UnauthorizedError,
)
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.cloud import phrase_key
from kugel_bridge.speech.flight import Listener
from kugel_bridge.speech.flights import Flights

logger = logging.getLogger(__name__)

_WITH_WORDS = "+words"
_REASONS: tuple[tuple[type[BridgeError], str], ...] = (
    (RateLimitedError, "rate limited"),
    (NoCreditsError, "no credits"),
    (UnauthorizedError, "the key is refused"),
    (TooSlowError, "too slow"),
    (LoopError, "gateways in a circle"),
    (BridgeError, "out of order"),
)
"""In words that are fit for strangers; the first that fits."""


class Client(Protocol):
    """What is needed of `kugelaudio.client.SpeechClient`."""

    @property
    def available(self) -> BridgeError | None: ...

    def pieces(
        self, request: SpeechRequest
    ) -> AsyncGenerator[PcmChunk | WordTimings | Usage, None]: ...


class UpstreamEngine:
    """Speaks with the service's voices, from the cache where it can.

    `cache` and `flights` may be shared with a bridge; then the same phrase asked for there and
    here is one request. `origin` is the bridge's name for the service, and `own_voice` the voice
    it is configured with, number or handle, so that both mean the same phrase. With a `fallback`
    that speaks what the service cannot say now; a request that is wrong in itself it never gets.
    `hidden` are voices that are not offered, as numbers or handles. `run` has to run, and so has
    `flights.run`.
    """

    def __init__(
        self,
        client: Client,
        book: CatalogueBook,
        *,
        flights: Flights,
        cache: PhraseCache | None,
        origin: str,
        own_voice: str | None = None,
        max_generations: int = 1,
        fallback: LocalEngine | None = None,
        hidden: Collection[str] = (),
        chain: Chain | None = None,
    ) -> None:
        self.chain = Chain() if chain is None else chain
        """Who is behind it, if the service is another gateway."""
        self._client, self._book = client, book
        self._flights, self._cache = flights, cache
        self._origin, self._own_voice = origin, own_voice
        self._bills: weakref.WeakValueDictionary[str, _Bill] = weakref.WeakValueDictionary()
        """Of the generations under way that were begun here."""
        self._line = Line(max_generations)
        self._fallback = fallback
        self._hidden = frozenset(hidden)

    async def run(self) -> None:
        """Ask for voices in the background, until cancelled."""
        await self._book.run()

    async def voices(self) -> Sequence[Voice]:
        """The service's voices, and after them the local ones where those may speak."""
        try:
            listed = list((await self._book.book()).voices)
        except BridgeError:
            if self._fallback is None:
                raise
            listed = []
        if self._fallback is not None:
            taken = {voice.id for voice in listed} | {voice.handle for voice in listed}
            listed += [
                voice
                for voice in await self._fallback.voices()
                if voice.id not in taken and voice.handle not in taken
            ]
        return [voice for voice in listed if not self._is_hidden(voice)]

    async def voice(self, ident: int | str) -> Voice | None:
        """The voice with that number or handle; the service's come first."""
        local = None if self._fallback is None else await self._fallback.voice(ident)
        try:
            voice = await self._book.find(ident) or local
        except BridgeError:
            if local is None:
                raise
            voice = local
        return None if voice is None or self._is_hidden(voice) else voice

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        """Begin to speak; raises the service's BridgeError if nobody else may speak for it."""
        # The same object: another gateway behind us may list a voice that only looks alike.
        if self._fallback is not None and await self._fallback.voice(voice.id) is voice:
            return await self._fallback.speak(request, voice, language)
        wanted = self._wanted(request, voice, language)
        try:
            return await self._spoken(wanted)
        except InvalidRequestError:
            raise
        except BridgeError as error:
            if self._fallback is None:
                raise
            logger.info("the local engine speaks, the service cannot: %s", error)
            try:
                local = await self._fallback.voices()
                offered = [each for each in local if not self._is_hidden(each)]
                substitute = stand_in(voice, language, offered or local)
                spoken = await self._fallback.speak(request, substitute, language)
            except BridgeError as second:
                logger.warning("the local engine cannot speak either: %s", second)
                raise error from second
            return dataclasses.replace(spoken, reason=f"upstream: {_reason(error)}")

    def _is_hidden(self, voice: Voice) -> bool:
        return str(voice.id) in self._hidden or voice.handle in self._hidden

    def _wanted(self, request: SpeechRequest, voice: Voice, language: str) -> SpeechRequest:
        """What is sent: the same for the same sound, whoever asks and however it is delivered."""
        asked: int | str | None = request.voice_id if voice.id == 0 else voice.id
        if self._own_voice is not None and self._own_voice in (str(voice.id), voice.handle):
            is_number = self._own_voice.isascii() and self._own_voice.isdecimal()
            asked = int(self._own_voice) if is_number else self._own_voice
        return dataclasses.replace(
            request,
            text=unicodedata.normalize("NFC", request.text),
            voice_id=asked,
            # Of a voice that we know nothing of, the service knows the language.
            language=request.language or (language if voice.languages else None),
            sample_rate=NATIVE_RATE,
            output_format=None,
        )

    async def _spoken(self, wanted: SpeechRequest) -> Spoken:
        key, cache = phrase_key(wanted, self._origin), self._cache
        with_words = wanted.word_timestamps
        # A phrase that many ask for at a time is looked for on disk by the first of them only.
        joined = self._under_way(key.digest, with_words=with_words)
        if joined is None and cache is not None and not with_words:
            found = await cache.lookup(key)
            if found is not None:
                return Spoken(SourceKind.CACHE, found.chunks())
            # While the disk was asked, somebody may have begun.
            joined = self._under_way(key.digest, with_words=False)
        if joined is not None:
            (name, listener), is_new = joined, False
        else:
            if (error := self._client.available) is not None:
                raise error
            name, bill = key.digest + (_WITH_WORDS if with_words else ""), _Bill()
            _, listener, is_new = await self._flights.board(
                name,
                lambda: self._sound(wanted, bill),
                lambda: None if cache is None else cache.begin(key),
            )
            if is_new:
                self._bills[name] = bill
        owed = self._bills.get(name)
        try:
            await listener.begin()
        except BaseException:
            listener.leave()
            raise
        pieces: AsyncGenerator[Piece, None] = listener if with_words else _Wordless(listener)
        if owed is not None:
            pieces = _Charged(pieces, owed, has_caused_it=is_new)
        return Spoken(SourceKind.CLOUD, pieces)

    def _under_way(
        self, digest: str, *, with_words: bool
    ) -> tuple[str, Listener[PcmChunk | WordTimings]] | None:
        """The name of a generation that serves, and a listener on it.

        One with words serves all.
        """
        for name in (digest + _WITH_WORDS,) if with_words else (digest, digest + _WITH_WORDS):
            if (listener := self._flights.join(name)) is not None:
                return name, listener
        return None

    async def _sound(
        self, wanted: SpeechRequest, bill: _Bill
    ) -> AsyncGenerator[PcmChunk | WordTimings, None]:
        async with (
            self._line.place(),
            contextlib.aclosing(self._client.pieces(wanted)) as pieces,
        ):
            async for piece in pieces:
                if isinstance(piece, Usage):
                    bill.usage = piece
                else:
                    yield piece


def stand_in(voice: Voice, language: str, local: Sequence[Voice]) -> Voice:
    """Which of the `local` voices (not none) speaks for another: the language, then the sex."""
    fitting = [each for each in local if language in each.languages] or local
    return next((each for each in fitting if each.sex == voice.sex), fitting[0])


def _reason(error: BridgeError) -> str:
    return next(words for kind, words in _REASONS if isinstance(error, kind))


@dataclasses.dataclass(slots=True, weakref_slot=True, eq=False)
class _Bill:
    """What a generation cost; a service that does not tell has not made it for nothing."""

    usage: Usage = dataclasses.field(default_factory=lambda: Usage(0.0))
    payer: object = None
    """None = the first who hears all of it."""


class _Wordless(AsyncGenerator[Piece, None]):
    """What a listener hears, without the words that somebody else asked for."""

    def __init__(self, listener: Listener[PcmChunk | WordTimings]) -> None:
        self._listener = listener

    async def asend(self, value: None) -> Piece:
        """The next sound; raises the generation's BridgeError where it breaks off."""
        while isinstance(piece := await self._listener.asend(None), WordTimings):
            pass
        return piece

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Piece:
        """Closes it; an error thrown in has nobody to handle it here."""
        await self.aclose()
        raise val or typ

    async def aclose(self) -> None:
        """Leave the generation to others, or end it."""
        await self._listener.aclose()


class _Charged(AsyncGenerator[Piece, None]):
    """What a listener hears, and the bill after it if it is his.

    It is for the one who caused the cost, or if he leaves before the end, for one who stays.
    """

    def __init__(
        self, pieces: AsyncGenerator[Piece, None], bill: _Bill, *, has_caused_it: bool
    ) -> None:
        self._pieces, self._bill = pieces, bill
        self._is_over = False
        if has_caused_it:
            bill.payer = self

    async def asend(self, value: None) -> Piece:
        """The next piece; raises the generation's BridgeError where it breaks off."""
        if self._is_over:
            raise StopAsyncIteration
        try:
            return await self._pieces.asend(None)
        except StopAsyncIteration:
            self._is_over = True
            if self._bill.payer not in (None, self):
                raise
            self._bill.payer = self
            return self._bill.usage

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Piece:
        """Closes it; an error thrown in has nobody to handle it here."""
        await self.aclose()
        raise val or typ

    async def aclose(self) -> None:
        """Leave the generation to others, or end it."""
        if not self._is_over and self._bill.payer is self:
            self._bill.payer = None
        self._is_over = True
        await self._pieces.aclose()
