"""From an MQTT publish to the first frame at the card: kugel-bridge beside its peers.

    .venv/bin/python -m benchmarks.announcing [ROUNDS]

All contestants are up at the same time, each with a simulated ALSA card and a topic of its own, and
take turns in every round, so that whatever else the machine does falls on all of them alike. The
card writes down when it starts; broker, gateway and cards are this run's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from benchmarks.figures import Figures, Times, printed
from benchmarks.service import first_audio_ms, paced_service, socket_to
from kugel_bridge.audio.riff import wav_bytes
from tests.broker import Mosquitto, Peer
from tests.gateway_server import hum
from tests.house import ROOT, Caller, Daemon, settings_for
from tests.simcard import SimCard, built_simcard

CLIP_S = 0.6
FIRST_AUDIO_S, SPEED = 0.05, 5.0
"""The hosted service as it is described: 50 ms to the first sound, then five times as fast as it is
spoken (API reference, "Latency guidance")."""
PHRASE = "Dinner is ready"
WARM_UP = 3
"""New phrases before the first round: a service is relied on once it has shown its pace twice."""
REST_S = 0.15
"""Between two contestants, so that each begins from rest as announcements do."""
GIVE_UP_S = 20.0
_LOOK_S = 0.02
TUNED, CACHED, STREAMED = "tuned script", "kugel-bridge cached", "kugel-bridge streamed"
READY_WAV = "sub into aplay"
SERVICE = "the service alone"


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who plays when told to over MQTT."""

    name: str
    topic: str
    card: SimCard
    text: str = PHRASE

    async def round(self, peer: Peer, text: str) -> float:
        """Publish, wait until it is silent again; milliseconds to the card's start."""
        if self.card.log.exists():
            os.truncate(self.card.log, 0)  # short to read: looking must not cost what is measured
        at_s = monotonic()
        await peer.publish(self.topic, text)
        give_up_s = at_s + GIVE_UP_S
        # The card is another process's: there is nothing to wait on but its log.
        while not (starts := self.card.events("start")) or not self._is_silent():
            if monotonic() > give_up_s:
                log = self.card.log.read_text() if self.card.log.exists() else "nothing"
                raise SystemExit(f"{self.name} did not play, or did not end; its card:\n{log}")
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(REST_S)
        return (starts[0].at_s - at_s) * 1000

    def _is_silent(self) -> bool:
        return self.card.events()[-1].name in ("stop", "close")


@contextlib.asynccontextmanager
async def program(
    name: str, folder: Path, library: Path, *command: str, text: str = PHRASE
) -> AsyncIterator[Contestant]:
    """A contestant that is a command of its own; `{topic}` in it is filled in."""
    slug = name.replace(" ", "-")
    contestant = Contestant(name, f"bench/{slug}", SimCard(folder / slug, library), text)
    filled = [part.replace("{topic}", contestant.topic) for part in command]
    process = await asyncio.create_subprocess_exec(
        *filled,
        env={**os.environ, **contestant.card.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(GIVE_UP_S):
            await process.stdout.readline()
        yield contestant
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()


def python(module: str, port: int, *more: str) -> list[str]:
    """A peer written in Python."""
    return [sys.executable, "-m", f"benchmarks.peers.{module}", str(port), "{topic}", *more]


def shell(port: int, player: str) -> list[str]:
    """A peer as people write it: mosquitto_sub into a loop."""
    # The first line is ours: the subscription stands once its own message comes back.
    listen = f"mosquitto_sub -p {port} -q 1 -t {{topic}}"
    hello = f"(sleep 1; mosquitto_pub -p {port} -q 1 -t {{topic}} -m hello) &"
    loop = f"read -r hello; echo ready; while read -r line; do {player}; done"
    return ["bash", "-c", f"{hello} {listen} | {{ {loop}; }}"]


@contextlib.asynccontextmanager
async def bridge(
    name: str, folder: Path, library: Path, port: int, gateway: str
) -> AsyncIterator[Contestant]:
    """kugel-bridge as a daemon of its own."""
    card = SimCard(folder / "bridge", library)
    settings = settings_for(folder, port, gateway=gateway, zones={"main": {"sink": "alsa:sim"}})
    daemon = Daemon(folder, settings)
    async with Caller(port) as caller:
        await daemon.start(**card.environment())
        try:
            await caller.state(state="idle")
            for number in range(WARM_UP):
                await caller.say(f"Warming up, {number}")
                await caller.event("finished")
            for source in ("cloud", "cache"):
                await caller.say(PHRASE)
                event = await caller.event("finished")
                assert event["source"] == source, event
            yield Contestant(name, f"{ROOT}/say", card)
        finally:
            await daemon.end()


async def race(rounds: int) -> list[Times]:
    """Let everybody announce `rounds` times, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = built_simcard(folder)
        ready = folder / "ready.wav"
        ready.write_bytes(wav_bytes(hum(CLIP_S)))
        async with contextlib.AsyncExitStack() as stack:
            broker = stack.enter_context(Mosquitto(folder / "broker"))
            url = await stack.enter_async_context(paced_service(FIRST_AUDIO_S, CLIP_S, SPEED))
            socket = await stack.enter_async_context(socket_to(url))
            port, play = broker.port, "aplay -q -D sim"

            async def enter(label: str, *command: str) -> Contestant:
                return await stack.enter_async_context(program(label, folder, library, *command))

            field = [
                await enter("bare socket", *python("floor", port)),
                await enter(TUNED, *python("tuned", port)),
                await stack.enter_async_context(
                    bridge(CACHED, folder / "house", library, port, url)
                ),
                await enter("whole body by HTTP", *python("whole_body", port, url)),
                await enter(READY_WAV, *shell(port, f"{play} {shlex.quote(str(ready))}")),
                await enter(
                    "sub into espeak-ng",
                    *shell(port, f'printf %s "$line" | espeak-ng --stdin --stdout | {play}'),
                ),
            ]
            fresh = Contestant(STREAMED, field[2].topic, field[2].card)
            peer = await stack.enter_async_context(Peer(port, filters=[]))
            found: dict[str, list[float]] = {each.name: [] for each in (*field, fresh)}
            found[SERVICE] = []
            for number in range(rounds):
                for each in (*field, fresh):
                    text = f"Phrase number {number}" if each is fresh else each.text
                    found[each.name].append(await each.round(peer, text))
                found[SERVICE].append(await first_audio_ms(socket, f"Number {number}"))
    return [Times(each, tuple(times)) for each, times in found.items()]


def figures(rounds: int = 36) -> Figures:
    """How long each took, and how kugel-bridge compares."""
    by_name = {each.name: each for each in asyncio.run(race(rounds))}
    tuned, cached, service = (by_name[name] for name in (TUNED, CACHED, SERVICE))
    streamed = by_name[STREAMED].median
    return {
        "cached": cached.to_dict(),
        "median_of_tuned": round(cached.median / tuned.median, 2),
        "p99_of_tuned": round(cached.p99 / tuned.p99, 2),
        "faster_than_aplay": round(by_name[READY_WAV].median / cached.median, 2),
        "streamed": by_name[STREAMED].to_dict(),
        "streamed_beyond_service_ms": round(streamed - service.median, 2),
        "service": service.to_dict(),
        "contestants": [each.to_dict() for name, each in by_name.items() if name != SERVICE],
    }


if __name__ == "__main__":
    printed(figures)
