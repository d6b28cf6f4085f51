"""Whatever is sent to a socket: only documented frames come back, and the next client is served."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from kugel_bridge.gateway.sockets import PATHS
from tests.gateway.wire import REQUEST
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

QUIET_S = 0.005
"""The server answers at once or not at all."""


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FIELDS = words(
    "text voice_id model_id model language sample_rate output_format speed cfg_scale temperature "
    "max_new_tokens normalize word_timestamps speaker_prefix project_id dictionary_ids flush close "
    "end_session cancel close_socket update_settings context_id voice_settings close_context "
    "immediate flush_timeout_ms max_buffer_length unheard_of"
)
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(
        ["Hello there.", " ", "", "One. Two. Three", "<spell>ab</spell>", "<spell>"]
    ),
    "voice_id": st.sampled_from([1, 2, "anna", 0, 77]),
    "context_id": st.sampled_from(["c1", "c2", ""]),
    "voice_settings": st.just({"voice_id": 1}),
    "update_settings": st.sampled_from([{"speed": 1.1}, {"speed": 9}, {"voice_id": 1}, {}]),
    "output_format": st.sampled_from(["ulaw_8000", "pcm_16000"]),
    "flush_timeout_ms": st.sampled_from([0, 1, 500]),
    "language": st.sampled_from(["en", "de"]),
}
WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 24_000, "\ud800", "x" * 20_000, "\0"])
    | st.floats()
    | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.lists(
    st.sampled_from(sorted(FIELDS)).flatmap(
        lambda name: st.tuples(
            st.just(name), (SENSIBLE.get(name, st.booleans())) | st.booleans() | WILD
        )
    ),
    max_size=6,
).map(lambda pairs: json.dumps(dict(pairs)))
MESSAGES = (
    OBJECTS
    | OBJECTS
    | OBJECTS
    | st.text(max_size=60)
    | st.binary(max_size=60)
    | OBJECTS.map(lambda text: text[: len(text) // 2])
    | OBJECTS.map(str.encode)
)

KINDS = words(
    "audio word_timestamps final interrupted settings_updated error generation_started "
    "chunk_complete session_closed context_created context_closed warning"
)
KNOWN = KINDS | words(
    "enc idx sr samples chunk_id context_id chunks total_samples dur_ms gen_ms rtf debug usage "
    "settings error_code code request_id text audio_seconds total_audio_seconds total_text_chunks "
    "total_audio_chunks source fallback"
)

GOOD = {
    "/ws/tts": REQUEST,
    "/ws/tts/stream": REQUEST | {"flush": True},
    "/ws/tts/multi": {
        "text": "Hello there.",
        "context_id": "good",
        "flush": True,
        "voice_settings": {"voice_id": 1},
    },
}


@dataclass
class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    records: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))

    __hash__ = logging.Handler.__hash__


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A gateway in a thread of its own, for many examples."""
    up: list[str] = []
    ready, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with serving(ScriptedEngine([hum(0.05), hum(0.05)])) as server:
            up.append(server.url.replace("http:", "ws:"))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(WAIT_S)
    yield up[0]
    loops[0].call_soon_threadsafe(over.set)
    thread.join(WAIT_S)
    assert not thread.is_alive()


def opened(url: str) -> ClientConnection:
    return connect(url, compression=None, proxy=None, close_timeout=WAIT_S)


def check(text: str | bytes) -> dict[str, Any]:
    """One frame that the API documents."""
    assert isinstance(text, str)
    fields = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {text[:80]}"))
    assert isinstance(fields, dict)
    assert fields.keys() & KINDS, fields
    assert fields.keys() <= KNOWN, fields
    if "error" in fields:
        assert 400 <= fields["code"] <= 599
        assert fields["error_code"]
    return fields


@pytest.mark.parametrize("path", sorted(PATHS))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(messages=st.lists(MESSAGES, min_size=1, max_size=8))
def test_any_messages_get_documented_frames_and_harm_nobody(
    address: str, path: str, messages: list[str | bytes]
) -> None:
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        with opened(address + path) as socket:
            try:
                for message in messages:
                    socket.send(message)
                while True:
                    check(socket.recv(timeout=QUIET_S))
            except (TimeoutError, ConnectionClosed):
                pass
        with opened(address + path) as socket:
            socket.send(json.dumps(GOOD[path]))
            while not (fields := check(socket.recv(timeout=WAIT_S))).get("final"):
                assert "error" not in fields
    finally:
        logging.getLogger().removeHandler(errors)
    assert errors.records == []
