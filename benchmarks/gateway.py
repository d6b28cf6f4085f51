"""The gateway: how soon it speaks, and how it bears many at once.

    .venv/bin/python -m benchmarks.gateway [ROUNDS]

The gateway is `kugel-bridge gateway` in a process of its own; the clients are in this one. The
service behind it is our own server with an engine that makes a tone: in this process where only
one speaks at a time, in a third one for the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

from websockets.asyncio.client import ClientConnection

from benchmarks.figures import Figures, printed, times
from benchmarks.process import Process
from benchmarks.service import (
    PIECE_S,
    WAIT_S,
    first_audio_ms,
    paced_service,
    reachable,
    socket_to,
)
from kugel_bridge.model.report import SourceKind
from tests.broker import free_port
from tests.gateway_server import ScriptedEngine, hum, serving

BRIDGES = 50
SOCKETS = 200
PHRASES = 20
"""Different ones under way at a time: as many as one account may have made at once."""
LOAD_S = 10.0
PHRASE = "Dinner is ready."
WARM_UP = 3
_HIGH = {"requests_per_minute": 100_000, "concurrent_generations": 1_000, "connections": 1_000}


class Gateway:
    """A running `kugel-bridge gateway`."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.process = url, Process(pid)


@contextlib.asynccontextmanager
async def gateway(folder: Path, upstream: str | None = None) -> AsyncIterator[Gateway]:
    """One with the local engine, or in front of the service at `upstream`."""
    port = free_port()
    settings: dict[str, object] = {
        "gateway__engine": "local" if upstream is None else "upstream",
        "gateway__port": port,
        "gateway__usage_path": folder / "usage.db",
        "cache__dir": folder / "cache",
        "log__level": "warning",
        **{f"gateway__{name}": number for name, number in _HIGH.items()},
    }
    if upstream is not None:
        settings |= {"cloud__base_url": upstream, "cloud__max_generations": PHRASES}
    given = {f"KUGEL_BRIDGE_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kugel_bridge", "gateway"),
        env={**os.environ, **given, "KUGEL_BRIDGE_CONFIG": os.devnull},
    )
    try:
        await reachable(port)
        yield Gateway(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        await process.wait()


async def first_audio(rounds: int) -> Figures:
    """Request to first audio frame at a client on this machine, of one after the other (ms)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with gateway(folder / "local") as local, socket_to(local.url) as socket:
            own = [
                await first_audio_ms(
                    socket, f"The washing machine is done, {number}.", "espeak-en-female"
                )
                for number in range(rounds + WARM_UP)
            ]
        engine = ScriptedEngine([hum(PIECE_S)] * 5)
        async with (
            serving(engine) as service,
            gateway(folder / "front", service.url) as front,
            socket_to(service.url) as near,
            socket_to(front.url) as far,
        ):
            # In turns, so that both meet the same moods of the machine.
            direct, through = [], []
            for number in range(rounds + WARM_UP):
                direct.append(await first_audio_ms(near, f"Nobody said this before, {number} a."))
                through.append(await first_audio_ms(far, f"Nobody said this before, {number} b."))
            while not await _is_cached(far, PHRASE):
                await asyncio.sleep(0.05)
            cached = [await first_audio_ms(far, PHRASE) for _ in range(rounds)]
    return {
        "local": times("local engine", own[WARM_UP:]),
        "direct": times("service alone", direct[WARM_UP:]),
        "through": times("through the gateway", through[WARM_UP:]),
        "cached": times("from the cache", cached),
    }


async def one_flight() -> Figures:
    """Bridges that ask for the same new phrase at the same moment: how often the service is."""
    engine = ScriptedEngine([hum(PIECE_S)] * 10)
    with tempfile.TemporaryDirectory() as name:
        async with (
            serving(engine) as service,
            gateway(Path(name), service.url) as front,
            contextlib.AsyncExitStack() as sockets,
        ):
            opened = [
                await sockets.enter_async_context(socket_to(front.url)) for _ in range(BRIDGES)
            ]
            taken_ms = await asyncio.gather(
                *[first_audio_ms(each, "The same for all.") for each in opened]
            )
    return {
        "bridges": BRIDGES,
        "requests_to_the_service": len(engine.asked),
        "first_audio": times("first audio", taken_ms),
    }


async def load() -> Figures:
    """Sockets that all stream in real time: how late frames are, and what memory it takes."""
    with tempfile.TemporaryDirectory() as name:
        async with (
            paced_service(0.0, LOAD_S, 1.0) as service,
            gateway(Path(name), service) as front,
            contextlib.AsyncExitStack() as sockets,
        ):
            idle_mb = front.process.memory_mb()
            opened = [
                await sockets.enter_async_context(socket_to(front.url)) for _ in range(SOCKETS)
            ]
            before_s = front.process.processor_s
            late = await asyncio.gather(
                *[
                    _lateness(socket, f"Phrase {number % PHRASES} of a busy day.")
                    for number, socket in enumerate(opened)
                ]
            )
            busy_s = front.process.processor_s - before_s
            most_mb = front.process.memory_mb("VmHWM")
    return {
        "sockets": SOCKETS,
        "phrases": PHRASES,
        "frames": sum(len(each) for each in late),
        "late": times("late", [ms for each in late for ms in each]),
        "processor_share": round(busy_s / LOAD_S, 2),
        "idle_mb": round(idle_mb, 1),
        "most_mb": round(most_mb, 1),
    }


async def _is_cached(socket: ClientConnection, text: str) -> bool:
    """Say it, and tell whether it came from the cache."""
    async with asyncio.timeout(WAIT_S):
        await socket.send(json.dumps({"text": text, "voice_id": 1, "language": "en"}))
        while '"final"' not in (frame := str(await socket.recv())):
            pass
    return bool(json.loads(frame).get("source") == SourceKind.CACHE)


async def _lateness(socket: ClientConnection, text: str) -> list[float]:
    """How much later than played (ms) each frame came, the first one being in time."""
    async with asyncio.timeout(WAIT_S):
        await socket.send(json.dumps({"text": text, "voice_id": 1, "language": "en"}))
        arrived: list[float] = []
        while '"final"' not in (frame := str(await socket.recv()))[:20]:
            if not frame.startswith('{"audio"'):
                raise RuntimeError(f"no sound: {frame[:200]}")
            arrived.append(perf_counter())
    return [
        max(0.0, (at_s - arrived[0] - number * PIECE_S) * 1000)
        for number, at_s in enumerate(arrived)
    ]


def figures(rounds: int = 100) -> Figures:
    """First audio, one flight, and the load."""
    first = asyncio.run(first_audio(rounds))
    added_ms = first["through"]["median_ms"] - first["direct"]["median_ms"]
    return {
        **first,
        "added_ms": round(added_ms, 2),
        "flight": asyncio.run(one_flight()),
        "load": asyncio.run(load()),
    }


if __name__ == "__main__":
    printed(figures)
