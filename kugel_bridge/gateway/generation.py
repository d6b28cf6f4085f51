"""One text made into audio frames: checked, spoken, converted, counted."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from kugel_bridge.gateway.delivery import Delivery
from kugel_bridge.gateway.engine import Engine, Piece, Spoken
from kugel_bridge.gateway.limits import SLOT_RETRY_S
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import (
    EMPTY_AUDIO,
    GENERATION_FAILED,
    INVALID_REQUEST,
    LOOP_DETECTED,
    MODEL_UNAVAILABLE,
    NO_CREDITS,
    NOTHING_TO_SPEAK,
    RATE_LIMITED,
    TEXT_TOO_LONG,
    VOICE_NOT_FOUND,
    Refusal,
    RefusedError,
)
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    LoopError,
    NoCreditsError,
    NoSoundError,
    RateLimitedError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from kugel_bridge.model.pcm import SPEECH_FORMAT
from kugel_bridge.model.report import SourceKind
from kugel_bridge.speech.narration import SilentError
from kugel_bridge.speech.reading import wordless_pause_s

logger = logging.getLogger(__name__)

_SILENCE_S = 1.0
"""Silence made at a time (s): a text full of pauses asks for minutes of it."""

Deliver = Callable[[bytes | WordTimings], Awaitable[None]]
"""Takes the data of the next audio frame in the request's own encoding, or the words of such."""


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one text."""

    seconds: float
    """How much sound the engine made (s)."""
    gen_ms: float
    first_audio_ms: float | None
    usage: Usage


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
        """The voice that will speak, or why the request cannot be served.

        Without a text it is one whose text is still to come.
        """
        if len(request.text) > self.max_characters:
            return TEXT_TOO_LONG
        if request.text and wordless_pause_s(request.text) == 0.0:
            return NOTHING_TO_SPEAK
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
        cost: Usage | None = None
        delivery = Delivery(request)
        # Without a language the API takes the voice's own, else English.
        language = request.language or next(iter(voice.languages), "en")
        try:
            pause_s = wordless_pause_s(request.text)
            if pause_s is None:
                spoken = await self._engine.speak(request, voice, language)
            else:
                # Engines differ in what they make of it, and a service may take offence.
                spoken = Spoken(SourceKind.LOCAL, _silence(pause_s))
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
                            await deliver(data)
            for data in delivery.end():
                await deliver(data)
        except BridgeError as error:
            logger.warning("a request of %d characters failed: %s", len(request.text), error)
            raise FailedError(refusal_for(error)) from error
        if not delivery.made_s:
            raise FailedError(EMPTY_AUDIO)
        return Made(
            seconds=delivery.made_s,
            gen_ms=(loop.time() - started_s) * 1000,
            first_audio_ms=first_audio_ms,
            usage=Usage(
                audio_s=round(delivery.made_s, 3),
                characters=len(request.text),
                cost_cents=0.0 if cost is None else cost.cost_cents,
                currency="eur" if cost is None else cost.currency,
                model_id=request.model_id,
            ),
        )


async def _silence(seconds: float) -> AsyncGenerator[Piece, None]:
    while seconds > 0:
        yield SPEECH_FORMAT.silence(min(seconds, _SILENCE_S))
        seconds -= _SILENCE_S


def _unknown_voice(ident: int | str) -> Voice:
    """What stands for a voice while the catalogue cannot be had: nothing is known but its name."""
    number = str(ident)
    if re.fullmatch(r"[1-9][0-9]{0,17}", number):
        return Voice(int(number), number)
    return Voice(0, number, number)


def refusal_for(error: BridgeError) -> Refusal:
    """What the client is told of an engine's error."""
    match error:
        case RateLimitedError(retry_after_s=wait):
            # Not every service tells; ours does, and asks for what it asks of its own clients.
            return RATE_LIMITED.waiting(SLOT_RETRY_S if wait is None else wait)
        case RefusedError(refusal=Refusal() as refusal):
            # As the service behind the engine put it; our answer has an id of its own.
            return dataclasses.replace(refusal, request_id=None)
        case InvalidRequestError():
            return INVALID_REQUEST
        case SilentError():
            # The engine is well: the same text will never sound.
            return NOTHING_TO_SPEAK
        case NoSoundError():
            return EMPTY_AUDIO
        case LoopError(retry_after_s=wait):
            return dataclasses.replace(LOOP_DETECTED, message=str(error), retry_after_s=wait)
        case NoCreditsError():
            return NO_CREDITS
        case UnauthorizedError():
            # The engine's own key, not the client's: nothing that the client could mend.
            return MODEL_UNAVAILABLE
        case ServiceUnavailableError(retry_after_s=wait):
            return MODEL_UNAVAILABLE.waiting(wait)
        case _:
            return GENERATION_FAILED
