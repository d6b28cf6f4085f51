"""One connection against a scripted broker: the limits that a broker may set."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from kugel_bridge.mqtt.broker import Broker
from kugel_bridge.mqtt.message import Outgoing, Will
from kugel_bridge.mqtt.verdict import End, Version, WireError
from kugel_bridge.mqtt.wire import Wire
from tests.broker import Script, scripted
from tests.mqtt.conftest import WAIT_S, until


def wire(
    port: int,
    *,
    version: Version = Version.MQTT_5,
    timeout_s: float = 5.0,
    unkept: Collection[str] = (),
) -> Wire:
    return Wire(
        Broker("127.0.0.1", port, "bridge", connect_timeout_s=timeout_s),
        Will("gone", b"gone"),
        version=version,
        context=None,
        on_message=lambda _message: None,
        on_room=lambda: None,
        unkept=unkept,
    )


async def test_the_login_asks_for_a_lasting_session_and_sets_our_limits() -> None:
    login: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def play(script: Script) -> None:
        login.set_result((await script.packet())[1])
        script.send(b"\x20\x03\x01\x00\x00")
        await script.closed()

    async with scripted(play) as port:
        line = wire(port)
        welcome = await line.open()
        assert welcome.session_present
        line.close()
    body = login.result()
    assert body[:7] == b"\x00\x04MQTT\x05"
    flags, keepalive = body[7], int.from_bytes(body[8:10], "big")
    assert flags & 0x02 == 0, "a clean start would lose what waits for us"
    assert flags & 0x3C == 0x2C, "a retained will at QoS 1"
    assert keepalive == 8
    properties = body[11 : 11 + body[10]]
    assert b"\x11\x00\x00\x0e\x10" in properties, "the session lasts an hour"
    assert b"\x21\x00\x14" in properties, "20 messages at a time"
    assert b"\x27\x00\x02\x00\x00" in properties, "128 KiB at most"


async def test_subscriptions_want_no_stored_messages_and_nothing_of_our_own() -> None:
    asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def play(script: Script) -> None:
        await script.packet()
        script.send(b"\x20\x03\x00\x00\x00")
        _, body = await script.packet()
        asked.set_result(body)
        script.send(b"\x90\x05" + body[:2] + b"\x00\x01\x87")
        await script.closed()

    async with scripted(play) as port:
        line = wire(port, unkept=["b"])
        await line.open()
        assert await line.subscribe(["a", "b"]) == {"b": "Not authorized"}
        line.close()
    options = 0x04 | 0x08 | 0x20  # no local, retain as published, no retained
    kept, unkept = bytes([options | 0x01]), bytes([options])
    assert asked.result()[2:] == b"\x00\x00\x01a" + kept + b"\x00\x01b" + unkept


async def test_the_limits_of_a_broker_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    first_bytes: list[int] = []

    async def play(script: Script) -> None:
        await script.packet()
        # Receive Maximum 3, Maximum QoS 0, Maximum Packet Size 1000
        script.send(b"\x20\x0d\x00\x00\x0a\x21\x00\x03\x24\x00\x27\x00\x00\x03\xe8")
        while True:
            first_bytes.append((await script.packet())[0])

    async with scripted(play) as port:
        line = wire(port)
        welcome = await line.open()
        assert (welcome.send_window, welcome.max_qos, welcome.max_packet_bytes) == (3, 0, 1000)
        line.send(Outgoing("a", b"x" * 2000))
        assert "too many for this broker" in caplog.text
        assert not line.in_flight
        for _ in range(3):
            assert line.has_room
            line.send(Outgoing("a", b"x"))
        assert not line.has_room, "until they are written"
        await until(lambda: first_bytes == [0x30] * 3)
        assert line.has_room
        line.close()


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (b"\x20\x03\x00\x84\x00", End.VERSION),
        (b"\x20\x02\x00\x01", End.VERSION),
        (b"\x20\x03\x00\x86\x00", End.REFUSED),
        (b"\x20\x03\x00\x87\x00", End.REFUSED),
        (b"\x20\x03\x00\x85\x00", End.REFUSED),
        (b"\x20\x03\x00\x88\x00", End.LOST),
        (b"\x20\x03\x00\x82\x00", End.UNANSWERED),
        (b"\xe0\x02\x8e\x00", End.TAKEN_OVER),
        (b"", End.UNANSWERED),
    ],
)
async def test_why_a_login_failed_decides_what_comes_next(answer: bytes, end: End) -> None:
    async def play(script: Script) -> None:
        await script.packet()
        script.send(answer)

    async with scripted(play) as port:
        line = wire(port)
        with pytest.raises(WireError) as caught:
            await line.open()
        assert caught.value.end is end
        assert not line.alive
        line.close()
        line.close()


@pytest.mark.parametrize(
    ("code", "end"), [(2, End.REFUSED), (3, End.LOST), (4, End.REFUSED), (5, End.REFUSED)]
)
async def test_the_codes_of_3_1_1_mean_the_same(code: int, end: End) -> None:
    async def play(script: Script) -> None:
        await script.packet()
        script.send(b"\x20\x02\x00" + bytes([code]))

    async with scripted(play) as port:
        line = wire(port, version=Version.MQTT_3_1_1)
        with pytest.raises(WireError) as caught:
            await line.open()
        assert caught.value.end is end
        line.close()


async def test_a_broker_without_a_word_is_given_up() -> None:
    async with scripted(lambda script: script.closed()) as port:
        line = wire(port, timeout_s=0.05)
        with pytest.raises(WireError, match="in vain for the broker's answer") as caught:
            async with asyncio.timeout(WAIT_S):
                await line.open()
        assert caught.value.end is End.UNANSWERED
        line.close()


async def test_keeping_returns_after_the_given_time_while_the_connection_stands() -> None:
    async def play(script: Script) -> None:
        await script.packet()
        script.send(b"\x20\x03\x00\x00\x00")
        await script.closed()

    async with scripted(play) as port:
        line = wire(port)
        await line.open()
        assert await line.keep(0.01) is None
        line.close()
        ended = await line.keep()
        assert ended is not None
        assert str(ended) == "closed by us"
