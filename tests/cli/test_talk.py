"""The conversation behind the commands, also with a broker and callers that behave badly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.app import parts
from kugel_bridge.cli import talk
from kugel_bridge.cli.talk import ASK_AGAIN_S, Talk
from kugel_bridge.settings.tree import Settings
from tests.broker import Mosquitto, Peer, Script, scripted
from tests.house import living, settings_for

CONNACK = b"\x20\x03\x00\x00\x00"


class ShiftedClock:
    """The machine's clock, moved ahead."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def talking(folder: Path, port: int) -> Talk:
    settings = Settings.model_validate(settings_for(folder, port))
    return Talk(parts.broker(settings), parts.topics(settings), "kugel", "hall")


async def test_a_refusal_without_our_id_ends_the_waiting(broker: Mosquitto, tmp_path: Path) -> None:
    def told() -> dict[str, Any]:
        with talking(tmp_path, broker.port) as caller:
            caller.find_bridge()
            caller.say({"text": "Hi", "id": "a\nb"})
            return caller.news("a\nb", 20)

    async with living(settings_for(tmp_path, broker.port)):
        news = await asyncio.to_thread(told)
    assert news["event_type"] == "rejected"
    assert news["reason"].startswith("id: ")


@pytest.mark.parametrize("payload", ["\x00 no JSON", "[1]", "5", "{}"])
async def test_what_is_no_answer_is_passed_over(
    broker: Mosquitto, tmp_path: Path, payload: str
) -> None:
    async with Peer(broker.port) as somebody:
        await somebody.publish("kugel/hall/response/queue", payload, retain=True)

    def asked() -> dict[str, Any]:
        with talking(tmp_path, broker.port) as caller:
            caller.find_bridge()
            return caller.request("queue", {})

    async with living(settings_for(tmp_path, broker.port)):
        assert (await asyncio.to_thread(asked))["announcements"] == []


@pytest.mark.parametrize(
    ("later_s", "again"), [(0.1 * ASK_AGAIN_S, True), (0.6 * ASK_AGAIN_S, False)]
)
async def test_it_is_said_again_only_while_the_bridge_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later_s: float, again: bool
) -> None:
    """A try to come back that fails begins no new time."""
    clock = ShiftedClock()
    monkeypatch.setattr(talk, "time", clock)
    monkeypatch.setattr(talk, "RECONNECT_S", 0.1)
    connections, said, back = 0, asyncio.Queue[bytes](), asyncio.Event()

    async def play(peer: Script) -> None:
        nonlocal connections
        connections += 1
        await peer.packet()
        if connections == 2:  # a broker that is not ready yet
            clock.ahead_s += 0.6 * ASK_AGAIN_S
            return
        if connections == 3:
            clock.ahead_s += later_s
        peer.send(CONNACK)
        while True:
            first, body = await peer.packet()
            if first == 0x82:
                count = body.count(b"kugel/")
                peer.send(bytes([0x90, 3 + count]) + body[:2] + b"\x00" + b"\x01" * count)
            elif first & 0xF0 == 0x30:
                name_end = 2 + int.from_bytes(body[:2], "big")
                peer.send(b"\x40\x02" + body[name_end : name_end + 2])
                said.put_nowait(body[name_end + 3 :])
                if connections == 1:
                    return

    async with scripted(play) as port, asyncio.timeout(20):
        caller = talking(tmp_path, port)
        await asyncio.to_thread(caller.__enter__)
        assert caller._client is not None
        loop, connected = asyncio.get_running_loop(), caller._client.on_connect

        def on_connect(*news: Any) -> None:
            assert connected is not None
            connected(*news)
            loop.call_soon_threadsafe(back.set)

        caller._client.on_connect = on_connect
        try:
            await asyncio.to_thread(caller.say, {"text": "first"})
            await back.wait()
            await asyncio.to_thread(caller.say, {"text": "second"})
            heard = [b"first" if b"first" in await said.get() else b"second" for _ in range(2)]
            if again:
                heard.append(b"first" if b"first" in await said.get() else b"second")
        finally:
            await asyncio.to_thread(caller.__exit__, None, None, None)
    assert heard == [b"first", *[b"first"] * again, b"second"]
