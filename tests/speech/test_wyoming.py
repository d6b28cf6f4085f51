from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.ping import Pong
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.tts import Synthesize

from kugel_bridge.model.errors import (
    BridgeError,
    ProtocolError,
    ServiceUnavailableError,
    TooSlowError,
)
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.wyoming import Address, WyomingSource, parse_uri
from tests.speech.measuring import recorded
from tests.speech.sounds import utterance

HEADER = b'{"type": "audio-start", "data": {"rate": 22050, "width": 2, "channels": 1}}\n'
STOP = b'{"type": "audio-stop"}\n'


def chunk_of(payload: bytes, **changes: object) -> bytes:
    """An audio-chunk as it is on the wire."""
    data = {"rate": 22_050, "width": 2, "channels": 1} | changes
    header = {"type": "audio-chunk", "data": data, "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + payload


class Speaker(AsyncEventHandler):
    """A server that says each text as a tone as long as the text; notes what it was asked."""

    def __init__(
        self,
        asked: list[Synthesize],
        answer: Sequence[Event] | None,
        *streams: asyncio.StreamReader,
    ) -> None:
        super().__init__(*streams)  # type: ignore[call-arg, arg-type]
        self._asked, self._answer = asked, answer

    async def handle_event(self, event: Event) -> bool:
        if not Synthesize.is_type(event.type):
            return True
        request = Synthesize.from_event(event)
        self._asked.append(request)
        for piece in self._answer or self._spoken(request.text):
            await self.write_event(piece)
        return True

    def _spoken(self, text: str) -> list[Event]:
        sound = AudioChunk(16_000, 2, 1, b"\x00\x20" * 100)
        pieces = [AudioStart(16_000, 2, 1).event(), Pong("unasked").event()]
        return [*pieces, *(sound.event() for _ in text), AudioStop().event()]


@asynccontextmanager
async def speaking(
    asked: list[Synthesize] | None = None, answer: Sequence[Event] | None = None
) -> AsyncIterator[str]:
    """The URI of a real Wyoming server."""
    server = AsyncServer.from_uri("tcp://127.0.0.1:0")
    handler = partial(Speaker, asked if asked is not None else [], answer)
    await server.start(handler)
    try:
        port = server._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        yield f"tcp://127.0.0.1:{port}"
    finally:
        await server.stop()


@asynccontextmanager
async def lying(*answer: bytes, holds: bool = False) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A raw server that answers these bytes; the event is set when the client has gone."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            for piece in answer:
                writer.write(piece)
                await writer.drain()
            while holds and await reader.read(1000):
                pass
        except ConnectionError:
            pass
        finally:
            gone.set()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", gone
    finally:
        server.close()


async def test_a_text_is_spoken_by_the_voice() -> None:
    asked: list[Synthesize] = []
    async with speaking(asked) as uri:
        sound = await recorded(WyomingSource(uri, "de_DE-thorsten").stream(utterance("Hallo")))
    assert sound.format == PcmFormat(16_000)
    assert sound.frames == 500
    (request,) = asked
    assert request.text == "Hallo"
    assert request.voice is not None
    assert request.voice.name == "de_DE-thorsten"


async def test_without_a_voice_the_language_chooses() -> None:
    asked: list[Synthesize] = []
    async with speaking(asked) as uri:
        await recorded(WyomingSource(uri).stream(utterance("Hallo")))
    assert asked[0].voice is not None
    assert (asked[0].voice.name, asked[0].voice.language) == (None, "de")


async def test_markup_is_carried_out_here() -> None:
    asked: list[Synthesize] = []
    text = "Halt <break/> Code <spell>a-1</spell> <b>5 < 6</b> <prosody rate='slow'>ja</prosody>"
    async with speaking(asked) as uri:
        sound = await recorded(WyomingSource(uri).stream(utterance(text)))
    assert [request.text for request in asked] == ["Halt", "Code", "A Strich 1", "5 < 6 ja"]
    spoken = 100 * sum(len(request.text) for request in asked)
    assert sound.frames == spoken + 16_000 * (0.2 + 0.05 + 0.05)


async def test_other_formats_become_mono_of_16_bit() -> None:
    stereo = AudioChunk(44_100, 3, 2, b"\x00\x00\x20\x00\x00\x20" * 50).event()
    answer = [AudioStart(44_100, 3, 2).event(), stereo, AudioStop().event()]
    async with speaking(answer=answer) as uri:
        sound = await recorded(WyomingSource(uri).stream(utterance("Hallo")))
    assert sound == PcmChunk(PcmFormat(44_100), b"\x00\x20" * 50)


async def test_samples_may_be_cut_between_two_chunks() -> None:
    async with lying(HEADER, chunk_of(b"\x01\x02\x03"), chunk_of(b"\x04"), STOP) as (uri, _):
        sound = await recorded(WyomingSource(uri).stream(utterance("Hallo")))
    assert sound.data == b"\x01\x02\x03\x04"


async def test_an_error_of_the_server_is_told() -> None:
    async with speaking(answer=[Error("no such voice", "voice").event()]) as uri:
        with pytest.raises(ServiceUnavailableError, match="no such voice") as caught:
            await recorded(WyomingSource(uri).stream(utterance("Hallo")))
    assert uri in str(caught.value)


async def test_who_stops_listening_hangs_up() -> None:
    async with lying(HEADER, chunk_of(bytes(2000)), holds=True) as (uri, gone):
        chunks = WyomingSource(uri).stream(utterance("Hallo"))
        await anext(chunks)
        await chunks.aclose()
        async with asyncio.timeout(30):
            await gone.wait()


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ([], ProtocolError, "before audio-stop"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], ProtocolError, "no event"),
        ([b"\xff\xfe\x00 \n"], ProtocolError, "no event"),
        ([b"[1, 2]\n"], ProtocolError, "no event"),
        ([b"[" * 5_000 + b"\n"], ProtocolError, "no event"),
        ([b"{}\n"], ProtocolError, "no event"),
        ([b'{"type": 5}\n'], ProtocolError, "no event"),
        ([b'{"type": "audio-start", "data": 5}\n'], ProtocolError, "cannot be read"),
        ([b'{"type": "x", "data_length": 3}\n[1]'], ProtocolError, "cannot be read|nonsense"),
        ([b'{"type": "x", "data_length": 3}\nabc'], ProtocolError, "nonsense"),
        ([b'{"type": "x", "data_length": "3"}\nabc'], ProtocolError, "cannot be read|announced"),
        ([b'{"type": "x", "payload_length": 99999999999}\n'], ProtocolError, "announced"),
        ([b"x" * 200_000], ProtocolError, "without an end"),
        ([STOP], ServiceUnavailableError, "no sound"),
        ([HEADER, STOP], ServiceUnavailableError, "no sound"),
        ([HEADER, chunk_of(bytes(200))], ProtocolError, "before audio-stop"),
        ([HEADER, chunk_of(bytes(200))[:-50]], ProtocolError, "in the middle"),
        ([HEADER, chunk_of(bytes(201)), STOP], ProtocolError, "inside a sample"),
        ([HEADER, chunk_of(bytes(200), rate=16_000), STOP], ProtocolError, "changed its format"),
        ([chunk_of(bytes(200), width=1), STOP], ProtocolError, "width 1"),
        ([chunk_of(bytes(200), width=7), STOP], ProtocolError, "width 7"),
        ([chunk_of(bytes(200), width=2.0), STOP], ProtocolError, "width 2.0"),
        ([chunk_of(bytes(200), rate=0), STOP], ProtocolError, "rate 0"),
        ([chunk_of(bytes(200), rate="22050"), STOP], ProtocolError, "rate '22050'"),
        ([chunk_of(bytes(200), channels=1000), STOP], ProtocolError, "channels 1000"),
        ([b'{"type": "error"}\n'], ServiceUnavailableError, "gave no reason"),
    ],
)
async def test_a_server_that_lies_is_an_error(
    answer: list[bytes], kind: type[BridgeError], reason: str
) -> None:
    async with lying(*answer) as (uri, _):
        with pytest.raises(kind, match=reason):
            await recorded(WyomingSource(uri).stream(utterance("Hallo")))


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [HEADER],
        [b'{"type": "audio-chunk"'],
        [HEADER, chunk_of(bytes(200))],
        [HEADER, chunk_of(bytes(200))[:-50]],
    ],
    ids=["nothing", "only a beginning", "half a header", "one chunk", "half a chunk"],
)
async def test_a_server_that_stalls_is_given_up(answer: list[bytes]) -> None:
    async with lying(*answer, holds=True) as (uri, gone):
        source = WyomingSource(uri, first_sound_timeout_s=0.2, stall_timeout_s=0.2)
        with pytest.raises(TooSlowError, match=r"0\.2 s"):
            await recorded(source.stream(utterance("Hallo")))
        async with asyncio.timeout(30):
            await gone.wait()


