"""Floods, giants, nonsense and our own mistakes: nothing harms the next announcement."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.conductor.intake import Intake
from kugel_bridge.model.announcement import Announcement
from tests.broker import Mosquitto, Script, scripted
from tests.gateway_server import serving
from tests.house import (
    CLIENT_ID,
    SAY,
    Caller,
    Daemon,
    eventually,
    living,
    loud,
    settings_for,
)
from tests.raw_mqtt import RawClient, held_by_broker, publish_packet, remaining_length
from tests.recital import Recital
from tests.simcard import SimCard

LONG = " ".join(["This goes on and on."] * 4)


@pytest.mark.parametrize("number", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.timeout(300)
async def test_of_a_flood_the_first_are_spoken_in_order_and_the_rest_is_accounted_for(
    card: SimCard, tmp_path: Path, number: int
) -> None:
    engine = Recital(0.1, **{LONG: 6.0})
    # Or Mosquitto would throw away what is more than 1,000.
    with Mosquitto(tmp_path / "broker", extra=["max_queued_messages 20000"]) as broker:
        async with serving(engine) as gateway, Caller(broker.port) as caller:
            settings = loud(
                tmp_path,
                broker.port,
                gateway.url,
                queue={"path": str(tmp_path / "queue.db"), "max_waiting": 11},
                cloud={"connect_timeout_s": 20, "first_audio_timeout_s": 20},
            )
            async with Daemon(tmp_path, settings) as daemon:
                await caller.state(state="idle")
                await caller.request("pause")  # however long the flood takes, nothing ends
                await caller.say({"text": LONG, "id": "long"})
                await caller.event("queued", "long")
                before_kb = memory_kb(daemon, "VmRSS")
                flood = b"".join(
                    publish_packet(
                        SAY, b'{"text": "%d", "id": "%d"}' % (n, n), qos=1, mid=n % 9 + 1
                    )
                    for n in range(number)
                )
                with RawClient(broker.port) as raw:
                    await asyncio.to_thread(raw.send, flood)
                    skipped = await caller.outcomes(number - 10)
                    assert set(skipped.values()) == {"skipped"}
                grown_kb = memory_kb(daemon, "VmHWM") - before_kb
                await caller.request("resume")
                await caller.event("started", "long")
                # Some milliseconds; the rest is for a busy test machine.
                async with asyncio.timeout(5.0):
                    assert (await caller.request("stop"))["data"] == {"stopped": 1}
                assert grown_kb < 30_000
                assert (await caller.event())["id"] == "long"
                ends = await caller.outcomes(10)
                assert ends == {str(n): "finished" for n in range(10)}
        heard = engine.heard_in(card.heard())
    assert [h.text for h in heard if h.part == 1.0] == [str(n) for n in range(10)]


@pytest.mark.timeout(120)
async def test_a_huge_message_costs_no_memory_and_the_next_one_is_heard(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings) as daemon:
            await caller.state(state="idle")
            before_kb = memory_kb(daemon, "VmRSS")
            with RawClient(broker.port) as raw:
                await asyncio.to_thread(raw.publish_huge, "kugel/say", 100_000_000)
            await caller.say({"text": "Small", "id": "small"})
            await caller.event("finished", "small")
            assert memory_kb(daemon, "VmHWM") - before_kb < 5_000
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == ["Small"]


@pytest.mark.timeout(120)
async def test_a_huge_message_of_a_broker_without_limits_is_acknowledged_unread(
    card: SimCard, tmp_path: Path
) -> None:
    """Before MQTT 5 no broker knows what is too large for us, and it would send it for ever."""
    engine, over = Recital(), asyncio.Event()
    rejected: list[dict[str, Any]] = []
    size = 100_000_000

    async def play(script: Script) -> None:
        first, login = await script.packet()
        if login[6] != 4:  # the protocol level
            return
        script.send(b"\x20\x02\x00\x00")
        _, body = await script.packet()
        script.send(b"\x90\x0d" + body[:2] + b"\x01" * 11)
        head = len(SAY).to_bytes(2, "big") + SAY.encode() + b"\x00\x09"
        script.send(b"\x32" + remaining_length(len(head) + size) + head)
        for _ in range(size // 1_000_000):
            await script.send_slowly(b"x" * 1_000_000)
        script.send(publish_packet(SAY, b"Small", qos=1, mid=10))
        acknowledged = []
        while acknowledged != [9, 10]:
            first, body = await script.packet()
            if first == 0x40:
                acknowledged.append(int.from_bytes(body[:2], "big"))
            elif first & 0xF6 == 0x32:
                size_of_topic = int.from_bytes(body[:2], "big")
                topic, rest = body[2 : 2 + size_of_topic], body[2 + size_of_topic :]
                script.send(b"\x40\x02" + rest[:2])
                if topic.endswith(b"/event"):
                    rejected.append(json.loads(rest[2:]))
        over.set()
        await script.closed()

    async with serving(engine) as gateway, scripted(play) as port:
        settings = loud(tmp_path, port, gateway.url)
        async with Daemon(tmp_path, settings) as daemon, asyncio.timeout(60):
            await eventually(lambda: "ready" in daemon.log)
            before_kb = memory_kb(daemon, "VmRSS")
            await over.wait()
            assert memory_kb(daemon, "VmHWM") - before_kb < 5_000
    assert rejected[0]["event_type"] == "rejected"
    assert "65536" in rejected[0]["reason"]
    assert engine.whole(card.heard()) == ["Small"]


def nested(depth: int) -> bytes:
    return b'{"text": ' + b"[" * depth + b"]" * depth + b"}"


HOSTILE = {
    "no text": b"\xff\xfe\x80",
    "a zero byte in a broken object": b'{"text": "x\x00"',
    "a long line": b"x" * 120_000,
    "deep nesting": nested(20_000),
    "deeper nesting": nested(30_000),
    "a wrong type": b'{"text": {"a": 1}}',
    "a list of numbers": b"[1, 2, 3]",
    "NaN": b'{"text": "x", "ttl": NaN}',
    "infinity": b'{"text": "x", "volume": 1e999}',
    "half a character": b'{"text": "\\ud800"}',
    "a huge number": b'{"text": "x", "ttl": ' + b"9" * 5_000 + b"}",
    "nothing to say": b'{"text": "\\u0000"}',
}


async def test_no_message_harms_the_next_one(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings) as daemon:
            await caller.state(state="idle")
            with RawClient(broker.port) as raw:
                for payload in HOSTILE.values():
                    raw.publish(SAY, payload)
                    rejected = await caller.event()
                    assert rejected["event_type"] == "rejected", (payload[:40], rejected)
                    assert 5 < len(rejected["reason"]) < 300
                raw.publish(SAY, b"")  # is nothing, and has no outcome
                raw.publish(SAY, b'{"text": "First", "text": "Last", "id": "doubled"}')
                await caller.event("finished", "doubled")
            await caller.say({"text": "Unharmed", "id": "unharmed"})
            await caller.event("finished", "unharmed")
            assert "Traceback" not in daemon.log
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == ["Last", "Unharmed"]


@pytest.mark.parametrize(
    "packet",
    [
        publish_packet(b"kugel/\xff\xfe/say", b"x", qos=1),
        publish_packet(b"kugel/hall/say\x00", b"x", qos=1),
        b"\x32\x05\x00\x0ekugel",
        b"\x30\xff\xff\xff\xff\x01",
        b"\x36\x04\x00\x01ax",
    ],
)
async def test_a_packet_that_is_none_ends_with_its_sender(
    broker: Mosquitto, caller: Caller, tmp_path: Path, packet: bytes
) -> None:
    async with living(settings_for(tmp_path, broker.port)) as bridge:
        await caller.state(state="idle")
        with RawClient(broker.port) as raw:
            raw.send(packet + b"\x00" * 16)
            assert await asyncio.to_thread(raw.is_closed)
        await caller.say({"text": "Unharmed", "id": "unharmed"})
        await caller.event("finished", "unharmed")
        assert bridge.health()["mqtt"]["errors"] == 0


async def test_an_error_of_ours_is_an_outcome_and_counted_and_the_next_is_heard(
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, accept = Recital(), Intake.accept

    def accept_but(self: Intake, announcement: Announcement, *rest: Any) -> None:
        if announcement.text == "Bug":
            raise ZeroDivisionError
        accept(self, announcement, *rest)

    monkeypatch.setattr(Intake, "accept", accept_but)
    async with (
        serving(engine) as gateway,
        living(loud(tmp_path, broker.port, gateway.url)) as bridge,
    ):
        await caller.say({"text": "Bug", "id": "bug"})
        rejected = await caller.event()
        assert (rejected["event_type"], rejected["id"]) == ("rejected", "bug")
        assert "internal error" in rejected["reason"]
        await caller.say({"text": "Fine", "id": "fine"})
        await caller.event("finished", "fine")
        assert bridge.health()["mqtt"]["errors"] == 1
    assert engine.whole(card.heard()) == ["Fine"]
    assert held_by_broker(broker.port, CLIENT_ID) == []


def memory_kb(daemon: Daemon, what: str) -> int:
    """A figure of its memory: VmRSS, or VmHWM for the most it ever had."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0])
