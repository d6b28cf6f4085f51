"""espeak-ng as a child process: the voice that needs no internet."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator

from kugel_bridge.audio.riff import WavParser
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    ProtocolError,
    ServiceUnavailableError,
)
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.child import Child, started
from kugel_bridge.speech.espeak_voice import FALLBACK, input_for, voice_for, words_per_minute
from kugel_bridge.speech.narration import Said, SilentError, narrated
from kugel_bridge.speech.reading import Passage, read

logger = logging.getLogger(__name__)

PROGRAM = "espeak-ng"
FIRST_SOUND_TIMEOUT_S = 5.0
STALL_TIMEOUT_S = 5.0
MISSING = (
    "there is no espeak-ng on this machine: apt install espeak-ng, "
    "or pip install 'kugel-bridge[local]'"
)


class EspeakSource:
    """Speaks through `espeak-ng --stdout`, a fresh child for each passage.

    `voice` is an espeak-ng voice (`de+f3`) for utterances in its language, or a variant (`+f3`)
    for all of them. Ending the generator early kills the child.
    """

    kind = SourceKind.LOCAL

    def __init__(
        self,
        voice: str | None = None,
        *,
        program: str = PROGRAM,
        first_sound_timeout_s: float = FIRST_SOUND_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._voice, self._program = voice, program
        self._first_sound_timeout_s = first_sound_timeout_s
        self._stall_timeout_s = stall_timeout_s

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The sound as the child makes it.

        Raises ServiceUnavailableError if espeak-ng is missing or fails, TooSlowError if it hangs.
        """
        voice = voice_for(utterance.language, self._voice)

        async def say(passage: Passage) -> AsyncGenerator[Said, None]:
            nonlocal voice
            try:
                async with contextlib.aclosing(self._said(passage, utterance, voice)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                    return
            except InvalidRequestError as error:
                if voice == FALLBACK:
                    raise
                logger.warning("local: %s; speaking with the voice %s", error, FALLBACK)
                voice = FALLBACK
            async with contextlib.aclosing(self._said(passage, utterance, voice)) as chunks:
                async for chunk in chunks:
                    yield chunk

        reading = read(utterance.text, utterance.language)
        async with contextlib.aclosing(narrated(reading, say)) as pieces:
            async for piece in pieces:
                if isinstance(piece, PcmChunk):
                    yield piece

    async def _said(
        self, passage: Passage, utterance: Utterance, voice: str
    ) -> AsyncGenerator[PcmChunk, None]:
        """Raises InvalidRequestError if there is no such voice."""
        given = input_for(passage)
        pace = words_per_minute(passage.rate or utterance.speed)
        arguments = ["--stdin", "--stdout", f"-v{voice}", f"-s{pace}", "-b1"]
        if given.is_ssml:
            arguments.append("-m")
        async with contextlib.AsyncExitStack() as resources:
            try:
                child = await resources.enter_async_context(started(self._program, arguments))
            except FileNotFoundError as error:
                raise ServiceUnavailableError(MISSING) from error
            except OSError as error:
                raise ServiceUnavailableError(f"espeak-ng cannot be started: {error}") from error
            child.say(f"{given.text}\n".encode(), is_last=True)
            parser, is_first = WavParser(), True
            limit_s = self._first_sound_timeout_s
            while data := await child.read(limit_s):
                try:
                    chunk = parser.feed(data)
                except ProtocolError as error:
                    raise ServiceUnavailableError(f"espeak-ng: {error}") from error
                if chunk is not None:
                    is_first, limit_s = False, self._stall_timeout_s
                    yield chunk
            # Its complaint may come after the end of its sound, its exit code does.
            await child.end()
            if is_first:
                raise _failure(child, voice)


def _failure(child: Child, voice: str) -> BridgeError:
    """Why there was no sound."""
    if "voice does not exist" in child.complaint:
        return InvalidRequestError(f"espeak-ng has no voice {voice!r}")
    kind = SilentError if child.has_succeeded else ServiceUnavailableError
    return kind(f"espeak-ng made no sound: {child.complaint or 'no reason given'}")
