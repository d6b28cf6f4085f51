"""A new phrase: from the cloud's first frame to the card, and a request's way to the socket.

    .venv/bin/python -m benchmarks.streamed [ROUNDS]

The service has shown its pace before, so playing begins with the first frame: the jitter buffer's
wait is not in the figure, the way through the loopback is. The card is a simulated one, which
writes down when it starts.
"""

from __future__ import annotations

import asyncio
import tempfile
from asyncio import selector_events
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.cloud import Cloud
from benchmarks.figures import Figures, printed, times
from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.messages import SpeechRequest
from tests.broker import Mosquitto
from tests.house import Caller, Daemon, settings_for
from tests.simcard import SimCard, built_simcard

FRAMES_S = (0.2, 0.2, 0.2)
"""As the service cuts its sound."""
WARM_UP = 3
"""Answers before the first round: a service is relied on once it has shown its pace twice."""
PAUSE_S = 0.2


async def first_sound(rounds: int) -> Figures:
    """First frame handed to the cloud's socket → first frame at the card."""
    cloud, taken_ms = Cloud(FRAMES_S), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = SimCard(folder / "card", built_simcard(folder))
        with Mosquitto(folder / "broker") as broker:
            async with cloud.serving(), Caller(broker.port) as caller:
                zones = {"main": {"sink": "alsa:sim"}}
                settings = settings_for(folder, broker.port, gateway=cloud.url, zones=zones)
                daemon = Daemon(folder, settings)
                await daemon.start(**card.environment())
                try:
                    await caller.state(state="idle", cloud="ok")
                    for number in range(WARM_UP + rounds):
                        starts = len(card.events("start"))
                        await caller.say({"text": f"Number {number}", "cache": "bypass"})
                        event = await caller.event("finished")
                        assert event["source"] == "cloud", event
                        started_s = card.events("start")[starts].at_s
                        taken_ms.append((started_s - cloud.first_frames_s[-1]) * 1000)
                        await asyncio.sleep(PAUSE_S)
                finally:
                    await daemon.end()
    return times("first frame to first PCM", taken_ms[WARM_UP:])


async def hand_over(rounds: int) -> Figures:
    """Asking the client for speech → the request is in the kernel's hands, on the warm socket."""
    written: list[float] = []
    transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    def watched(self: Any, data: bytes) -> None:
        write(self, data)
        written.append(monotonic())

    taken_ms = []
    request = SpeechRequest(text="Dinner is ready", language="en", voice_id="1")
    async with Cloud(FRAMES_S).serving() as cloud, asyncio.TaskGroup() as tasks:
        client = SpeechClient(
            cloud.url,
            "",
            model_id="kugel-3",
            connect_timeout_s=5.0,
            first_audio_timeout_s=5.0,
            stall_timeout_s=5.0,
        )
        running = tasks.create_task(client.run())
        transport.write = watched
        try:
            for _ in range(rounds):
                await asyncio.sleep(PAUSE_S)
                assert client.is_warm
                written.clear()
                asked_s = monotonic()
                async for _ in client.stream(request):
                    pass
                taken_ms.append((written[0] - asked_s) * 1000)
        finally:
            transport.write = write
        running.cancel()
    return times("request to socket", taken_ms)


def figures(rounds: int = 40) -> Figures:
    """Both."""
    return {
        "first_frame_to_first_pcm": asyncio.run(first_sound(rounds)),
        "request_to_socket": asyncio.run(hand_over(rounds)),
    }


if __name__ == "__main__":
    printed(figures)
