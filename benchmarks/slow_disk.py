"""A cached phrase while the disk is slow: every fsync of the bridge takes 50 ms, or 2 s.

    .venv/bin/python -m benchmarks.slow_disk [ROUNDS]

Before each round eight announcements come that have to wait: they are written at once, so that
the phrase finds the queue's writer inside an fsync. Needs a C compiler. The disk's pace changes
from round to round in the same process, so the three columns compare.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path
from time import monotonic

from benchmarks.cloud import Cloud
from benchmarks.figures import Figures, Times, printed
from tests.broker import Mosquitto, Peer
from tests.house import ROOT, Caller, Daemon, settings_for
from tests.simcard import SimCard, built_simcard

PACES_MS = (0, 50, 2_000)
PHRASE = "Dinner is ready"
WRITTEN_AT_ONCE = 8
HEAD_START_S = 0.03
"""For those eight to reach the disk."""
PAUSE_S = 0.2


def built(folder: Path) -> Path:
    """The library that delays, built into `folder`."""
    source, library = Path(__file__).with_name("slow_sync.c"), folder / "slow_sync.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


class SlowDisk:
    """Tells the library how long a sync takes, and asks when one was under way."""

    def __init__(self, folder: Path) -> None:
        self._order, self._log = folder / "sync_ms", folder / "syncs"
        self.environment = {
            "LD_PRELOAD": str(built(folder)),
            "SLOW_SYNC_MS": str(self._order),
            "SLOW_SYNC_LOG": str(self._log),
        }

    def takes(self, ms: int) -> None:
        """From now on."""
        draft = self._order.with_suffix(".new")
        draft.write_text(str(ms))
        draft.replace(self._order)

    def was_syncing(self, at_s: float) -> bool:
        """Whether a delayed sync was under way (monotonic s); known when it is over."""
        if not self._log.exists():
            return False
        spans = [line.split() for line in self._log.read_text().splitlines()]
        return any(int(begin) <= at_s * 1e9 <= int(end) for begin, end in spans)


async def measured(rounds: int) -> Figures:
    """Publish → first frame at the card, by the time an fsync takes."""
    cloud = Cloud((1.0,))
    times: dict[int, list[tuple[float, float]]] = {pace: [] for pace in PACES_MS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk, card = SlowDisk(folder), SimCard(folder / "card", built_simcard(folder))
        with Mosquitto(folder / "broker") as broker:
            # One of its own to ask for the phrase: what a listener confirms holds up what it sends.
            async with cloud.serving(), Caller(broker.port) as caller, Peer(broker.port) as asker:
                zones = {"main": {"sink": "alsa:sim"}}
                settings = settings_for(folder, broker.port, gateway=cloud.url, zones=zones)
                daemon = Daemon(folder, settings)
                await daemon.start(**card.environment(), **disk.environment)
                try:
                    await caller.state(state="idle")
                    await caller.say(PHRASE)
                    await caller.event("finished")
                    for number in range(rounds * len(PACES_MS)):
                        pace = PACES_MS[number % len(PACES_MS)]
                        disk.takes(pace)
                        for waiting in range(WRITTEN_AT_ONCE):
                            later = {"not_before": time.time() + 3600}
                            text = f"Later, {number} {waiting}"
                            await caller.say({"text": text, **later}, qos=1)
                        await asyncio.sleep(HEAD_START_S)
                        starts = len(card.events("start"))
                        at_s = monotonic()
                        await asker.publish(f"{ROOT}/say", PHRASE)
                        event = await caller.event("finished")
                        assert event["source"] == "cache", event
                        taken_ms = (card.events("start")[starts].at_s - at_s) * 1000
                        times[pace].append((at_s, taken_ms))
                        disk.takes(0)
                        await asyncio.sleep(PAUSE_S + 1.2 * pace / 1000)
                finally:
                    disk.takes(0)
                    await daemon.end()
        return {
            f"fsync_{pace}_ms": {
                **Times(f"fsync of {pace} ms", tuple(ms for _, ms in found)).to_dict(),
                "rounds_during_fsync": sum(disk.was_syncing(at_s) for at_s, _ in found),
            }
            for pace, found in times.items()
        } | {"spread_ms": round(Times("", tuple(ms for _, ms in times[0])).spread, 2)}


def figures(rounds: int = 12) -> Figures:
    """By the time an fsync takes, and how much more that is than without; `rounds` of each."""
    found = asyncio.run(measured(rounds))
    plain_ms = found[f"fsync_{PACES_MS[0]}_ms"]["median_ms"]
    for pace in PACES_MS[1:]:
        each = found[f"fsync_{pace}_ms"]
        each["added_ms"] = round(each["median_ms"] - plain_ms, 2)
    return found


if __name__ == "__main__":
    printed(figures)
