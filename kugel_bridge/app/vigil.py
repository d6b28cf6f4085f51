"""Watches that what may hang makes progress: the queue's writer and the players."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kugel_bridge.conductor.conductor import Conductor
from kugel_bridge.queue.store import QueueStore

LOOK_EVERY_S = 30.0
LOOK_AGAIN_S = 1.0
"""While the writer does not answer: one slow commit must not be held against it until the next
look, by which time the watchdog would have ended us."""
PATIENCE_LOOKS = 2
"""A player that is audible and has not advanced for so many looks hangs; every sink gives up a
card that stalls long before."""


class Vigil:
    """Looks now and then, and tells the watchdog what it saw.

    An outage outside, of broker, cloud or card, is not its business: we wait for those.
    """

    def __init__(self, store: QueueStore, conductors: Sequence[Conductor]) -> None:
        self._store, self._conductors = store, conductors
        self._writer_answers = True
        self._stuck_looks = [0] * len(conductors)
        self._heard_s = [0.0] * len(conductors)

    async def run(self) -> None:
        """Look every half minute, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()
            while not self._writer_answers:
                await asyncio.sleep(LOOK_AGAIN_S)
                self._writer_answers = await self._store.alive()

    async def look(self) -> None:
        """Ask the writer, and compare how far the players are with the look before."""
        self._writer_answers = await self._store.alive()
        for number, conductor in enumerate(self._conductors):
            heard_s = conductor.zone.player.last.heard_s
            is_stuck = conductor.is_audible and heard_s == self._heard_s[number]
            self._stuck_looks[number] = self._stuck_looks[number] + 1 if is_stuck else 0
            self._heard_s[number] = heard_s

    @property
    def trouble(self) -> str:
        """What hangs; empty while everything makes progress."""
        if not self._writer_answers:
            return "the queue writer does not answer"
        for looks, conductor in zip(self._stuck_looks, self._conductors, strict=True):
            if looks >= PATIENCE_LOOKS:
                return f"the player of zone {conductor.zone.name} does not advance"
        return ""
