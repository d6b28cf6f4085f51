"""Faults on order on sockets, as they are seen on the wire."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from kugel_bridge.gateway.orders import Garbage, parse
from tests.gateway.misbehaving import FRAMES, asked, faulty, is_silent, received
from tests.gateway.raw import BINARY, CLOSE, Raw, raw
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import ScriptedEngine, serving

# --- the wire: doors and ends ---------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws/tts", "/v1/voices"])
async def test_a_refusal_has_the_status_code_and_wait_that_were_ordered(path: str) -> None:
    order = "do=refuse status=429 error_code=RATE_LIMITED retry_after=17"
    async with faulty(order) as server, raw(server) as client:
        head = await client.upgrade(path)
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nretry-after: 17\r\n" in head.lower()
        assert json.loads(await client.rest()) == {
            "error": "Rate limit exceeded",
            "error_code": "RATE_LIMITED",
            "code": 429,
        }


@pytest.mark.parametrize(
    ("body", "shown"),
    [("html", b"<html>"), ("truncated", b'{"error": '), ("empty", b""), ("json", b"{")],
)
async def test_the_body_of_a_refusal_may_be_anything(body: str, shown: bytes) -> None:
    async with faulty(f"do=refuse body={body}") as server, raw(server) as client:
        await client.upgrade()
        said = await client.rest()
    assert said.startswith(shown)
    assert body == "json" or not said.endswith(b"}")


@pytest.mark.parametrize(
    ("wait", "shown"),
    [("date", b" gmt\r\n"), ("nonsense", b"soon"), ("huge", b"99999999999999"), ("0", b" 0\r\n")],
)
async def test_the_wait_of_a_refusal_may_be_anything(wait: str, shown: bytes) -> None:
    async with faulty(f"do=refuse retry_after={wait}") as server, raw(server) as client:
        head = (await client.upgrade()).lower()
    assert shown in head[head.index(b"retry-after:") :]


@pytest.mark.parametrize("after", [0, 2])
async def test_a_close_frame_has_its_code_and_reason(after: int) -> None:
    async with asked(f"after={after} do=close code=4029 reason='too many'") as client:
        await received(client, after)
        assert await client.frame() == (CLOSE, (4029).to_bytes(2, "big") + b"too many")


@pytest.mark.parametrize("after", [0, 2])
async def test_a_reset_comes_after_the_frames_that_were_ordered(after: int) -> None:
    async with asked(f"after={after} do=reset") as client:
        await received(client, after)
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize("after", [0, 2])
async def test_an_end_of_file_has_no_close_frame(after: int) -> None:
    async with asked(f"after={after} do=eof") as client:
        await received(client, after)
        assert await client.rest() == b""


@pytest.mark.parametrize("kind", ["eof", "reset"])
async def test_a_cut_after_bytes_is_in_the_middle_of_a_frame(kind: str) -> None:
    async with asked(f"after=20000b do={kind}") as client:
        size = len(json.dumps(await client.receive(), separators=(",", ":")))
        got = b""
        try:
            while part := await client.reader.read(65536):
                got += part
        except ConnectionResetError:
            assert kind == "reset"
        else:
            assert kind == "eof"
    assert len(got) == 20_000 - size


@pytest.mark.parametrize("kind", ["eof", "reset"])
async def test_an_end_before_the_handshake_is_answered(kind: str) -> None:
    async with faulty(f"at=door do={kind}") as server, raw(server) as client:
        try:
            assert await client.upgrade() == b""
        except asyncio.IncompleteReadError as error:
            assert (kind, error.partial) == ("eof", b"")
        except ConnectionResetError:
            assert kind == "reset"


@pytest.mark.parametrize(
    ("order", "shown"),
    [("do=close code=1013", (CLOSE, b"\x03\xf5")), ("do=error status=401", None)],
)
async def test_a_socket_is_accepted_and_then_refused(
    order: str, shown: tuple[int, bytes] | None
) -> None:
    async with faulty(f"at=open {order}") as server, raw(server) as client:
        await client.upgrade()
        if shown is None:
            assert (await client.receive())["error_code"] == "UNAUTHORIZED"
        else:
            assert await client.frame() == shown


async def test_an_idle_socket_is_closed_after_its_answer() -> None:
    async with asked("at=end do=eof") as client:
        frames = await received(client, FRAMES + 1)
        assert "final" in frames[-1]
        assert await client.rest() == b""


# --- the wire: sound ------------------------------------------------------------------


async def test_an_error_frame_takes_the_place_of_the_rest_of_the_sound() -> None:
    async with asked("after=1 do=error error_code=MODEL_UNAVAILABLE times=1") as client:
        frames = await received(client, 2)
        assert "audio" in frames[0]
        assert (frames[1]["error_code"], frames[1]["code"]) == ("MODEL_UNAVAILABLE", 503)
        await client.say(REQUEST)
        assert "final" in (await received(client, FRAMES + 1))[-1]


async def test_a_stall_answers_pings_and_nothing_else() -> None:
    async with asked("after=1 do=stall") as client:
        await received(client, 1)
        assert await is_silent(client)
        await client.say(REQUEST)
        assert await is_silent(client)


async def test_a_stall_at_the_door_says_nothing_at_all() -> None:
    async with faulty("at=door do=stall times=1") as server, raw(server) as client:
        await client.send(b"GET /v1/voices HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as other:
            assert (await other.get("/v1/voices")).status_code == 200
        client.writer.write_eof()
        assert await client.rest() == b""


async def test_delays_are_as_long_as_ordered() -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    async with asked("do=delay ms=120", "do=slow ms=40") as client:
        await client.receive()
        assert loop.time() - started_s >= 0.16
        await received(client, FRAMES)
        assert loop.time() - started_s >= 0.12 + FRAMES * 0.04


@pytest.mark.parametrize("order", ["at=door do=drip rate=2000", "do=drip rate=60000"])
async def test_a_drip_lets_so_many_bytes_through(order: str) -> None:
    loop = asyncio.get_running_loop()
    async with faulty(order) as server, raw(server) as client:
        started_s = loop.time()
        passed = len(await client.upgrade())
        if "door" not in order:
            started_s, passed = loop.time(), 0
            await client.say(REQUEST)
            for _ in range(2):
                passed += len((await client.frame())[1])
        rate = int(order.rpartition("=")[2])
        # The first drop does not wait.
        assert loop.time() - started_s >= (passed - rate / 20) / rate * 0.9


@pytest.mark.parametrize("kind", list(Garbage))
async def test_one_frame_is_garbage_and_the_others_are_not(kind: Garbage) -> None:
    async with asked(f"after=1 do=garbage kind={kind}") as client:
        first = await client.receive()
        opcode, data = await client.frame()
        rest = await received(client, FRAMES - 1)
    assert "final" in rest[-1]
    assert is_garbage(kind, opcode, data, first)


def is_garbage(kind: Garbage, opcode: int, data: bytes, healthy: dict[str, Any]) -> bool:
    if kind is Garbage.BINARY:
        return opcode == BINARY and data[:1] != b"{"
    if kind in (Garbage.TEXT, Garbage.HTML, Garbage.TRUNCATED, Garbage.NESTED):
        with pytest.raises((ValueError, RecursionError)):
            json.loads(data)
        return True
    fields = json.loads(data)
    if kind is Garbage.LIST:
        return isinstance(fields, list)
    match kind:
        case Garbage.BASE64:
            with pytest.raises(ValueError, match=r"base64|alphabet|characters"):
                base64.b64decode(fields["audio"], validate=True)
        case Garbage.ODD:
            return len(base64.b64decode(fields["audio"])) % 2 == 1
        case Garbage.EMPTY:
            return fields["audio"] == ""
        case Garbage.RATE | Garbage.OTHER_RATE:
            return fields["sr"] != healthy["sr"]
        case Garbage.ENC:
            return fields["enc"] != healthy["enc"]
        case Garbage.NAN:
            return b"NaN" in data
        case Garbage.INDEX:
            return fields["idx"] != healthy["idx"] + 1
    return True


async def test_sound_is_left_out() -> None:
    async with asked("do=silence") as client:
        assert "final" in await client.receive()


async def test_the_end_is_left_out() -> None:
    async with asked("do=no-final") as client:
        assert all("audio" in each for each in await received(client, FRAMES))
        assert await is_silent(client)


async def test_the_end_comes_twice() -> None:
    async with asked("do=twice") as client:
        frames = await received(client, FRAMES + 2)
    assert [("final" in each) for each in frames] == [False] * FRAMES + [True, True]


async def test_sound_without_end() -> None:
    async with asked("do=endless") as client:
        numbers = [each["idx"] for each in await received(client, 500)]
    assert numbers == list(range(500))


async def test_sound_faster_than_real_time() -> None:
    async with asked("after=1 do=flood seconds=600") as client:
        seconds = 0.0
        while "final" not in (fields := await client.receive()):
            seconds += fields["samples"] / fields["sr"]
    assert 600.4 < seconds < 600.8


async def test_one_enormous_frame() -> None:
    async with asked("do=huge bytes=3000000") as client:
        _, data = await client.frame()
        assert len(data) >= 3_000_000
        fields = json.loads(data)
        assert len(base64.b64decode(fields["audio"])) == 2 * fields["samples"]


async def test_sound_after_the_end_and_after_an_interruption() -> None:
    async with asked("do=late frames=2") as client:
        frames = await received(client, FRAMES + 1 + 2)
        assert ["audio" in each for each in frames[-3:]] == [False, True, True]
    hold = asyncio.Event()
    engine = ScriptedEngine(hold=hold)
    async with (
        serving(engine, faults=[parse("do=late frames=2")]) as server,
        wire(server) as client,
    ):
        await client.send(REQUEST)
        await client.receive()
        await client.send({"cancel": True})
        assert await client.receive() == {"interrupted": True}
        assert ["audio" in await client.receive() for _ in range(2)] == [True, True]


async def test_sound_before_any_was_asked_for() -> None:
    async with faulty("do=early frames=2") as server, raw(server) as client:
        await client.upgrade()
        assert ["audio" in each for each in await received(client, 2)] == [True, True]


# --- the other two sockets ------------------------------------------------------------

TURN = REQUEST | {"flush": True}


def context(name: str) -> dict[str, Any]:
    return {
        "text": "Hello there.",
        "context_id": name,
        "flush": True,
        "voice_settings": {"voice_id": 1},
    }


def kinds(frames: list[dict[str, Any]]) -> list[str]:
    known = ("audio", "final", "session_closed", "error", "context_closed")
    return [name for each in frames for name in known if name in each]


async def until_kind(client: Raw, kind: str) -> list[dict[str, Any]]:
    frames = [await client.receive()]
    while kind not in frames[-1]:
        frames.append(await client.receive())
    return frames


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("after=1 do=error", ["audio", "error"]),
        ("do=silence", ["final", "session_closed"]),
        ("do=twice", ["audio"] * FRAMES + ["final"] * 2 + ["session_closed"] * 2),
        ("do=no-final", ["audio"] * FRAMES),
        ("do=late frames=1", ["audio"] * FRAMES + ["final", "session_closed", "audio"]),
        ("at=end do=error", ["audio"] * FRAMES + ["final", "session_closed", "error"]),
    ],
)
async def test_a_turn_goes_wrong_and_the_next_one_does_not(order: str, expected: list[str]) -> None:
    async with faulty(f"on=/ws/tts/stream times=1 {order}") as server, raw(server) as client:
        await client.upgrade("/ws/tts/stream")
        await client.say(TURN, TURN)
        frames = await until_kind(client, "generation_started")
        # Up to the beginning of the second turn.
        frames += (await until_kind(client, "generation_started"))[:-1]
        assert kinds(frames) == expected
        assert kinds(await until_kind(client, "session_closed")) == [
            *["audio"] * FRAMES,
            "final",
            "session_closed",
        ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("after=1 do=error", ["audio", "error"]),
        ("do=silence", ["final"]),
        ("do=no-final", ["audio"] * FRAMES),
    ],
)
async def test_one_context_goes_wrong_and_the_other_does_not(
    order: str, expected: list[str]
) -> None:
    async with faulty(f"on=/ws/tts/multi times=1 {order}") as server, raw(server) as client:
        await client.upgrade("/ws/tts/multi")
        await client.say(context("bad"), {"close_context": True, "context_id": "bad"})
        frames = await until_kind(client, "context_closed")
        assert {each["context_id"] for each in frames} == {"bad"}
        # What ends the context itself stays when a fault has eaten only its sound.
        assert [kind for kind in kinds(frames) if kind != "context_closed"][: len(expected)] == (
            expected
        )
        await client.say(context("good"))
        assert kinds(await until_kind(client, "final")) == [*["audio"] * FRAMES, "final"]
