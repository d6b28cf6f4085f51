"""Speech from a Wyoming server, as wyoming-piper: the protocol of Rhasspy and Home Assistant.

One connection for each passage: `synthesize` is answered by `audio-start`, `audio-chunk`... and
`audio-stop`, or by `error` (Wyoming's README, "Text to Speech"). The protocol knows no speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from kugel_bridge.audio.convert import Converter
from kugel_bridge.model.errors import ProtocolError, ServiceUnavailableError, TooSlowError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.narration import Said, SilentError, narrated
from kugel_bridge.speech.reading import Passage, read

if TYPE_CHECKING:  # an extra: loaded when it is used
    from wyoming.event import Event

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
"""It is on this machine or in this house."""
FIRST_SOUND_TIMEOUT_S = 10.0
"""Many servers make the whole text before they send any of it."""
STALL_TIMEOUT_S = 10.0
MAX_HEADER = 64 * 1024
MAX_PAYLOAD = 1024 * 1024
"""Bytes of one event; servers send a fraction of a second at a time."""
MAX_SOUND_S = 25 * 60
"""Of one passage (s); a server that never ends is given up."""
RATES = range(8_000, 192_001)
WIDTHS = (2, 3, 4)
"""Bytes of a sample that have one meaning only: with one byte, some mean unsigned."""
CHANNELS = (1, 2)
MISSING = "speech from a Wyoming server needs: pip install 'kugel-bridge[wyoming]'"

_LETTER = re.compile(r"(?<![^\s,])\w(?![^\s,])")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def parse_uri(uri: str) -> Address:
    """The address in `tcp://host:port`; raises ValueError with the remedy."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or uri.rstrip("/").lower() != f"tcp://{parts.netloc}".lower():
        raise ValueError('must be an address, as "tcp://127.0.0.1:10200"')
    if "@" in parts.netloc:
        raise ValueError('must not hold a user or password, as in "tcp://127.0.0.1:10200"')
    return Address(host, port)


