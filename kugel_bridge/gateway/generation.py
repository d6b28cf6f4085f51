"""One text made into audio frames: checked, spoken, converted, counted."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from kugel_bridge.gateway.delivery import Delivery
from kugel_bridge.gateway.engine import Engine, Spoken
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import (
    EMPTY_AUDIO,
    GENERATION_FAILED,
    INVALID_REQUEST,
    MODEL_UNAVAILABLE,
    NO_CREDITS,
    RATE_LIMITED,
    TEXT_TOO_LONG,
    VOICE_NOT_FOUND,
    Refusal,
    RefusedError,
)
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import MODEL_IDS, SpeechRequest, Usage
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    RateLimitedError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from kugel_bridge.model.report import SourceKind

logger = logging.getLogger(__name__)

Deliver = Callable[[bytes | WordTimings], Awaitable[None]]
"""Takes the data of the next audio frame in the request's own encoding, or the words of such."""


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one text."""

    frames: int
    """Audio frames delivered."""
    samples: int
    """As the engine made them, at `rate`."""
    rate: int
    """The engine's own (Hz)."""
    gen_ms: float
    first_audio_ms: float | None
    usage: Usage
    source: SourceKind
    reason: str = ""
    """Why no better source spoke."""

    @property
    def seconds(self) -> float:
        """How much sound the engine made (s)."""
        return self.samples / self.rate


class FailedError(Exception):
    """A generation failed; `refusal` is what the client is told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


_Granted = TypeVar("_Granted")


def granted(answer: _Granted | Refusal) -> _Granted:
    """What was asked for; raises FailedError where it was refused."""
    if isinstance(answer, Refusal):
        raise FailedError(answer)
    return answer


class Generator:
    """Makes sound out of requests, for all doors of the gateway alike."""

    def __init__(self, engine: Engine, *, max_characters: int) -> None:
        self._engine = engine
        self.max_characters = max_characters
        """Of one text."""

    async def checked(self, request: SpeechRequest) -> Voice | Refusal:
        """The voice that will speak, or why the request cannot be served."""
        if len(request.text) > self.max_characters:
            return TEXT_TOO_LONG
        if request.model_id not in MODEL_IDS:
            return INVALID_REQUEST
        if request.voice_id is None:
            return VOICE_NOT_FOUND
        try:
            return await self._engine.voice(request.voice_id) or VOICE_NOT_FOUND
        except BridgeError as error:
            logger.debug("the voice is left to who speaks: %s", error)
            return _unknown_voice(request.voice_id)

    async def make(
        self,
        request: SpeechRequest,
        voice: Voice,
        deliver: Deliver,
        on_begun: Callable[[Spoken], None] = lambda _: None,
    ) -> Made:
        """Speak the request and hand each frame to `deliver`, which may raise to end it.

        `on_begun` is told before the first frame who speaks. Raises FailedError; what was
        delivered before it stays delivered.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        first_audio_ms: float | None = None
        frames = 0
        cost: Usage | None = None
        delivery = Delivery(request)
        # Without a language the API takes the voice's own, else English.
        language = request.language or next(iter(voice.languages), "en")
        try:
            spoken = await self._engine.speak(request, voice, language)
            on_begun(spoken)
            async with aclosing(spoken.pieces) as pieces:
                async for piece in pieces:
                    if isinstance(piece, WordTimings):
                        await deliver(piece)
                    elif isinstance(piece, Usage):
                        cost = piece
                    else:
                        for data in delivery.add(piece):
                            if first_audio_ms is None:
                                first_audio_ms = (loop.time() - started_s) * 1000
                            frames += 1
                            await deliver(data)
            for data in delivery.end():
                frames += 1
                await deliver(data)
        except BridgeError as error:
            logger.warning("a request of %d characters failed: %s", len(request.text), error)
            raise FailedError(refusal_for(error)) from error
        if not frames:
            raise FailedError(EMPTY_AUDIO)
        return Made(
            frames=frames,
            samples=delivery.made_samples,
            rate=delivery.made_rate,
            gen_ms=(loop.time() - started_s) * 1000,
            first_audio_ms=first_audio_ms,
            usage=Usage(
                audio_s=round(delivery.made_s, 3),
                characters=len(request.text),
                cost_cents=0.0 if cost is None else cost.cost_cents,
                currency="eur" if cost is None else cost.currency,
                model_id=request.model_id,
            ),
            source=spoken.source,
            reason=spoken.reason,
        )


def _unknown_voice(ident: int | str) -> Voice:
    """What stands for a voice while the catalogue cannot be had: nothing is known but its name."""
    number = str(ident)
    # The length keeps a number of a million digits from being computed.
    if number.isascii() and number.isdecimal() and len(number) <= 18 and int(number) > 0:
        return Voice(int(number), number)
    return Voice(0, number, number)


def refusal_for(error: BridgeError) -> Refusal:
    """What the client is told of an engine's error."""
    match error:
        case RateLimitedError(retry_after_s=wait):
            return RATE_LIMITED.waiting(wait)
        case RefusedError(refusal=Refusal() as refusal):
            # As the service behind the engine put it; our answer has an id of its own.
            return dataclasses.replace(refusal, request_id=None)
        case InvalidRequestError():
            return INVALID_REQUEST
        case NoCreditsError():
            return NO_CREDITS
        case UnauthorizedError():
            # The engine's own key, not the client's: nothing that the client could mend.
            return MODEL_UNAVAILABLE
        case ServiceUnavailableError(retry_after_s=wait):
            return MODEL_UNAVAILABLE.waiting(wait)
        case _:
            return GENERATION_FAILED