async def test_chatter_does_not_pass_for_sound() -> None:
    pong = Pong("x").event()
    line = json.dumps(pong.to_dict()).encode() + b"\n"
    running = True

    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while running:
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(chatter, "127.0.0.1", 0)
    uri = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    source = WyomingSource(uri, first_sound_timeout_s=0.3)
    try:
        with pytest.raises(TooSlowError):
            await recorded(source.stream(utterance("Hallo")))
    finally:
        running = False
        server.close()


async def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    uri = f"tcp://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(ServiceUnavailableError, match=f"{uri} cannot be reached"):
        await recorded(WyomingSource(uri).stream(utterance("Hallo")))


async def test_a_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wyoming.tts", None)
    with pytest.raises(ServiceUnavailableError, match=r"pip install 'kugel-bridge\[wyoming\]'"):
        await recorded(WyomingSource("tcp://127.0.0.1:1").stream(utterance("Hallo")))


async def test_that_speed_has_no_effect_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    fast = Utterance(text="Hallo", language="de", speed=1.2)
    async with speaking() as uri:
        source = WyomingSource(uri)
        with caplog.at_level("INFO"):
            for _ in range(2):
                assert (await recorded(source.stream(fast))).frames == 500
    assert [line for line in caplog.messages if "speed" in line] == [
        f"local: the Wyoming server {uri} cannot change its speed"
    ]


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("tcp://127.0.0.1:10200", Address("127.0.0.1", 10_200)),
        ("tcp://piper.local:1/", Address("piper.local", 1)),
        ("tcp://[::1]:10200", Address("::1", 10_200)),
    ],
)
def test_an_address_is_read(uri: str, address: Address) -> None:
    assert parse_uri(uri) == address


@pytest.mark.parametrize(
    "uri",
    ["", "x", "tcp://", "tcp://x", "tcp://x:", "tcp://x:0", "tcp://x:99999", "tcp://x:a", "unix:///a",
     "http://x:1", "tcp://x:1/path", "tcp://x:1?a=b", "tcp://u:p@x:1", "tcp://[::1:5"],
)  # fmt: skip
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"tcp://127\.0\.0\.1:10200"):
        parse_uri(uri)
