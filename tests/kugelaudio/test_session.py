from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.codes import GENERATION_FAILED, INVALID_REQUEST, RATE_LIMITED
from kugel_bridge.kugelaudio.frames import AudioFrame, Finished, Interrupted, parse_frame
from kugel_bridge.kugelaudio.messages import (
    Encoding,
    Settings,
    SpeechRequest,
    Usage,
    parse_message,
)
from kugel_bridge.kugelaudio.session import ClientSession, ServerSession
from kugel_bridge.model.errors import ProtocolError

REQUEST = SpeechRequest("Hello.", "en", 1)
SOUND = AudioFrame(bytes(4), Encoding.PCM, 24_000).to_json()


def test_a_request_goes_out_only_after_the_one_before_has_ended() -> None:
    session = ClientSession()
    assert parse_message(session.request(REQUEST)) == REQUEST
    assert not session.reusable
    with pytest.raises(RuntimeError):
        session.request(REQUEST)
    session.receive(SOUND)
    session.receive(Finished().to_json())
    assert session.reusable
    session.request(REQUEST)


def test_sound_that_nobody_asked_for_spends_the_socket() -> None:
    session = ClientSession()
    with pytest.raises(ProtocolError):
        session.receive(SOUND)
    assert not session.reusable


def test_garbage_spends_the_socket() -> None:
    session = ClientSession()
    session.request(REQUEST)
    with pytest.raises(ProtocolError):
        session.receive("<html>")
    session.abandon()
    assert not session.reusable


@pytest.mark.parametrize(
    ("frame", "reusable"),
    [
        (INVALID_REQUEST.to_json(), True),
        (RATE_LIMITED.to_json(), False),
        (GENERATION_FAILED.to_json(), False),
        (Interrupted().to_json(), False),
        ('{"error": "odd"}', False),
    ],
)
def test_only_a_refusal_of_the_request_itself_keeps_the_socket(frame: str, reusable: bool) -> None:
    session = ClientSession()
    session.request(REQUEST)
    session.receive(frame)
    assert session.reusable is reusable


def test_a_refusal_while_idle_spends_the_socket() -> None:
    session = ClientSession()
    session.receive(INVALID_REQUEST.to_json())
    assert not session.reusable


@given(st.lists(st.sampled_from(["request", "audio", "final", "error", "other", "junk"])))
def test_no_order_of_frames_makes_a_busy_socket_reusable(steps: list[str]) -> None:
    frames = {
        "audio": SOUND,
        "final": Finished().to_json(),
        "error": RATE_LIMITED.to_json(),
        "other": "{}",
        "junk": "{",
    }
    session, busy = ClientSession(), False
    for step in steps:
        if step == "request":
            if session.reusable:
                session.request(REQUEST)
                busy = True
            continue
        with contextlib.suppress(ProtocolError):
            session.receive(frames[step])
        if step == "final":
            busy = False
        assert not (busy and session.reusable)


def test_the_server_numbers_the_frames_of_each_request_from_zero() -> None:
    session = ServerSession()
    for _ in range(2):
        session.begin(REQUEST)
        frames = [parse_frame(session.audio(bytes(4))) for _ in range(3)]
        assert [f.index for f in frames if isinstance(f, AudioFrame)] == [0, 1, 2]
        end = session.finish(made_s=1.0, gen_ms=150, first_audio_ms=42.1, usage=Usage(1.0, 6))
        final = parse_frame(end)
        assert isinstance(final, Finished)
        assert (final.chunks, final.dur_ms, final.text) == (3, 1000, "Hello.")
        assert final.total_samples == 24_000


def test_the_length_is_told_as_of_native_sound_before_its_speed_was_changed() -> None:
    session = ServerSession()
    session.begin(dataclasses.replace(REQUEST, speed=0.8, output_format="ulaw_8000"))
    end = session.finish(made_s=2.5, gen_ms=150, first_audio_ms=42.1, usage=Usage(2.5, 6))
    final = parse_frame(end)
    assert isinstance(final, Finished)
    assert (final.total_samples, final.dur_ms) == (48_000, 2_000)
    assert final.usage == Usage(2.5, 6)


def test_the_server_never_sends_a_frame_outside_of_a_request() -> None:
    session = ServerSession()
    with pytest.raises(RuntimeError):
        session.audio(b"")
    session.begin(REQUEST)
    with pytest.raises(RuntimeError):
        session.begin(REQUEST)
    session.interrupt()
    with pytest.raises(RuntimeError):
        session.audio(b"")


def test_updated_settings_add_up() -> None:
    session = ServerSession()
    session.update(Settings(speed=1.1))
    session.update(Settings(language="de"))
    assert session.settings == Settings(speed=1.1, language="de")