class WyomingSource:
    """Speaks with one voice of a server (None = the server's choice for the language).

    The speed of an utterance, and `<prosody rate>`, have no effect. Ending the generator early
    closes the connection.
    """

    kind = SourceKind.LOCAL

    def __init__(
        self,
        uri: str,
        voice: str | None = None,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        first_sound_timeout_s: float = FIRST_SOUND_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._address, self._voice = parse_uri(uri), voice
        self._name = f"the Wyoming server {uri}"
        self._connect_timeout_s = connect_timeout_s
        self._first_sound_timeout_s = first_sound_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._has_told = False

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The sound as the server sends it, mono and 16 bit.

        Raises ServiceUnavailableError (also for the server's own errors), ProtocolError,
        TooSlowError.
        """
        if utterance.speed != 1.0 and not self._has_told:
            logger.info("local: %s cannot change its speed", self._name)
            self._has_told = True

        def say(passage: Passage) -> AsyncGenerator[Said, None]:
            return self._said(_plain(passage), utterance.language)

        reading = read(utterance.text, utterance.language, has_pace=False)
        async with contextlib.aclosing(narrated(reading, say)) as pieces:
            async for piece in pieces:
                if isinstance(piece, PcmChunk):
                    yield piece

    async def _said(self, text: str, language: str) -> AsyncGenerator[Said, None]:
        try:
            from wyoming.error import Error
            from wyoming.event import async_write_event
            from wyoming.tts import Synthesize, SynthesizeVoice
        except ImportError as error:
            raise ServiceUnavailableError(MISSING) from error
        voice = SynthesizeVoice(self._voice) if self._voice else SynthesizeVoice(language=language)
        async with self._connected() as (reader, writer):
            sound = _Sound(self._name)
            limit_s = self._first_sound_timeout_s
            # From sound to sound: events between them do not prove that more is coming.
            loop = asyncio.get_running_loop()
            limit = loop.time() + limit_s
            try:
                async with asyncio.timeout_at(limit):
                    await async_write_event(Synthesize(text, voice).event(), writer)
                while True:
                    async with asyncio.timeout_at(limit):
                        event = await self._event(reader)
                    if Error.is_type(event.type):
                        raise ServiceUnavailableError(f"{self._name}: {_reason(event)}")
                    if event.type == "audio-stop":
                        break
                    chunk = sound.take(event)
                    if chunk is not None and chunk.frames:
                        limit_s = self._stall_timeout_s
                        yield chunk
                        limit = loop.time() + limit_s
            except TimeoutError as error:
                raise TooSlowError(f"{self._name} sent no sound for {limit_s} s") from error
            except OSError as error:
                raise ServiceUnavailableError(f"{self._name}: {error}") from error
            if (rest := sound.end()) is not None:
                yield rest

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[_BoundedReader, asyncio.StreamWriter]]:
        loop = asyncio.get_running_loop()
        reader = _BoundedReader(self._name)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                transport, _ = await loop.create_connection(lambda: protocol, *self._address)
        except TimeoutError as error:
            limit_s = self._connect_timeout_s
            raise TooSlowError(f"{self._name} did not answer within {limit_s} s") from error
        except OSError as error:
            raise ServiceUnavailableError(f"{self._name} cannot be reached: {error}") from error
        try:
            yield reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        finally:
            # What the server still sends is of no use: it shall stop.
            transport.abort()

    async def _event(self, reader: _BoundedReader) -> Event:
        from wyoming.event import async_read_event

        try:
            event = await async_read_event(reader)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ProtocolError(f"{self._name} sent an event that cannot be read") from error
        if event is None:
            # Also for data that are no JSON: the package gives no event for both.
            raise ProtocolError(f"{self._name} ended, or sent nonsense, before audio-stop")
        if not isinstance(event.data, dict):
            raise ProtocolError(f"{self._name} sent an event that cannot be read")
        return event


class _BoundedReader(asyncio.StreamReader):
    """Reads what is an event and of a reasonable size; anything else is a ProtocolError."""

    def __init__(self, name: str) -> None:
        super().__init__(limit=MAX_HEADER)
        self._peer = name

    async def readline(self) -> bytes:
        try:
            line = await super().readline()
        except ValueError as error:
            raise ProtocolError(f"{self._peer} sent a header without an end") from error
        if not line:
            return line
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{self._peer} sent {line[:40]!r}, which is no event") from error
        if not isinstance(header, dict) or not isinstance(header.get("type"), str):
            raise ProtocolError(f"{self._peer} sent {line[:40]!r}, which is no event")
        return line

    async def readexactly(self, n: int) -> bytes:
        if type(n) is not int or n > MAX_PAYLOAD:
            raise ProtocolError(f"{self._peer} announced {str(n)[:20]} bytes for one event")
        try:
            return await super().readexactly(n)
        except asyncio.IncompleteReadError as error:
            raise ProtocolError(f"{self._peer} ended in the middle of an event") from error


class _Sound:
    """The sound of one answer, whole frames in one format."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._format: PcmFormat | None = None
        self._converter: Converter | None = None
        self._rest = b""
        self._frames = 0

    def take(self, event: Event) -> PcmChunk | None:
        """The sound in an event; None if it has none. Raises ProtocolError."""
        if event.type not in ("audio-start", "audio-chunk"):
            return None
        pcm = self._format_in(event.data)
        if self._converter is None:
            self._format, self._converter = pcm, Converter(pcm, PcmFormat(pcm.rate))
        elif pcm != self._format:
            raise ProtocolError(f"{self._name} changed its format from {self._format} to {pcm}")
        if event.type == "audio-start" or not event.payload:
            return None
        data = self._rest + event.payload
        whole = len(data) - len(data) % pcm.frame_bytes
        self._rest = data[whole:]
        self._frames += whole // pcm.frame_bytes
        if pcm.seconds(self._frames) > MAX_SOUND_S:
            raise ProtocolError(f"{self._name} sent more than {MAX_SOUND_S} s for one text")
        return self._converter.convert(PcmChunk(pcm, data[:whole]))

    def end(self) -> PcmChunk | None:
        """What the conversion still owes. Raises SilentError, ProtocolError."""
        if self._rest:
            raise ProtocolError(f"{self._name} ended its sound inside a sample")
        if not self._frames or self._converter is None:
            raise SilentError(f"{self._name} made no sound")
        last = self._converter.flush()
        return last if last.frames else None

    def _format_in(self, data: dict[str, Any]) -> PcmFormat:
        rate, width, channels = data.get("rate"), data.get("width"), data.get("channels")
        match rate, width, channels:
            case int(), int(), int() if (
                rate in RATES and width in WIDTHS and channels in CHANNELS and channels is not True
            ):
                return PcmFormat(rate, channels, width)
        raise ProtocolError(
            f"{self._name} sent sound with rate {rate!a:.20}, width {width!a:.20}, "
            f"channels {channels!a:.20}, which is not supported"
        )


def _plain(passage: Passage) -> str:
    """Single letters are names of letters to most voices when they are capitals."""
    if not passage.is_spelled:
        return passage.text.strip()
    return _LETTER.sub(lambda letter: letter[0].upper(), passage.text)


def _reason(event: Event) -> str:
    text = event.data.get("text")
    return text[:200] if isinstance(text, str) and text else "it failed and gave no reason"
