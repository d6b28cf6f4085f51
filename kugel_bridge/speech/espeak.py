"""espeak-ng as a child process: the voice that needs no internet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator

from kugel_bridge.audio.riff import WavParser
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    ProtocolError,
    ServiceUnavailableError,
    TooSlowError,
)
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak_voice import FALLBACK, speakable, voice_for, words_per_minute

logger = logging.getLogger(__name__)

PROGRAM = "espeak-ng"
FIRST_SOUND_TIMEOUT_S = 5.0
STALL_TIMEOUT_S = 5.0
REAP_TIMEOUT_S = 2.0
"""How long a killed child may take to be gone before we go on without it."""
MAX_STDERR = 2_000
MAX_AHEAD = 512 * 1024
"""Bytes read ahead of the listener, about 12 s; beyond, the child waits."""
MISSING = (
    "there is no espeak-ng on this machine: apt install espeak-ng, "
    "or pip install 'kugel-bridge[local]'"
)


class EspeakSource:
    """Speaks through `espeak-ng --stdout`, a fresh child for each utterance.

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
        try:
            async with contextlib.aclosing(self._said(utterance, voice)) as chunks:
                async for chunk in chunks:
                    yield chunk
                return
        except InvalidRequestError as error:
            if voice == FALLBACK:
                raise
            logger.warning("local: %s; speaking with the voice %s", error, FALLBACK)
        async with contextlib.aclosing(self._said(utterance, FALLBACK)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _said(self, utterance: Utterance, voice: str) -> AsyncGenerator[PcmChunk, None]:
        """Raises InvalidRequestError if there is no such voice."""
        arguments = [f"-v{voice}", f"-s{words_per_minute(utterance.speed)}", "-b1"]
        child = _Child()
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: child, self._program, "--stdin", "--stdout", *arguments
            )
        except FileNotFoundError as error:
            raise ServiceUnavailableError(MISSING) from error
        except OSError as error:
            raise ServiceUnavailableError(f"espeak-ng cannot be started: {error}") from error
        try:
            child.say(transport, speakable(utterance.text).encode())
            parser, is_first = WavParser(), True
            while True:
                limit_s = self._first_sound_timeout_s if is_first else self._stall_timeout_s
                try:
                    async with asyncio.timeout(limit_s):
                        data = await child.read()
                except TimeoutError as error:
                    raise TooSlowError(f"espeak-ng gave nothing for {limit_s} s") from error
                if not data:
                    break
                if (chunk := parser.feed(data)) is not None:
                    is_first = False
                    yield chunk
            if is_first:
                # Its complaint may come after the end of its sound.
                await child.end()
                raise child.failure(voice)
        except ProtocolError as error:
            raise ServiceUnavailableError(f"espeak-ng: {error}") from error
        finally:
            # Kills the child if it lives, and closes the pipes at once: no await in between.
            transport.close()
            await child.end()


class _Child(asyncio.SubprocessProtocol):
    """What the child writes, held until it is asked for."""

    def __init__(self) -> None:
        self._exited = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self._data: deque[bytes] = deque()
        self._ahead = 0
        self._is_paused = False
        self._has_ended = False
        self._news = asyncio.Event()
        self._complaint = b""

    def say(self, transport: asyncio.SubprocessTransport, text: bytes) -> None:
        """Hand over the text; the transport keeps what the pipe cannot take yet."""
        self._transport = transport
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        stdin.write(text)
        stdin.write_eof()

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        while not self._data and not self._has_ended:
            self._news.clear()
            await self._news.wait()
        if not self._data:
            return b""
        data = self._data.popleft()
        self._ahead -= len(data)
        if self._is_paused and self._ahead < MAX_AHEAD // 2:
            self._pause(False)
        return data

    async def end(self) -> None:
        """Return when the child is reaped and its pipes are closed, or will not be soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_TIMEOUT_S):
                await self._exited.wait()

    def failure(self, voice: str) -> BridgeError:
        """Why there was no sound."""
        said = self._complaint.decode("utf-8", "replace").strip() or "no reason given"
        if "voice does not exist" in said:
            return InvalidRequestError(f"espeak-ng has no voice {voice!r}")
        return ServiceUnavailableError(f"espeak-ng made no sound: {said}")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self._complaint = (self._complaint + data)[:MAX_STDERR]
            return
        self._data.append(data)
        self._ahead += len(data)
        if self._ahead > MAX_AHEAD and not self._is_paused:
            self._pause(True)
        self._news.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._has_ended = True
            self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The child is reaped and all its pipes are closed."""
        self._exited.set()
        self._has_ended = True
        self._news.set()

    def _pause(self, wanted: bool) -> None:
        assert self._transport is not None
        stdout = self._transport.get_pipe_transport(1)
        if isinstance(stdout, asyncio.ReadTransport) and not stdout.is_closing():
            self._is_paused = wanted
            if wanted:
                stdout.pause_reading()
            else:
                stdout.resume_reading()
