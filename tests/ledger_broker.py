"""A broker of one client that writes down exactly what was acknowledged to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from tests.broker import Script, scripted
from tests.house import OUTCOMES, ROOT
from tests.raw_mqtt import remaining_length

_PUBLISH, _PUBACK, _SUBSCRIBE, _PINGREQ = 0x30, 0x40, 0x80, 0xC0


class LedgerBroker:
    """Speaks MQTT 5 with a bridge, sends it announcements at QoS 1, keeps their account."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        """Ids of the announcements the bridge took responsibility for."""
        self.ended: dict[str, str] = {}
        """Id → outcome, as the bridge published it."""
        self.is_ready = asyncio.Event()
        """The bridge has subscribed."""
        self.news = asyncio.Event()
        """Set at each outcome."""
        self._script: Script | None = None
        self._sent: dict[int, str] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Serve inside the block; its port."""
        async with scripted(self._play) as port:
            yield port

    def say(self, announcements: Iterable[dict[str, Any]]) -> None:
        """Send announcements, each with an `id`."""
        assert self._script is not None, "the bridge is not there"
        for announcement in announcements:
            mid = len(self._sent) + 1
            self._sent[mid] = announcement["id"]
            topic = f"{ROOT}/say".encode()
            body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + b"\x00"
            body += json.dumps(announcement).encode()
            self._script.send(bytes([_PUBLISH | 0x02]) + remaining_length(len(body)) + body)

    async def all_ended(self, ids: set[str]) -> None:
        """Return when each of `ids` has its outcome."""
        while not ids <= self.ended.keys():
            self.news.clear()
            await self.news.wait()

    async def _play(self, script: Script) -> None:
        await script.packet()
        script.send(b"\x20\x03\x00\x00\x00")
        self._script = script
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                self._take(script, *await script.packet())

    def _take(self, script: Script, first: int, body: bytes) -> None:
        match first & 0xF0:
            case 0x80:
                script.send(_suback(body))
                self.is_ready.set()
            case 0x40:
                self.acknowledged.add(self._sent[int.from_bytes(body[:2], "big")])
            case 0xC0:
                script.send(b"\xd0\x00")
            case 0x30:
                self._take_message(script, first, body)

    def _take_message(self, script: Script, first: int, body: bytes) -> None:
        size = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        if first & 0x06:
            script.send(b"\x40\x02" + rest[:2])
            rest = rest[2:]
        # No property list of the bridge's reaches the size where its length takes two bytes.
        payload = rest[1 + rest[0] :]
        if topic == f"{ROOT}/event":
            event = json.loads(payload)
            if event["event_type"] in OUTCOMES:
                self.ended[event["id"]] = event["event_type"]
                self.news.set()


def _suback(body: bytes) -> bytes:
    mid, rest = body[:2], body[3 + body[2] :]
    granted = b""
    while rest:
        size = int.from_bytes(rest[:2], "big")
        granted += b"\x01"
        rest = rest[3 + size :]
    return b"\x90" + remaining_length(3 + len(granted)) + mid + b"\x00" + granted
